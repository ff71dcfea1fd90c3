"""The geometry analysis follows a planted taxonomy from its layer on, and draws its maps from the table."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analyses import geometry as analysis
from analyses.geometry import figures
from analyses.geometry.dimension import dimensions, jackknife
from analyses.geometry.rows import hierarchy_steps, mapped_sites
from probing.categories.geometry import hierarchy_cosines, participation_ratio
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.analyses.leaf_stores import LEAVES, ONSET, SITES, TAXONOMY, planted
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
    return analysis.compute({0: image}, text, TAXONOMY, QUICK, (encoder, leaves)).assign(run="toy")


def pick(table, **wanted):
    for name, value in ({"span": "slot", "modality": "image"} | wanted).items():
        table = table[table[name] == value]
    return table.sort_values("layer")


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
    table = analysis.compute({0: image}, None, TAXONOMY, QUICK, (x, image.columns["leaf"].to_numpy()))
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


def test_map_places_every_leaf_and_draws_from_the_table(found):
    places = pick(found, measure="pc1", site=SITES[-1])
    assert sorted(places["target"]) == list(LEAVES)
    assert places["value"].std(ddof=0) == pytest.approx(1, abs=0.01)
    figures = analysis.draw(found, TAXONOMY, lambda leaf: Image.new("RGB", (8, 8)))
    assert set(figures) == {"taxonomic_distance", "hierarchy", "dimension", "map", "map_pictures"}
    assert len(figures["map"].axes) == 3
    assert len(figures["map_pictures"].axes[0].artists) == len(LEAVES)
    assert "hierarchy ratio" in analysis.summary(found)


def test_figures_do_not_need_more_than_the_table_on_disk(found, tmp_path):
    found.to_parquet(tmp_path / "geometry.parquet", index=False)
    again = pd.read_parquet(tmp_path / "geometry.parquet")
    assert set(analysis.draw(again, TAXONOMY)) == set(analysis.draw(found, TAXONOMY))


def test_tsne_places_leaves_beside_their_category(stores):
    image, text = stores
    options = analysis.Options(permutations=19, draws=10, map="tsne", map_layers=(4,), spans=("slot",))
    table = analysis.compute({0: image}, text, TAXONOMY, options)
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
    assert len(analysis.draw(table.assign(run="toy"), TAXONOMY)["map"].axes) == 1


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


def test_runs_of_several_conditions_share_a_figure(found):
    both = pd.concat([found.assign(condition=name, run=name) for name in ("pretrained", "across")])
    figure = figures.runs(both)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pretrained", "across"]


def test_whole_from_a_toy_run(tmp_path, toy_lm, monkeypatch, capsys):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    run = Run.create(tmp_path / "run", toy_config(write_world(tmp_path, toy_lm)))
    pipeline.train_run(run)
    analysis.main(["--run", str(run.path), "--draws", "20", "--span", "slot", "--step", "12"])
    table = pd.read_parquet(run.path / "analyses" / "geometry" / "geometry.parquet")
    assert {"taxonomic_rsa_given_encoder", "hierarchy_ratio"} <= set(table["measure"])
    assert "intrinsic_dimension" not in set(table["measure"])  # of so few leaves
    assert (run.path / "analyses" / "geometry" / "map_pictures.png").is_file()
    assert "hierarchy ratio" in capsys.readouterr().out
