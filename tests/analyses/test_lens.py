"""Lenses on runs: planted onsets and their order are recovered, no effect is not; words, leaks, toy run, refusals."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import lens
from analyses.frame import drawing
from analyses.inputs.effects import FILE
from analyses.inputs.subject import Candidates, Subject
from analyses.lens import further
from analyses.lens.contextual import NEAREST, rows_of
from analyses.lens.effects import lens_effects
from analyses.lens.figures import TARGETS
from analyses.lens.parts import LensInputs, look, nearest, translated
from analyses.lens.rows import BEYOND, REUSED, lens_table, summary
from analyses.lens.tokens import SPANS, Tokens, token_states
from analyses.lens.words import words_of
from probing.hooks import record
from probing.stats import OUT_OF_FOLD, draw_weights
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from taxogen.world.taxonomy import Taxonomy
from tests.analyses import drawn
from tests.world import toy_config, write_world

LEAVES = [f"leaf {k:02d}" for k in range(40)]


def planted_parts(first, size=2.0, seed=0):
    """Parts of six layers in which own words rise above others' from a layer on, for leaf and hypernym."""
    rng = np.random.default_rng(seed)
    parts = []
    for layer in range(6):
        for target, onset in first.items():
            common = rng.standard_normal(len(LEAVES))
            for words in ("own", "other"):
                rise = size * (words == "own" and layer >= onset)
                noise = 0.5 * rng.standard_normal((2, len(LEAVES)))
                parts.append(
                    pd.DataFrame({"leaf": LEAVES, "evidence": -9 + common + rise + noise[0],
                                  "log10_rank": 3 - rise / 2 + 0.2 * noise[1], "modality": "image", "span": "last",
                                  "lens": "logit", "target": target, "words": words,
                                  "site": f"blocks.{layer}.hook_resid_post"})
                )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def onsets(table):
    return table[table["measure"] == "onset"].set_index("target")


def test_planted_onsets_and_their_order_are_recovered():
    rows = onsets(lens_table(planted_parts({"leaf": 1, "hypernym": 4}), draw_weights(40, 300), 0))
    assert rows["value"].to_dict() == {"leaf": 1, "hypernym": 4, "hypernym − leaf": 3}
    assert rows.loc["hypernym − leaf", "lower"] > 0
    assert (rows["lower"] <= rows["value"]).all()
    assert (rows["value"] <= rows["upper"]).all()
    assert (rows["n"] == 40).all()


def test_where_nothing_rises_there_is_no_onset_and_no_order():
    table = lens_table(planted_parts({"leaf": 99, "hypernym": 99}), draw_weights(40, 300), 0)
    assert onsets(table)["value"].isna().all()
    beyond = table[(table["words"] == "own − other") & (table["measure"] == "log_prob")]
    assert ((beyond["lower"] < 0) & (beyond["upper"] > 0)).mean() > 0.8
    assert "log10_rank_image" in lens.draw(table)
    assert "first block detected: leaf none [" in summary(table)


def test_a_difference_of_onsets_is_a_number_of_blocks_and_never_said_of_it():
    for first, words in (
        ({"leaf": 1, "hypernym": 99}, "hypernym none [5, never]; hypernym − leaf none [4, ∞], n = 40"),
        (
            {"leaf": 99, "hypernym": 1},
            "leaf none [never, never]; hypernym 1 [1, 1]; hypernym − leaf none [−∞, −∞], n",
        ),
    ):
        assert words in summary(lens_table(planted_parts(first), draw_weights(40, 300), 0))


