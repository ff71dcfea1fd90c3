"""The geometry analysis follows a planted taxonomy from its layer on, and draws its maps from the table."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import rankdata

from analyses import geometry as analysis
from analyses.frame import drawing
from analyses.geometry import figures
from analyses.geometry.dimension import dimensions
from analyses.geometry.maps import thumbnails
from analyses.geometry.rows import geometry_table, hierarchy_steps, mapped_sites
from analyses.inputs.references import taxonomic_distances
from probing.categories.geometry import hierarchy_cosines, participation_ratio
from probing.categories.jackknife import jackknife
from probing.categories.massive import TREATMENTS
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.analyses import drawn
from tests.analyses.leaf_stores import (
    LEAVES,
    ONSET,
    SITES,
    TAXONOMY,
    MemoryStore,
    fitting_spy,
    garbage_in,
    planted,
)
from tests.analyses.store_questions import assert_held_out_reach, assert_refused, run_of_another_seed
from tests.world import toy_config, write_world

QUICK = analysis.Options(permutations=199, draws=60)


@pytest.fixture(scope="module")
def stores():
    return planted()


@pytest.fixture(scope="module")
def found(stores):
    image, text = stores
    leaves = np.array(LEAVES)
    encoder = np.random.default_rng(5).standard_normal((len(leaves), 9))
    return geometry_table({0: image}, text, TAXONOMY, QUICK, (encoder, leaves)).assign(run="toy")


def pick(table, **wanted):
    for name, value in ({"span": "slot", "modality": "image"} | wanted).items():
        table = table[table[name] == value]
    return table.sort_values("layer")


def white(leaf):
    return Image.new("RGB", (8, 8), "white")


@pytest.mark.parametrize("name", ["taxonomic_rsa", "taxonomic_rsa_given_encoder"])
def test_distance_follows_the_taxonomy_from_the_planted_layer(found, name):
    p = pick(found, measure=f"{name}_p_corrected")
    # One draw of three silent layers: at the 1 % level, so that chance rarely speaks.
    assert ((p["value"] < 0.01) == (p["layer"] >= ONSET)).all()
    values = pick(found, measure=name)
    assert (values["n"] == len(LEAVES)).all()
    assert ((values["lower"] < values["value"]) & (values["value"] < values["upper"])).all()
    assert (values.loc[values["layer"] >= ONSET, "lower"] > 0).all()


def test_encoder_that_has_the_taxonomy_explains_it_away(stores):
    image, _ = stores
    x = image.read(SITES[-1], "image").astype(float)
    x = (x - x.mean(0)) / x.std(0)
    table = geometry_table({0: image}, None, TAXONOMY, QUICK, (x, image.columns["leaf"].to_numpy()))
    last = {"span": "image", "site": SITES[-1]}
    plain = pick(table, measure="taxonomic_rsa", **last)["value"].iloc[0]
    given = pick(table, measure="taxonomic_rsa_given_encoder", **last)["value"].iloc[0]
    assert plain > 0.3
    assert given == 0


def test_equal_shares_make_an_orthogonal_hierarchy(found):
    ratios = pick(found, measure="hierarchy_ratio")
    late = ratios[ratios["layer"] >= ONSET]
    assert ((late["lower"] < 1.3) & (late["upper"] > 0.7)).all()
    assert (ratios["lower"] < ratios["upper"]).all()


def test_dimensions_fall_when_leaves_share_categories(found):
    ratios = pick(found, measure="participation_ratio")
    assert (
        ratios.loc[ratios["layer"] >= ONSET, "value"].max()
        < ratios.loc[ratios["layer"] < ONSET, "value"].min()
    )
    assert (ratios["lower"] < ratios["value"]).all()


def test_jackknife_covers_the_truth():
    covered = []
    for seed in range(100):
        x = np.random.default_rng(seed).standard_normal((80, 6))
        found = jackknife(participation_ratio, x)
        covered.append(found.lower <= 6 <= found.upper)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.06)


def test_hierarchy_steps_compare_with_categories_that_share_no_leaf():
    members = np.zeros((10, 3), dtype=bool)
    members[:5, 0] = members[5:, 1] = members[3:7, 2] = True
    gram = np.random.default_rng(0).standard_normal((10, 10))
    own, other, children = hierarchy_steps(gram @ gram.T, members)
    assert len(own) == len(other) == 10
    assert children.tolist() == [*range(5), *range(5, 10)]
    child = np.zeros((5, 10), dtype=bool)
    child[np.arange(5), np.arange(5)] = True
    parent = members[:, 0] & ~child
    along = np.broadcast_to(members[:, 1], child.shape)
    expected = hierarchy_cosines(gram @ gram.T, child, parent, along) ** 2
    np.testing.assert_allclose(other[:5], expected)
    with pytest.raises(ValueError, match="shares leaves with every other"):
        hierarchy_steps(gram @ gram.T, members[:, :1])


def test_map_places_every_leaf(found):
    places = pick(found, measure="pc1", site=SITES[-1])
    assert sorted(places["target"]) == list(LEAVES)
    assert places["value"].std(ddof=0) == pytest.approx(1, abs=0.01)


def test_tsne_places_leaves_beside_their_category(stores):
    image, text = stores
    options = analysis.Options(permutations=19, draws=10, map="tsne", map_layers=(4,), spans=("slot",))
    table = geometry_table({0: image}, text, TAXONOMY, options)
    places = pick(table, measure="tsne1").set_index("target")
    assert set(places["site"]) == {SITES[-1]}
    assert not len(pick(table, measure="pc1"))
    x = np.column_stack(
        [places["value"], pick(table, measure="tsne2").set_index("target").loc[places.index, "value"]]
    )
    category = TAXONOMY.labels(places.index.tolist()).argmax(1)
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (category[distances.argmin(1)] == category).mean() > 0.5  # chance is 7 of 31
    maps = figures.maps(figures.map_rows(table, TAXONOMY), white)
    assert len(maps["map"].axes) == 1
    assert maps["map"].axes[0].get_xlabel() == "t-SNE 1"


def test_layers_to_map():
    assert mapped_sites(SITES) == (SITES[0], SITES[2], SITES[5])
    assert mapped_sites([*SITES, "ln_final.hook_normalized"], (-1, 3)) == (SITES[0], SITES[4])
    with pytest.raises(KeyError, match=r"no layer 7 to map; the layers with rows that vary are -1, 0, 1"):
        mapped_sites(SITES, (7,))


def test_estimators_of_scikit_dimension_stand_beside_our_own(monkeypatch):
    pytest.importorskip("skdim")
    found = dimensions(["MLE", "lPCA"])
    x = np.random.default_rng(0).standard_normal((300, 3)) @ np.random.default_rng(1).standard_normal((3, 12))
    assert found["intrinsic_dimension_lPCA"](x) == 3
    assert found["intrinsic_dimension_MLE"](x) == pytest.approx(3, abs=0.5)
    with pytest.raises(KeyError, match=r"no estimator 'PCA'; it has .*MLE"):
        dimensions(["PCA"])

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"MLE needs the package scikit-dimension: pip install"):
        dimensions(["MLE"])
    assert "intrinsic_dimension" in dimensions()


def means_of(store, span, site):
    """Leaf means under the default treatment, worked out apart."""
    x, leaves = store.read(site, span).astype(float), store.columns["leaf"].to_numpy()
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    return np.stack([x[leaves == leaf].mean(0) for leaf in LEAVES])


def distances_of(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def residual(x, control):
    """What a straight line in the control leaves of ranks."""
    slope, level = np.polyfit(control, x, 1)
    return x - slope * control - level


def ranked(x):
    """Ranks of distances, which are steps; residuals as they are."""
    return rankdata(x) if len(np.unique(x)) < 5 else x


def test_correlations_and_the_limit_of_their_null_by_numbers(stores):
    """The encoder has a share of the taxonomy, so that plain and partial correlation, and their nulls, differ."""
    image, _ = stores
    rng = np.random.default_rng(3)
    category = rng.standard_normal((4, 9))[TAXONOMY.labels(LEAVES).argmax(1)]
    encoder = category + 1.5 * rng.standard_normal((len(LEAVES), 9))
    options = analysis.Options(permutations=999, draws=20, spans=("image",))
    table = geometry_table({0: image}, None, TAXONOMY, options, (encoder, np.array(LEAVES)))
    above = np.triu_indices(len(LEAVES), 1)
    taxonomy, seen = taxonomic_distances(TAXONOMY, LEAVES), rankdata(distances_of(encoder)[above])
    target = np.zeros_like(taxonomy)
    target[above] = residual(rankdata(taxonomy[above]), seen)
    target += target.T
    orders = [rng.permutation(len(LEAVES)) for _ in range(600)]
    for site in SITES:
        x = rankdata(distances_of(means_of(image, "image", site))[above])
        values = pick(table, span="image", site=site).set_index("measure")["value"]
        for name, left, right in (
            ("taxonomic_rsa", x, taxonomy),
            ("taxonomic_rsa_given_encoder", residual(x, seen), target),
        ):
            assert values[name] == pytest.approx(np.corrcoef(left, ranked(right[above]))[0, 1], abs=1e-6)
            null = [np.corrcoef(left, ranked(right[np.ix_(order, order)][above]))[0, 1] for order in orders]
            assert values[f"{name}_null_limit"] == pytest.approx(np.quantile(null, 0.95), abs=0.02)
            assert values[f"{name}_null_limit"] > 0.02
    late = pick(table, span="image", site=SITES[-1]).set_index("measure")["value"]
    assert late["taxonomic_rsa"] > late["taxonomic_rsa_given_encoder"] + 0.01


def test_a_hierarchy_in_which_leaves_carry_their_hypernym_to_different_degrees_is_not_orthogonal():
    rng = np.random.default_rng(0)
    directions = 4 * rng.standard_normal((4, 60))[TAXONOMY.labels(LEAVES).argmax(1)]
    rows = np.tile([0.4, 0.8, 1.2, 1.6], 8)[:, None] * directions + 0.3 * rng.standard_normal((32, 60))
    image, _ = planted(pictures=1)
    order = [list(LEAVES).index(leaf) for leaf in image.columns["leaf"]]
    store = MemoryStore({(site, "image"): rows[order] for site in SITES}, image.columns)
    options = analysis.Options(permutations=19, draws=20, treatment="raw")
    table = geometry_table({0: store}, None, TAXONOMY, options)
    values = pick(table, span="image", site=SITES[0]).set_index("measure")["value"]
    assert values["hierarchy_own"] > 0.8
    assert values["hierarchy_other"] < 0.4
    assert values["hierarchy_ratio"] == pytest.approx(values["hierarchy_own"] / values["hierarchy_other"])


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_treatments_are_fitted_on_rows_of_seen_leaves_alone(monkeypatch, treatment):
    options = analysis.Options(treatment=treatment, permutations=19, draws=10, held_out=("tool",))
    fits = []
    for image, text in (planted(), tuple(garbage_in(store, "tool") for store in planted())):
        with monkeypatch.context() as patch:
            fitted = fitting_spy(patch)
            geometry_table({0: image}, text, TAXONOMY, options)
        fits.append(fitted)
    assert len(fits[0]) == len(fits[1]) > 0
    for one, other in zip(*fits):
        for name in ("offset", "scale", "kept"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module")
def numbers(stores, tmp_path_factory):
    """A table of two steps with the encoder, with numbers that no two rows share; from disk."""
    image, text = stores
    other, _ = planted(strength=0.0)
    encoder = np.random.default_rng(5).standard_normal((len(LEAVES), 9)), np.array(LEAVES)
    options = analysis.Options(permutations=19, draws=20)
    table = geometry_table({0: other, 10: image}, text, TAXONOMY, options, encoder)
    return drawn.reread(drawn.distinct(table).assign(run="toy"), tmp_path_factory.mktemp("geometry"))


SPANS = ("slot", "last")
STEP = {"image": 10, "text": -1}
KIND = {"image": "pictures", "text": "words"}


@pytest.mark.parametrize(
    ("figure", "measures", "null"),
    [
        ("taxonomic_distance", {"taxonomic_rsa": "plain",
                                "taxonomic_rsa_given_encoder": "given the encoder's distances"}, 0),
        ("hierarchy", {"hierarchy_ratio": "own over other hypernyms"}, 1),
        ("dimension", {"intrinsic_dimension": "intrinsic (two nearest)",
                       "participation_ratio": "participation ratio"}, None),
    ],
)  # fmt: skip
def test_figures_show_pictures_and_words_by_layer_and_the_value_that_says_nothing(
    numbers, figure, measures, null
):
    shown = analysis.draw(numbers)
    assert set(shown) == {"taxonomic_distance", "hierarchy", "dimension"}
    colours = drawn.legend(shown[figure])
    assert list(colours) == [f"{label}, {kind}" for label in measures.values() for kind in KIND.values()]
    for axes, span in zip(shown[figure].axes, SPANS, strict=True):
        assert axes.get_title() == span
        for measure, label in measures.items():
            for modality, step in STEP.items():
                rows = pick(numbers, span=span, modality=modality, step=step, measure=measure)
                drawn.assert_curve(axes, rows, colours[f"{label}, {KIND[modality]}"])
        assert drawn.lines_drawn(axes) == 2 * len(measures)
        levels = [line.get_ydata()[0] for line in axes.lines if line.get_zorder() == 0.5]
        assert levels == ([] if null is None else [null])


def test_maps_put_every_leaf_where_the_table_has_it_in_the_colour_of_its_hypernym(numbers, stores):
    table = figures.map_rows(numbers, TAXONOMY)
    maps = figures.maps(table, white)
    assert list(figures.draw(table)) == ["map"]
    for name, figure in maps.items():
        assert [axes.get_title() for axes in figure.axes] == [
            "slot, before the first block", "slot, block 1", "slot, block 4",
        ]  # fmt: skip
        for axes, site in zip(figure.axes, (SITES[0], SITES[2], SITES[5]), strict=True):
            rows = pick(numbers, site=site, step=10)
            x, y = (rows[rows["measure"] == one].set_index("target")["value"] for one in ("pc1", "pc2"))
            shares = [rows.loc[rows["measure"] == f"{one}_share", "value"].iloc[0] for one in ("pc1", "pc2")]
            assert axes.get_xlabel() == f"PC1, {shares[0]:.0%} of variance"
            assert axes.get_ylabel() == f"PC2, {shares[1]:.0%} of variance"
            lines = {line.get_label(): line for line in axes.lines}
            for hypernym in [name for name in TAXONOMY.hypernyms if name in lines]:
                own = list(TAXONOMY.leaves_of(hypernym))
                expected = np.column_stack([x[own], y[own]])
                points = np.asarray(lines[hypernym].get_xydata())
                np.testing.assert_array_equal(
                    points[np.argsort(points[:, 0])], expected[np.argsort(expected[:, 0])]
                )
            assert sum(len(line.get_xdata()) for line in lines.values()) == len(LEAVES)
            assert len(axes.artists) == (len(LEAVES) if name == "map_pictures" else 0)
            for box in axes.artists:
                assert box.xybox in set(zip(x, y))


def test_a_thumbnail_is_the_first_captured_picture_of_its_leaf(stores):
    image, _ = stores
    opened = []

    class Collection:
        def open_or_blank(self, name):
            opened.append(name)
            return Image.new("RGB", (80, 60))

    assert thumbnails(image, Collection())("bird 3").size == (40, 40)  # pyright: ignore
    assert opened == [
        "bird 3/" + min(name.split("/")[1] for name in image.columns["picture"] if "bird 3/" in name)
    ]


def test_runs_of_several_conditions_share_a_figure(numbers):
    early = numbers[numbers["step"] < 10]  # a run that ended sooner
    both = {"pretrained": drawn.distinct(numbers, 1), "across": drawn.distinct(early, 2)}
    figure = figures.runs(pd.concat([one.assign(condition=k, run=f"run {k}") for k, one in both.items()]))
    colours = {name: drawing.COLOURS[name].lower() for name in both}
    assert drawn.legend(figure) == colours
    for axes, span in zip(figure.axes, SPANS, strict=True):
        assert axes.get_title() == span
        for name, step in (("pretrained", 10), ("across", 0)):
            rows = pick(both[name], span=span, step=step, measure="taxonomic_rsa_given_encoder")
            drawn.assert_curve(axes, rows, colours[name])
    assert figure.axes[0].get_ylabel() == "rank correlation, given the encoder's distances"


def test_the_summary_says_the_tables_numbers(numbers):
    text = analysis.summary(numbers)
    said = re.findall(
        r"^  (\w+) +(\w+) +(\w+): best ([\d.]+) \[([\d.]+), ([\d.]+)\] at (\S+), n = (\d+); above its null at "
        r"(\d+) of (\d+) sites", text, flags=re.MULTILINE,
    )  # fmt: skip
    assert len(said) == 8
    for span, modality, measure, *numbers_said in said:
        at = {"span": span, "modality": modality, "step": STEP[modality]}
        best = pick(numbers, measure=measure, **at).nlargest(1, "value").iloc[0]
        p = pick(numbers, measure=f"{measure}_p_corrected", **at)["value"]
        limits = [f"{best[name]:.2f}" for name in ("value", "lower", "upper")]
        assert numbers_said[:4] == [*limits, best["site"]]
        assert [int(one) for one in numbers_said[4:]] == [best["n"], (p < 0.05).sum(), len(p)]
        ratio = pick(numbers, measure="hierarchy_ratio", site=SITES[-1], **at).iloc[0]
        line = "hierarchy ratio at {site}: {value:.2f} [{lower:.2f}, {upper:.2f}] (1 is orthogonal)".format(
            **ratio
        )
        assert f"  {span:6} {modality:6} {line}" in text


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_geometry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm)))
        pipeline.train_run(run)
        yield run


def test_whole_from_toy_runs(toy, tmp_path, capsys):
    other = run_of_another_seed(toy, tmp_path / "other")
    few = ["--draws", "20", "--span", "slot", "--step", "12", "--map-layer", "-1", "1"]
    analysis.main(["--run", str(toy.path), "--run", str(other.path), *few])
    folder = toy.path / "analyses" / "geometry"
    table = pd.read_parquet(folder / "geometry.parquet")
    assert {"taxonomic_rsa_given_encoder", "hierarchy_ratio"} <= set(table["measure"])
    assert "intrinsic_dimension" not in set(table["measure"])  # of so few leaves
    assert set(table.loc[table["measure"] == "pc1", "layer"]) == {-1, 1}
    assert {"map.png", "map_pictures.png", "runs.png"} <= {path.name for path in folder.iterdir()}
    assert not (other.path / "analyses" / "geometry" / "runs.png").is_file()
    assert "hierarchy ratio" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--step", "7"), "no whole capture at step 7"),
        (("--span", "noun"), "no span 'noun' in these stores; they have slot, cue, last"),
        (("--dimension", "PCA"), "scikit-dimension"),
        (("--map-layer", "9"), "no layer 9 to map"),
        (("--run", "{twin}"), "one run was given twice, as .* a copy"),
        (("--run", "{empty}"), "has no captured step"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line_before_anything_is_read(
    toy, tmp_path, capsys, monkeypatch, more, message
):
    assert_refused(analysis, "geometry_table", toy, more, message, tmp_path, capsys, monkeypatch)


def test_the_hypernyms_that_the_run_holds_out_are_those_of_its_options(toy, monkeypatch):
    assert_held_out_reach(analysis, "geometry_table", toy, monkeypatch)
