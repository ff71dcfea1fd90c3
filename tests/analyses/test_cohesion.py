"""The cohesion analysis finds what is planted in stores made by hand, says nothing of nothing, and runs whole."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analyses import cohesion as analysis
from analyses.cohesion import figures
from analyses.cohesion.rows import Options
from analyses.frame.tables import COLUMNS, layer_of
from analyses.inputs.leaf_rows import leaf_rows
from probing.store import MismatchError
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.analyses.leaf_stores import LEAVES, ONSET, SITES, TAXONOMY, MemoryStore, planted
from tests.world import toy_config, write_world

QUICK = Options(permutations=199, draws=60)


@pytest.fixture(scope="module")
def found():
    image, text = planted()
    return analysis.compute({0: image}, text, TAXONOMY, QUICK)


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


def test_runs_of_several_conditions_share_a_figure(found):
    both = pd.concat([found.assign(condition=name, run=name) for name in ("pretrained", "across")])
    figure = figures.runs(both)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pretrained", "across"]
    assert len(figure.axes) == 4  # two places, pictures and pictures with words


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
    table = analysis.compute({0: other, 10: image}, text, TAXONOMY, QUICK)
    assert not table.duplicated([c for c in COLUMNS if c not in ("value", "lower", "upper", "n")]).any()
    assert set(table.loc[table["modality"] == "text", "step"]) == {-1}
    p = pick(table, measure="cohesion_p_corrected", modality="image", treatment="standardised", span="slot")
    assert (p.loc[p["step"] == 0, "value"] > 0.05).all()
    assert (p.loc[(p["step"] == 10) & (p["layer"] >= ONSET), "value"] < 0.05).all()


def test_seen_and_held_out_hypernyms_apart():
    image, _ = planted()
    table = analysis.compute(
        {0: image}, None, TAXONOMY, Options(permutations=99, draws=20, held_out=("tool",))
    )
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
    related = analysis.relate(pd.DataFrame(rows), {name: k**3 + 0.1 for k, name in enumerate(names)})
    assert related["value"].tolist() == [pytest.approx(1)]
    assert related["n"].tolist() == [8]


def test_order_of_rows_does_not_matter():
    image, _ = planted()
    order = np.random.default_rng(3).permutation(len(image.columns))
    moved = MemoryStore({k: v[order] for k, v in image.values.items()}, image.columns.iloc[order])
    tables = [analysis.compute({0: store}, None, TAXONOMY, QUICK) for store in (image, moved)]
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
        analysis.compute({0: image}, None, TAXONOMY, Options(least_leaves=30))


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


def test_whole_from_a_toy_run(tmp_path, toy_lm, monkeypatch, capsys):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    run = Run.create(tmp_path / "run", toy_config(write_world(tmp_path, toy_lm)))
    pipeline.train_run(run)
    pipeline.evaluate_run(run)
    analysis.main(
        ["--run", str(run.path), "--draws", "20", "--span", "slot", "--treatment", "standardised", "raw"]
    )
    table = pd.read_parquet(run.path / "analyses" / "cohesion" / "cohesion.parquet")
    assert set(table["modality"]) == {"image", "text", "image~text"}
    assert (run.path / "analyses" / "cohesion" / "curves.png").is_file()
    assert "strongest at" in capsys.readouterr().out