def test_own_words_beyond_others_that_are_not_null_by_their_numbers():
    own = {"a": (-1.0, 0.5), "b": (-3.0, 1.0), "c": (-5.0, 2.0), "d": (-9.0, 3.0)}
    other = {"a": (-2.0, 1.0), "b": (-3.5, 2.5), "c": (-9.0, 2.0), "d": (np.nan, np.nan)}
    parts = [
        pd.DataFrame(
            {"leaf": list(sides), "evidence": evidence, "log10_rank": rank, "modality": "image", "span": "last",
             "lens": "logit", "target": target, "words": words, "site": "blocks.3.hook_resid_post"}
        )
        for target in ("leaf", "hypernym")
        for words, sides in (("own", own), ("other", other))
        for evidence, rank in [np.array(list(sides.values())).T]
    ]  # fmt: skip
    weights = draw_weights(4, 300)
    rows = lens_table(pd.concat(parts, ignore_index=True), weights, 0)
    rows = rows[rows["target"] == "leaf"].set_index(["measure", "words"])
    expected = {"log_prob": {"own": -3, "other": -29 / 6, BEYOND: 11 / 6}}
    expected["log10_rank"] = {"own": 3.5 / 3, "other": 5.5 / 3, BEYOND: -2 / 3}
    for measure, values in expected.items():
        assert rows.loc[measure]["value"].to_dict() == pytest.approx(values)
    counted = weights[weights[:, :3].sum(1) > 0, :3]  # leaf d has no words of others
    draws = (counted @ [1.0, 0.5, 4.0]) / counted.sum(1)
    limits = np.quantile(draws, [0.025, 0.975])
    np.testing.assert_allclose(rows.loc[("log_prob", BEYOND), ["lower", "upper"]].astype(float), limits)
    own = (counted @ [-1.0, -3.0, -5.0]) / counted.sum(1)
    for lens_name, factor in (("logit", REUSED), ("tuned", OUT_OF_FOLD)):
        wide = lens_table(pd.concat(parts, ignore_index=True).assign(lens=lens_name), weights, 0)
        level = wide[(wide["target"] == "leaf") & (wide["measure"] == "log_prob") & (wide["words"] == "own")]
        limits = -3 + factor * (np.quantile(own, [0.025, 0.975]) + 3)
        np.testing.assert_allclose(level[["lower", "upper"]].iloc[0].astype(float), limits)
    assert set(rows["n"]) == {3}


@pytest.fixture(scope="module")
def table():
    """A table with every lens, span and modality, whose rows all have numbers of their own."""
    parts = planted_parts({"leaf": 1, "hypernym": 4})
    views = [
        parts.assign(modality=modality, lens=lens_name, span=span)
        for modality in ("image", "text")
        for lens_name in ("logit", "tuned")
        for span in SPANS
    ]
    near = parts[parts["site"] == "blocks.0.hook_resid_post"].assign(
        site="hook_embed", lens="cosine", span="slot"
    )
    table = lens_table(pd.concat([*views, near], ignore_index=True), draw_weights(40, 20), 0)
    return drawn.distinct(table.assign(run="planted"))


def test_the_figures_show_the_rows_of_their_measure_modality_lens_span_and_words(table, tmp_path):
    figures = lens.draw(drawn.reread(table, tmp_path))
    assert set(figures) == {
        f"{measure}_{modality}" for measure in ("log10_rank", "log_prob") for modality in ("image", "text")
    }
    colours = drawing.colours(list(TARGETS.values()))
    for name, figure in figures.items():
        measure, modality = name.rsplit("_", 1)
        rows = table[(table["measure"] == measure) & (table["modality"] == modality)]
        panels = iter(drawn.panels(figure))
        for lens_name in ("logit", "tuned"):
            for span in SPANS:
                axes = next(panels)
                view = rows[(rows["lens"] == lens_name) & (rows["span"] == span)]
                for target, label in TARGETS.items():
                    of_target = view[view["target"] == target]
                    drawn.assert_curve(axes, of_target[of_target["words"] == "own"], colours[label])
                    drawn.assert_dotted(axes, of_target[of_target["words"] == "other"], colours[label])
                assert drawn.lines_drawn(axes) == 4
                assert axes.get_title() == (span if lens_name == "logit" else "")
                assert axes.get_ylabel().startswith(f"{lens_name} lens") == (span == "slot")
                low, high = axes.get_ylim()
                assert (low > high) == (measure == "log10_rank")  # rank 1 is on top
        assert next(panels, None) is None
        for label, of_target in colours.items():
            assert drawn.legend(figure)[label] == drawn.legend(figure)[f"{label}, of other leaves"]
            assert drawn.legend(figure)[label] == of_target.lower()
        assert (
            "n = 40 leaves, " + {"image": "pictures", "text": "words"}[modality]
            in figure.texts[-1].get_text()
        )


