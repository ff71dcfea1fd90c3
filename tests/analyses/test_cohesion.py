"""The cohesion analysis finds what is planted in stores made by hand, says nothing of nothing, and runs whole."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analyses import cohesion as analysis
from analyses.cohesion import figures
from analyses.cohesion.relation import PLACE, hypernym_scores, relate, score_tables
from analyses.cohesion.rows import Options, cohesion_table
from analyses.frame import drawing, tables
from analyses.frame.drawing.panels import place_of
from analyses.frame.tables import COLUMNS, layer_of
from analyses.inputs.leaf_rows import leaf_rows
from probing.categories.cohesion import cohesion
from probing.categories.leaf_sums import leaf_sums, mean_products
from probing.categories.massive import TREATMENTS
from probing.store import MismatchError
from taxogen.answers.scores import Scores
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

QUICK = Options(permutations=199, draws=60)


@pytest.fixture(scope="module")
def found():
    image, text = planted()
    return cohesion_table({0: image}, text, TAXONOMY, QUICK)


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table.sort_values("layer")


def test_cohesion_of_pictures_starts_where_it_was_planted(found):
    p = pick(found, measure="cohesion_p_corrected", modality="image", span="slot", treatment="standardised")
    assert ((p["value"] < 0.05) == (p["layer"] >= ONSET)).all()
    values = pick(
        found, measure="cohesion", target="mean", modality="image", span="slot", treatment="standardised"
    )
    assert (values.loc[values["layer"] >= ONSET, "lower"] > 0).all()
    assert (values["lower"] < values["value"]).all()
    assert (values["n"] == len(LEAVES)).all()


def test_words_cohere_at_every_layer_and_pictures_with_words_from_the_onset(found):
    text = pick(found, measure="cohesion_p_corrected", modality="text", span="slot", treatment="standardised")
    assert (text["value"] < 0.05).all()
    crossed = pick(
        found, measure="cohesion_p_corrected", modality="image~text", span="slot", treatment="standardised"
    )
    assert ((crossed["value"] < 0.05) == (crossed["layer"] >= ONSET)).all()


def test_massive_dimension_is_named_and_its_treatments_differ(found):
    massive = pick(found, measure="massive_ratio", modality="image", span="slot")
    assert (massive["target"] == "dimension 0").all()
    assert len(massive) == len(SITES)
    last = {"target": "mean", "modality": "image", "span": "slot", "site": SITES[-1], "measure": "cohesion"}
    values = {
        name: pick(found, treatment=name, **last)["value"].iloc[0]
        for name in ("raw", "standardised", "without outliers")
    }
    assert abs(values["raw"]) < values["standardised"] / 2
    assert values["without outliers"] == pytest.approx(values["standardised"], rel=0.3)


def test_uncentred_cosines_of_raw_rows_are_near_one_and_say_nothing(found):
    here = pick(
        found,
        measure="cohesion_uncentred_between",
        target="mean",
        modality="image",
        span="slot",
        treatment="raw",
    )
    assert (here["value"] > 0.9).all()


def test_leaf_cohesion_and_silhouette(found):
    last = {"modality": "image", "span": "slot", "site": SITES[-1], "treatment": "standardised"}
    assert pick(found, target="leaf", measure="cohesion", **last)["value"].iloc[0] > 0.2
    first = dict(last, site=SITES[0])
    silhouettes = [pick(found, measure="silhouette", **at)["value"].iloc[0] for at in (first, last)]
    assert silhouettes[1] > silhouettes[0]
    ratio = pick(found, measure="distance_ratio", target="mean", **last).iloc[0]
    assert ratio["value"] < 0.95
    assert ratio["lower"] < ratio["value"] < ratio["upper"]


def test_euclidean_distances_within_and_between_stand_beside_their_ratio(found):
    last = {
        "modality": "image",
        "span": "slot",
        "site": SITES[-1],
        "treatment": "standardised",
        "target": "mean",
    }
    within, between, ratio = (
        pick(found, measure=f"distance_{name}", **last).iloc[0] for name in ("within", "between", "ratio")
    )
    assert ratio["value"] == pytest.approx(within["value"] / between["value"])
    assert within["upper"] < between["lower"]


def test_names_of_points_do_not_cover_each_other():
    axes = Figure().subplots()
    names = ["bird", "fish", "tool", "far away"]
    figures._named_points(axes, np.array([0, 1e-4, 2e-4, 1.0]), np.array([0.5, 0.5, 0.5, 0.9]), names)
    shown = [text.get_text() for text in axes.texts]
    assert "far away" in shown
    assert len(shown) == 2


def test_text_is_measured_once_over_several_steps():
    image, text = planted()
    other, _ = planted(strength=0.0)
    table = cohesion_table({0: other, 10: image}, text, TAXONOMY, QUICK)
    assert not table.duplicated([c for c in COLUMNS if c not in ("value", "lower", "upper", "n")]).any()
    assert set(table.loc[table["modality"] == "text", "step"]) == {-1}
    p = pick(table, measure="cohesion_p_corrected", modality="image", treatment="standardised", span="slot")
    assert (p.loc[p["step"] == 0, "value"] > 0.05).all()
    assert (p.loc[(p["step"] == 10) & (p["layer"] >= ONSET), "value"] < 0.05).all()


def test_seen_and_held_out_hypernyms_apart():
    image, _ = planted()
    table = cohesion_table({0: image}, None, TAXONOMY, Options(permutations=99, draws=20, held_out=("tool",)))
    last = pick(table, site=SITES[-1], span="image", treatment="standardised", measure="cohesion").set_index(
        "target"
    )
    assert last.loc["mean of held-out", "value"] == pytest.approx(last.loc["tool", "value"])
    assert last.loc["mean", "value"] == pytest.approx(
        (3 * last.loc["mean of seen", "value"] + last.loc["mean of held-out", "value"]) / 4
    )


def test_relation_with_scores_follows_the_order_of_hypernyms():
    names = [f"h{k}" for k in range(8)]
    rows = [
        {"step": 0, "site": SITES[1], "span": "slot", "modality": "image", "treatment": "raw", "target": name,
         "measure": "cohesion", "value": float(k)} for k, name in enumerate(names)
    ]  # fmt: skip
    related = relate(pd.DataFrame(rows), {name: k**3 + 0.1 for k, name in enumerate(names)})
    assert related["value"].tolist() == [pytest.approx(1)]
    assert related["n"].tolist() == [8]


def test_order_of_rows_does_not_matter():
    image, _ = planted()
    order = np.random.default_rng(3).permutation(len(image.columns))
    moved = MemoryStore({k: v[order] for k, v in image.values.items()}, image.columns.iloc[order])
    tables = [cohesion_table({0: store}, None, TAXONOMY, QUICK) for store in (image, moved)]
    pd.testing.assert_frame_equal(*tables)


def test_prompts_of_one_picture_are_one_row():
    image, _ = planted(pictures=2)
    twice = MemoryStore(
        {key: np.concatenate([value - 1, value + 1]) for key, value in image.values.items()},
        pd.concat([image.columns, image.columns.set_axis([f"x{k}" for k in range(64)])]),
    )
    once, both = (leaf_rows({"image": store})["image"] for store in (image, twice))
    assert once.leaves.tolist() == both.leaves.tolist()
    np.testing.assert_allclose(both.read(SITES[2], "image"), once.read(SITES[2], "image"), atol=1e-4)
    chosen = once.only(LEAVES[:3])
    np.testing.assert_allclose(
        both.only(LEAVES[:3]).read(SITES[2], "image"), chosen.read(SITES[2], "image"), atol=1e-4
    )
    assert len(chosen.leaves) == 6


def test_refuses_stores_of_other_worlds():
    image, text = planted()
    strange = MemoryStore(text.values, text.columns.assign(leaf=[f"x{k}" for k in range(len(LEAVES))]))
    with pytest.raises(MismatchError, match="share no leaf"):
        leaf_rows({"image": image, "text": strange})
    with pytest.raises(ValueError, match="no hypernym has 30 of these 32 leaves"):
        cohesion_table({0: image}, None, TAXONOMY, Options(least_leaves=30))


def test_layers_of_sites():
    assert layer_of("hook_embed") == -1
    assert layer_of("blocks.3.hook_resid_post") == 3
    assert np.isnan(layer_of("ln_final.hook_normalized"))
    assert np.isnan(layer_of("encoder"))


def test_figures_are_functions_of_the_table(found):
    figures = analysis.draw(found.assign(run="toy"))
    assert {"curves", "hypernyms", "treatments"} <= set(figures)
    assert len(figures["curves"].axes) == 2
    text = analysis.summary(found.assign(run="toy"))
    assert "above its null" in text
    assert "massive dimensions in picture rows: 1, the largest dimension 0" in text
    assert "raw and standardised rows DISAGREE" in text
    assert "unit rows and standardised rows agree" in text
    alone = analysis.summary(found[found["treatment"] == "standardised"].assign(run="toy"))
    assert "massive" not in alone  # it was not looked for


def standardised(image):
    """Rows of every site as the default treatment gives them, worked out apart; and the leaf of each."""
    leaves = image.columns["leaf"].to_numpy()
    values = {site: image.read(site, "image").astype(float) for site in SITES}
    return {site: (x - x.mean(0)) / x.std(0) for site, x in values.items()}, leaves


def test_within_between_null_and_limit_are_those_of_pairs_of_leaves_at_that_very_site(found):
    image, _ = planted()
    rows, leaves = standardised(image)
    members = np.asarray(TAXONOMY.labels(LEAVES))
    pairs = []
    for site in SITES:
        x = rows[site] - np.mean([rows[site][leaves == leaf].mean(0) for leaf in LEAVES], axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        means = np.stack([x[leaves == leaf].mean(0) for leaf in LEAVES])
        pairs.append(means @ means.T)
    same = members @ members.T
    np.fill_diagonal(same, False)
    expected = cohesion(np.stack(pairs), members, QUICK.permutations, QUICK.seed)
    of = {"modality": "image", "span": "slot", "treatment": "standardised", "target": "mean"}
    for k, site in enumerate(SITES):
        values = pick(found, site=site, **of).set_index("measure")["value"]
        inside = [pairs[k][same & one[:, None] & one[None]].mean() for one in members.T]
        outside = [pairs[k][one][:, ~one].mean() for one in members.T]
        assert values["cohesion_within"] == pytest.approx(np.mean(inside))
        assert values["cohesion_between"] == pytest.approx(np.mean(outside))
        assert values["cohesion"] == pytest.approx(np.mean(inside) - np.mean(outside))
        limit = np.quantile(expected.null[:, k], 0.95)
        assert values["cohesion_null_limit"] == pytest.approx(limit)
        assert limit > 0
        # A value that is not null by its interval may lie under its limit, and the other way round: p is by the null.
        assert values["cohesion_p"] == pytest.approx(expected.p[k])
        assert values["cohesion_p_corrected"] == pytest.approx(expected.p_corrected[k])
    p = pick(found, measure="cohesion_p", **of)["value"].to_numpy()
    corrected = pick(found, measure="cohesion_p_corrected", **of)["value"].to_numpy()
    assert (corrected >= p).all()
    assert (corrected > p).any()


def test_a_leafs_own_cohesion_compares_its_pictures_with_words_of_others_and_not_its_word_with_their_pictures(
    found,
):
    image, text = planted()
    rows, leaves = standardised(image)
    words = text.read(SITES[1], "noun").astype(float)
    sides = []
    for x, names in ((rows[SITES[1]], leaves), ((words - words.mean(0)) / words.std(0), np.array(LEAVES))):
        x = x - np.mean([x[names == leaf].mean(0) for leaf in LEAVES], axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        sides.append(np.stack([x[names == leaf].mean(0) for leaf in LEAVES]))
    pairs, members = sides[0] @ sides[1].T, np.asarray(TAXONOMY.labels(LEAVES))
    same = members @ members.T
    np.fill_diagonal(same, False)
    expected = np.mean([pairs[k, k] - pairs[k, same[k]].mean() for k in range(len(LEAVES))])
    of = {"modality": "image~text", "span": "slot", "treatment": "standardised", "site": SITES[1]}
    value = pick(found, target="leaf", measure="cohesion", **of)["value"].iloc[0]
    assert value == pytest.approx(expected)


def test_encoder_rows_stand_at_a_site_of_their_own():
    image, _ = planted()
    rows, leaves = standardised(image)
    x = rows[SITES[-1]]
    table = cohesion_table({0: image}, None, TAXONOMY, QUICK, (x, leaves))
    own = pick(table, site="encoder", measure="cohesion", target="mean")
    sums = leaf_sums(x, leaves, leaf_sums(x, leaves).centre, unit=True)
    members = np.asarray(TAXONOMY.labels(LEAVES))
    assert own["value"].iloc[0] == pytest.approx(
        cohesion(mean_products(sums)[None], members, 9).difference.mean()
    )
    assert (own["step"] == tables.NO_STEP).all()
    assert own["layer"].isna().all()


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_treatments_are_fitted_on_rows_of_seen_leaves_alone(monkeypatch, treatment):
    options = Options(treatments=(treatment,), permutations=19, draws=10, held_out=("tool",))
    clean, dirty = planted(), tuple(garbage_in(store, "tool") for store in planted())
    fits = []
    for image, text in (clean, dirty):
        with monkeypatch.context() as patch:
            fitted = fitting_spy(patch)
            cohesion_table({0: image}, text, TAXONOMY, options)
        fits.append(fitted)
    assert len(fits[0]) == len(fits[1]) > 0
    for one, other in zip(*fits):
        for name in ("offset", "scale", "kept"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """A table of two steps, all treatments, the encoder and scores, with numbers that no two rows share; from disk."""
    image, text = planted()
    other, _ = planted(strength=0.0)
    encoder = image.read(SITES[-1], "image").astype(float), image.columns["leaf"].to_numpy()
    table = cohesion_table({0: other, 10: image}, text, TAXONOMY, QUICK, encoder)
    labels = {"site": "scores", "step": -1, "span": "", "modality": "image", "treatment": ""}
    scores = [tables.row("auroc", 0.5, **labels, target=name) for name in TAXONOMY.hypernyms]
    places = table.loc[table["measure"] == "cohesion", PLACE].drop_duplicates().to_dict("records")
    relations = [tables.row("correlation_with_score", 0.5, 4, **place, target="mean") for place in places]
    whole = pd.concat([table, *(tables.table(rows, "cohesion", 0) for rows in (relations, scores))])
    return drawn.reread(drawn.distinct(whole).assign(run="toy"), tmp_path_factory.mktemp("cohesion"))


@pytest.fixture(scope="module")
def shown(numbers):
    return analysis.draw(numbers)


OF = {"treatment": "standardised", "target": "mean"}
SPANS = ("slot", "last")


def test_curves_show_the_last_step_of_each_modality_and_the_limit_of_its_null(numbers, shown):
    figure = shown["curves"]
    assert [axes.get_title() for axes in figure.axes] == list(SPANS)
    names = {"image": "pictures", "text": "words", "image~text": "pictures of one leaf, words of another"}
    for axes, span in zip(figure.axes, SPANS):
        assert drawn.lines_drawn(axes) == 6
        for modality, step in {"image": 10, "text": -1, "image~text": 10}.items():
            at = {"span": span, "modality": modality, "step": step, **OF}
            colour = drawn.legend(figure)[names[modality]]
            drawn.assert_curve(axes, pick(numbers, measure="cohesion", **at), colour)
            drawn.assert_dotted(axes, pick(numbers, measure="cohesion_null_limit", **at), colour)
    assert "n = 32 leaf concepts. Interval: 95 % bootstrap over leaves" in figure.texts[-1].get_text()


def test_treatments_have_a_curve_each(numbers, shown):
    figure = shown["treatments"]
    assert list(drawn.legend(figure)) == list(TREATMENTS)
    for axes, span in zip(figure.axes, SPANS):
        assert axes.get_title() == span
        for name, colour in drawn.legend(figure).items():
            of = {"treatment": name, "target": "mean", "modality": "image", "step": 10, "measure": "cohesion"}
            drawn.assert_curve(axes, pick(numbers, span=span, **of), colour)


def test_the_map_of_hypernyms_has_its_cells_and_dots_from_the_table(numbers, shown):
    figure = shown["hypernyms"]
    axes = drawn.panels(figure)[0]
    of = {"treatment": "standardised", "modality": "image", "step": 10, "span": "slot"}
    rows = pick(numbers, **of)
    rows = rows[rows["target"].isin(TAXONOMY.hypernyms)]
    value, q = (
        rows[rows["measure"] == name].pivot(index="target", columns="layer", values="value")
        for name in ("cohesion", "q")
    )
    order = value.mean(axis=1).sort_values().index
    assert list(drawn.ticks(axes, "y").values()) == list(order)
    assert drawn.ticks(axes, "x") == {
        at: str(layer).replace("-", "−") for at, layer in enumerate(range(-1, 5))
    }
    np.testing.assert_array_equal(drawn.cells(axes), value.loc[order])
    np.testing.assert_array_equal(drawn.marks(axes), q.loc[order] <= 0.05)
    assert 0 < drawn.marks(axes).sum() < value.size


def test_the_colour_bar_of_few_hypernyms_is_as_long_as_its_name(numbers):
    few = numbers[~numbers["target"].isin(TAXONOMY.hypernyms[3:])]
    with drawing.style():
        figure = analysis.draw(few)["hypernyms"]
        drawing.lay_out(figure)
    assert drawn.misprints(figure) == []


def test_training_has_steps_by_layers_and_dots_by_corrected_p(numbers, shown):
    figure = shown["training"]
    marked = 0
    for axes, span in zip(drawn.panels(figure), SPANS, strict=True):
        assert axes.get_title() == span
        rows = pick(numbers, span=span, modality="image", **OF)
        value, p = (
            rows[rows["measure"] == name].pivot(index="step", columns="layer", values="value")
            for name in ("cohesion", "cohesion_p_corrected")
        )
        np.testing.assert_array_equal(drawn.cells(axes), value)
        np.testing.assert_array_equal(drawn.marks(axes), p < 0.05)
        marked += drawn.marks(axes).sum()
    assert list(drawn.ticks(figure.axes[0], "y").values()) == ["0", "10"]
    assert 0 < marked < 24


def test_scores_stand_over_the_encoder_and_over_the_place_where_cohesion_is_strongest(numbers, shown):
    figure = shown["scores"]
    auroc = pick(numbers, measure="auroc").set_index("target")["value"]
    inside = pick(numbers, measure="cohesion", modality="image", step=10, **OF).dropna(subset=["layer"])
    best = inside.loc[inside["value"].idxmax()]
    places = ({"site": "encoder"}, {key: best[key] for key in PLACE})
    for axes, place in zip(figure.axes, places, strict=True):
        x = pick(numbers, measure="cohesion", **place).set_index("target")["value"].loc[auroc.index]
        points = pd.DataFrame(axes.lines[0].get_xydata(), columns=["x", "y"]).sort_values("y")
        np.testing.assert_array_equal(points["y"], auroc.sort_values())
        np.testing.assert_array_equal(points["x"], x[auroc.sort_values().index])
        for text in axes.texts:
            assert text.xy == (x[text.get_text()], auroc[text.get_text()])
        related = pick(numbers, measure="correlation_with_score", **place).iloc[0]
        expected = "rank correlation {value:.2f} [{lower:.2f}, {upper:.2f}]".format(**related)
        assert axes.get_title() == expected
    assert figure.axes[1].get_xlabel() == f"cohesion at {place_of(best['site'])}, {best['span']}"
    assert "hook" not in figure.axes[1].get_xlabel()


def test_runs_of_several_conditions_share_a_figure(numbers):
    early = numbers[numbers["step"] < 10]  # a run that ended sooner
    both = {"pretrained": drawn.distinct(numbers, 1), "across": drawn.distinct(early, 2)}
    whole = pd.concat([one.assign(condition=name, run=f"run {name}") for name, one in both.items()])
    figure = figures.runs(whole)
    colours = {name: drawing.COLOURS[name].lower() for name in both}
    assert drawn.legend(figure) == colours
    grid = [(modality, span) for modality in ("image", "image~text") for span in SPANS]
    for axes, (modality, span) in zip(figure.axes, grid, strict=True):
        assert axes.get_title() == span
        for name, step in (("pretrained", 10), ("across", 0)):
            of = {"modality": modality, "span": span, "step": step, "measure": "cohesion", **OF}
            drawn.assert_curve(axes, pick(both[name], **of), colours[name])
    assert figure.axes[2].get_ylabel() == "cohesion,\npictures of one leaf, words of another"


def test_the_summary_says_the_tables_numbers(numbers):
    text = analysis.summary(numbers)
    said = re.findall(
        r"^  (\w+) +(\S+) +strongest at (\S+): ([\d.]+) \[([\d.]+), ([\d.]+)\], n = (\d+) leaves; above its null at "
        r"(\d+) of (\d+) sites", text, flags=re.MULTILINE,
    )  # fmt: skip
    assert len(said) == 6
    for span, modality, site, *of in said:
        step = -1 if modality == "text" else 10
        rows = pick(numbers, span=span, modality=modality, step=step, **OF)
        best = rows[rows["measure"] == "cohesion"].nlargest(1, "value").iloc[0]
        p = rows.loc[rows["measure"] == "cohesion_p_corrected", "value"]
        assert (site, *of[:3]) == (
            best["site"],
            *(f"{best[name]:.3f}" for name in ("value", "lower", "upper")),
        )
        assert [int(one) for one in of[3:]] == [best["n"], (p < 0.05).sum(), len(p)]
    related = pick(numbers, measure="correlation_with_score", modality="image")
    inside = related[(related["step"] == 10) & (related["treatment"] == "standardised")]
    for one in (related[related["site"] == "encoder"].iloc[0], inside.nlargest(1, "value").iloc[0]):
        assert (
            f"cohesion at {one['site']} ({one['span']}) against score, rank correlation "
            f"{one['value']:.2f} [{one['lower']:.2f}, {one['upper']:.2f}], n = {one['n']}"
        ) in text


def test_a_table_without_the_default_treatment_shows_the_one_that_it_has(numbers):
    raw = numbers[numbers["treatment"].isin(["raw", ""])]
    figure = analysis.draw(raw)["curves"]
    rows = pick(raw, measure="cohesion", modality="image", step=10, span="slot", target="mean")
    drawn.assert_curve(figure.axes[0], rows, drawn.legend(figure)["pictures"])
    best = rows.nlargest(1, "value").iloc[0]
    assert f"strongest at {best['site']}: {best['value']:.3f}" in analysis.summary(raw)


def test_a_figure_of_what_varies_is_drawn_where_it_varies_alone(numbers, shown):
    assert set(shown) == {"curves", "hypernyms", "treatments", "training", "scores"}
    one_treatment = numbers[numbers["treatment"].isin(["standardised", ""])]
    assert set(analysis.draw(one_treatment)) == set(shown) - {"treatments"}
    one_step = numbers[numbers["step"] != 0]
    assert set(analysis.draw(one_step)) == set(shown) - {"training"}
    assert set(analysis.draw(numbers[numbers["site"] != "scores"])) == set(shown) - {"scores"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_cohesion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm)))
        pipeline.train_run(run)
        pipeline.evaluate_run(run)
        yield run


def test_whole_from_a_toy_run(toy, capsys):
    few = [
        "--draws",
        "20",
        "--span",
        "slot",
        "--treatment",
        "standardised",
        "raw",
        "--step",
        "0",
        "--step",
        "12",
    ]
    analysis.main(["--run", str(toy.path), *few])
    table = pd.read_parquet(toy.path / "analyses" / "cohesion" / "cohesion.parquet")
    assert set(table["modality"]) == {"image", "text", "image~text"}
    assert set(table["treatment"]) == {"standardised", "raw", ""}
    assert set(table["step"]) == {-1, 0, 12}
    assert set(table["span"]) == {"slot", "image", ""}
    assert set(table["run"]) == {"run"}
    scores = Scores.read(toy)
    rows = table[table["measure"] == "auroc"].set_index("target")["value"]
    expected = hypernym_scores(scores, toy.taxonomy)
    assert rows.to_dict() == pytest.approx(expected)
    leaves = scores.image["leaf"].astype(str)
    bird = scores.image_scores[:, list(scores.hypernyms).index("bird")]
    is_bird = leaves.isin(toy.taxonomy.leaves_of("bird")).to_numpy()
    wins = np.sign(bird[is_bird][:, None] - bird[~is_bird][None])
    assert expected["bird"] == pytest.approx((wins.mean() + 1) / 2)
    turned = replace(scores, hypernyms=scores.hypernyms[::-1], image_scores=scores.image_scores[:, ::-1])
    assert hypernym_scores(turned, toy.taxonomy) == pytest.approx(expected)
    of_held_out = score_tables(toy, table, Options(held_out=("bird",)))[-1]
    assert of_held_out["target"].tolist() == ["bird"]
    assert (toy.path / "analyses" / "cohesion" / "curves.png").is_file()
    assert not (toy.path / "analyses" / "cohesion" / "runs.png").is_file()
    assert "strongest at" in capsys.readouterr().out


def test_two_runs_share_a_figure_in_the_folder_of_the_first(toy, tmp_path):
    other = run_of_another_seed(toy, tmp_path / "other")
    few = ["--draws", "20", "--span", "slot", "--treatment", "standardised", "--step", "12"]
    analysis.main(["--run", str(other.path), "--run", str(toy.path), *few])
    assert (other.path / "analyses" / "cohesion" / "runs.png").is_file()
    assert not (toy.path / "analyses" / "cohesion" / "runs.png").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--step", "7"), "no whole capture at step 7"),
        (("--span", "noun"), "no span 'noun' in these stores; they have slot, cue, last"),
        (("--run", "{twin}"), "one run was given twice, as .* a copy"),
        (("--run", "{empty}"), "has no captured step"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line_before_anything_is_read(
    toy, tmp_path, capsys, monkeypatch, more, message
):
    assert_refused(analysis, "cohesion_table", toy, more, message, tmp_path, capsys, monkeypatch)


def test_the_hypernyms_that_the_run_holds_out_are_those_of_its_options(toy, monkeypatch):
    assert_held_out_reach(analysis, "cohesion_table", toy, monkeypatch)
