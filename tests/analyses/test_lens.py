"""Lenses on runs: planted onsets and their order are recovered, no effect is not; words, toy run, refusals."""

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import lens
from analyses.inputs.subject import open_at
from analyses.lens.parts import nearest, token_states, words_of
from analyses.lens.rows import lens_table
from probing.hooks import record
from probing.stats import draw_weights
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.world import toy_config, write_world

LEAVES = [f"leaf {k:02d}" for k in range(40)]


def made_parts(first, size=2.0, seed=0):
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
    found = onsets(lens_table(made_parts({"leaf": 1, "hypernym": 4}), draw_weights(40, 300), 0))
    assert found["value"].to_dict() == {"leaf": 1, "hypernym": 4, "hypernym − leaf": 3}
    assert found.loc["hypernym − leaf", "lower"] > 0
    assert (found["lower"] <= found["value"]).all()
    assert (found["value"] <= found["upper"]).all()
    assert (found["n"] == 40).all()


def test_where_nothing_rises_there_is_no_onset_and_no_order():
    table = lens_table(made_parts({"leaf": 99, "hypernym": 99}), draw_weights(40, 300), 0)
    assert onsets(table)["value"].isna().all()
    beyond = table[(table["words"] == "own − other") & (table["measure"] == "log_prob")]
    assert ((beyond["lower"] < 0) & (beyond["upper"] > 0)).mean() > 0.8
    assert "log10_rank_image" in lens.draw(table)


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_lens")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm), "capture.at=last"))
        train_run(run)
        yield run


@pytest.fixture(scope="module")
def bench(toy):
    return open_at(toy)[0]


def test_each_word_is_as_often_another_leafs_as_its_own(bench):
    leaves = bench.run.taxonomy.leaves
    words = words_of(bench, "leaf", leaves, seed=0)
    own, other = (np.bincount(words.ids[side > 0].numpy()) for side in (words.own, words.other))
    assert (own[own > 0] == 1).all()
    np.testing.assert_array_equal(other[own > 0], 4)
    np.testing.assert_allclose([words.own.sum(1), words.other.sum(1)], 1)
    kinds = words_of(bench, "hypernym", leaves, seed=0)
    tomato = leaves.index("tomato")
    assert (kinds.own[tomato] > 0).sum() == 2
    assert not set(kinds.ids[tomato][kinds.own[tomato] > 0].tolist()) & set(
        kinds.ids[tomato][kinds.other[tomato] > 0].tolist()
    )


def test_tokens_are_those_of_the_spans_in_rows_of_unlike_lengths(bench):
    shown = pd.DataFrame({"picture": "", "leaf": ["crow", "pea tomato", "owl"]})
    tokens = token_states(bench, shown, "text", ["hook_embed"])
    assert tokens.row[tokens.in_span["slot"]].tolist() == [0, 1, 1, 2]
    assert tokens.row[tokens.in_span["last"]].tolist() == [0, 1, 2]
    vocabulary = bench.vlm.lm.tokenizer.get_vocab()
    table = bench.vlm.embedding.weight
    expected = table[[vocabulary[word] for word in ("crow", "pea", "tomato", "owl")]]
    torch.testing.assert_close(tokens.states["hook_embed"][torch.tensor(tokens.in_span["slot"])], expected)
    found = nearest(bench, tokens, shown, k=2)
    assert found.loc[found["place"] == 1, "word"].tolist() == ["crow", "pea", "tomato", "owl"]
    np.testing.assert_allclose(found.loc[found["place"] == 1, "cosine"], 1, rtol=1e-5)


def test_at_the_last_layer_the_lens_says_what_the_model_answers(bench, toy):
    table = lens.compute(bench, 12, lens.Options(every=1, leaves=0, draws=20))
    part = next((toy.path / "analyses" / "lens" / "parts").glob("*/blocks.1.hook_resid_post.parquet"))
    found = pd.read_parquet(part)
    kept = (found["modality"] == "text") & (found["span"] == "last") & (found["lens"] == "logit")
    kept &= (found["target"] == "hypernym") & (found["words"] == "own")
    said = found[kept].set_index("leaf")["evidence"]
    ids = bench.vlm.lm.tokenizer("<s> A crow is a kind of", return_tensors="pt").input_ids
    with torch.no_grad(), record(bench.vlm.model, "blocks.1.hook_resid_post"):
        logits = bench.vlm.model(input_ids=ids).logits[0, -1].log_softmax(-1)
    assert said["crow"] == pytest.approx(logits[bench.vlm.tokens("bird")[0]].item(), abs=1e-4)
    last = table[(table["layer"] == 1) & (table["measure"] == "log_prob") & (table["words"] == "own")]
    wide = last.pivot(index=["modality", "span", "target"], columns="lens", values="value")
    np.testing.assert_allclose(wide["logit"], wide["tuned"], atol=1e-5)


def test_a_toy_run_from_the_command_line_and_a_second_start_goes_on(toy, capsys):
    asked = ["--run", str(toy.path), "--leaves", "8", "--every", "1", "--draws", "50"]
    lens.main(asked)
    folder = toy.path / "analyses" / "lens"
    table, near = (pd.read_parquet(folder / f"{name}.parquet") for name in ("lens", "nearest"))
    assert set(table["lens"]) == {"logit", "tuned", "cosine"}
    assert set(table["n"]) == {8}
    assert near["leaf"].nunique() == 8
    assert (folder / "log10_rank_image.png").is_file()
    assert "onset: leaf" in capsys.readouterr().out
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.parquet")}
    lens.main(asked)
    assert {path: path.stat().st_mtime_ns for path in parts} == parts


def test_looking_at_no_layer_is_refused(bench):
    with pytest.raises(ValueError, match="every 0th layer"):
        lens.compute(bench, 12, lens.Options(every=0))