def test_the_summary_has_the_numbers_of_its_rows(table):
    def numbers(row, form):
        return f"{row['value']:{form}} [{row['lower']:{form}}, {row['upper']:{form}}]"

    said = summary(table).splitlines()
    onset = table[table["measure"] == "onset"]
    for (modality, lens_name, span), view in onset.groupby(["modality", "lens", "span"]):
        (line,) = [line for line in said if line.split()[:4] == [modality, lens_name, span, "first"]]
        assert " first block detected: leaf " in line
        expected = {row["target"]: numbers(row, ".0f") for row in view.to_dict("records")}
        assert dict(re.findall(r"(?:: |; )([a-z −]+) (\S+ \[\S+ \S+\])", line)) == expected
        assert line.endswith("n = 40")
    beyond = table[table["words"] == BEYOND].set_index(
        ["modality", "lens", "span", "measure", "layer", "target"]
    )
    for target in ("leaf", "hypernym"):
        for modality in ("image", "text"):
            level = numbers(beyond.loc[(modality, "logit", "last", "log_prob", 5.0, target)], "+.2f")
            start = f"  at the last token of the last layer, {modality}, {target}"
            assert f"{start}: {level} nats beyond other words" in said
        level = numbers(beyond.loc[("image", "cosine", "slot", "cosine", -1.0, target)], "+.3f")
        assert f"  projected picture tokens, {target}: cosine to own words {level} beyond others'" in said
    assert len(said) == 1 + 12 + 4 + 2


def test_translators_of_a_fold_do_not_see_its_leaves():
    rng = np.random.default_rng(0)
    leaves = np.array([f"leaf {at}" for at in range(12)])
    row = np.repeat(np.arange(12), 6)
    fold = {leaf: at % 3 for at, leaf in enumerate(leaves)}
    hidden, mixing = rng.standard_normal((72, 4)), rng.standard_normal((4, 4))
    states = {"middle": hidden, "final": hidden @ mixing + 0.1 * rng.standard_normal((72, 4))}
    inputs = LensInputs({}, {}, tuple(leaves), frozenset(leaves), fold, "final", SimpleNamespace())

    def tuned(states):
        tensors = {site: torch.tensor(values) for site, values in states.items()}
        return translated(inputs, Tokens(tensors, row, leaves, {}), "middle").numpy()

    clean = tuned(states)
    garbage = {
        site: np.where(row[:, None] == 3, 1e3 * rng.standard_normal((72, 4)), x) for site, x in states.items()
    }
    spoilt = tuned(garbage)
    same_fold = np.array([fold[leaf] for leaf in leaves[row]]) == fold["leaf 3"]
    np.testing.assert_array_equal(spoilt[same_fold & (row != 3)], clean[same_fold & (row != 3)])
    assert (np.abs(spoilt[~same_fold] - clean[~same_fold]).max(1) > 1e-3).all()
    assert 1 - np.square(clean - states["final"]).mean() / states["final"].var() > 0.9


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_lens")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm), "capture.at=last"))
        train_run(run)
        yield run


@pytest.fixture(scope="module")
def subject(toy):
    return Subject.of(toy)


def test_each_word_is_as_often_another_leafs_as_its_own(subject):
    leaves = subject.run.taxonomy.leaves
    words = words_of(subject, "leaf", leaves, seed=0)
    own, other = (np.bincount(words.ids[side > 0].numpy()) for side in (words.own, words.other))
    assert (own[own > 0] == 1).all()
    np.testing.assert_array_equal(other[own > 0], 4)
    np.testing.assert_allclose([words.own.sum(1), words.other.sum(1)], 1)
    kinds = words_of(subject, "hypernym", leaves, seed=0)
    tomato = leaves.index("tomato")
    assert (kinds.own[tomato] > 0).sum() == 2
    assert not set(kinds.ids[tomato][kinds.own[tomato] > 0].tolist()) & set(
        kinds.ids[tomato][kinds.other[tomato] > 0].tolist()
    )


def test_a_leaf_none_of_whose_hypernyms_can_be_read_has_no_own_words(subject, monkeypatch):
    readable = {"hypernym": Candidates(("bird", "fruit"), np.array([5, 6]))}
    monkeypatch.setattr(Subject, "candidates", lambda _, task: readable[task])
    leaves = subject.run.taxonomy.leaves
    words = words_of(subject, "hypernym", leaves, seed=0)
    unread = [leaf for leaf, own in zip(leaves, words.own) if np.isnan(own).any()]
    assert unread == ["carrot", "onion", "pea"]
    np.testing.assert_allclose(np.nansum(words.own, 1)[[leaf not in unread for leaf in leaves]], 1)


def test_tokens_are_those_of_the_spans_in_rows_of_unlike_lengths(subject):
    shown = pd.DataFrame({"picture": "", "leaf": ["crow", "pea tomato", "owl"]})
    tokens = token_states(subject, shown, "text", ["hook_embed"])
    assert tokens.row[tokens.in_span["slot"]].tolist() == [0, 1, 1, 2]
    assert tokens.row[tokens.in_span["last"]].tolist() == [0, 1, 2]
    vlm = subject.bench.vlm
    vocabulary = vlm.lm.tokenizer.get_vocab()
    expected = vlm.embedding.weight[[vocabulary[word] for word in ("crow", "pea", "tomato", "owl")]]
    torch.testing.assert_close(tokens.states["hook_embed"][torch.tensor(tokens.in_span["slot"])], expected)
    words = nearest(subject, tokens, shown, k=2)
    assert words.loc[words["place"] == 1, "word"].tolist() == ["crow", "pea", "tomato", "owl"]
    np.testing.assert_allclose(words.loc[words["place"] == 1, "cosine"], 1, rtol=1e-5)


def test_at_the_last_layer_the_lens_says_what_the_model_answers(subject, toy, monkeypatch):
    more = planted_parts({"leaf": 0, "hypernym": 0}).assign(lens="patchscope")
    more["leaf"] = more["leaf"].map(dict(zip(LEAVES, subject.run.taxonomy.leaves)))
    monkeypatch.setattr(further, "further_parts", lambda *_: {"patchscope": more.dropna()})
    result = lens.compute([toy], lens.Options(every=1, leaves=0, draws=20))
    pooled = result.extras.files[FILE].keywords["effects"].cells
    assert set(pooled["lens"]) == {"logit", "tuned", "cosine", "patchscope"}
    table = result.table
    part = next((toy.path / "analyses" / "lens" / "parts").glob("*/blocks.1.hook_resid_post.parquet"))
    evidence = pd.read_parquet(part)
    chosen = (evidence["modality"] == "text") & (evidence["span"] == "last") & (evidence["lens"] == "logit")
    chosen &= (evidence["target"] == "hypernym") & (evidence["words"] == "own")
    read = evidence[chosen].set_index("leaf")["evidence"]
    vlm = subject.bench.vlm
    ids = vlm.lm.tokenizer("<s> A crow is a kind of", return_tensors="pt").input_ids
    with torch.no_grad(), record(vlm.model, "blocks.1.hook_resid_post"):
        logits = vlm.model(input_ids=ids).logits[0, -1].log_softmax(-1)
    assert read["crow"] == pytest.approx(logits[vlm.tokens("bird")[0]].item(), abs=1e-4)
    last = table[(table["layer"] == 1) & (table["measure"] == "log_prob") & (table["words"] == "own")]
    wide = last.pivot(index=["modality", "span", "target"], columns="lens", values="value")
    np.testing.assert_allclose(wide["logit"], wide["tuned"], atol=1e-5)


def test_further_lenses_on_a_toy_run(subject, toy):
    """At the last layer the Jacobian lens is the logit lens; a name in words is nearest to itself in the bank."""
    options = lens.Options(
        every=1, leaves=8, lenses=further.LENSES, template="A ? is also called", jacobian_rows=2
    )
    sites = lens.sites_of(subject, 1)
    inputs = lens.lens_inputs(subject, sites, options)
    parts = further.further_parts(subject, lambda: inputs, options, sites, {})
    assert list(parts) == list(further.LENSES)
    assert all(set(part["site"]) == set(sites) for part in parts.values())
    keys = ["leaf", "modality", "span", "target", "words"]
    last = parts["jacobian"][lambda rows: (rows["site"] == sites[-1]) & (rows["span"] == "last")]
    plain = look(inputs, sites[-1])[lambda rows: (rows["lens"] == "logit") & (rows["span"] == "last")]
    both = last.merge(plain, on=keys, suffixes=("", "_plain"))
    assert len(both) == len(last) == 2 * 2 * 2 * 8
    np.testing.assert_allclose(both["evidence"], both["evidence_plain"], atol=1e-5)
    near = next(rows_of(parts["contextual"], NEAREST))
    words = near[
        (near["modality"] == "text") & (near["site"] == "hook_embed") & (near["near"] == "same layer")
    ]
    own = words[words["span"] == "slot"].set_index("draw")["own name"].groupby("draw").mean()
    assert own[-1] == 1
    assert own[0:].mean() < 0.5
    scope = parts["patchscope"]
    assert (scope["evidence"] < 0).all()
    assert scope.groupby("site")["evidence"].mean().nunique() == len(sites)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probing.lens.Patchscope.of", None)  # nothing is made again
        again = further.further_parts(subject, lambda: inputs, options, sites, {})
    for name, part in parts.items():
        pd.testing.assert_frame_equal(again[name], part)


def test_effects_of_each_lens_are_its_own_words_beyond_others_in_its_unit():
    taxonomy = Taxonomy(tuple((leaf, "thing") for leaf in LEAVES))
    of_lens = [planted_parts({"leaf": 1}).assign(lens=name) for name in ("logit", "jacobian", "contextual")]
    effects = lens_effects(pd.concat(of_lens, ignore_index=True), taxonomy)
    measures = effects.cells.groupby("lens")["measure"].unique().str.join(",").to_dict()
    assert measures == {"logit": "log_prob", "jacobian": "log_prob", "contextual": "cosine"}
    rising = effects.cells["site"] != "blocks.0.hook_resid_post"
    np.testing.assert_allclose(effects.values.mean(1), 2.0 * rising, atol=0.4)


def test_a_toy_run_from_the_command_line_and_a_second_start_goes_on(toy, capsys):
    asking = ["--run", str(toy.path), "--leaves", "8", "--every", "1", "--draws", "50"]
    lens.main(asking)
    folder = toy.path / "analyses" / "lens"
    table, near = (pd.read_parquet(folder / f"{name}.parquet") for name in ("lens", "nearest"))
    assert set(table["lens"]) == {"logit", "tuned", "cosine"}
    assert set(table["n"]) == {8}
    assert near["leaf"].nunique() == 8
    assert (folder / "log10_rank_image.png").is_file()
    assert "first block detected: leaf" in capsys.readouterr().out
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.parquet")}
    lens.main(asking)
    assert {path: path.stat().st_mtime_ns for path in parts} == parts


def test_looking_at_no_layer_is_refused(toy, capsys):
    with pytest.raises(SystemExit) as refusal:
        lens.main(["--run", str(toy.path), "--every", "0"])
    assert refusal.value.code == 2
    assert "every 0th layer" in capsys.readouterr().err
