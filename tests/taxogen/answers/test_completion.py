"""Completion read-outs against plain passes over whole sequences: a log-probability minus its mean over baselines."""

from functools import partial

import numpy as np
import pytest
import torch

from taxogen.answers.completion import BASELINE_PICTURES, Completions, likely
from taxogen.models.rows import IMAGE
from taxogen.questions import prompts
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from tests.world import toy_config, write_world


@pytest.fixture(scope="module")
def bench(tmp_path_factory, toy_lm):
    """A toy run that is not trained: its projector and its language model are random."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm), "data.ablation=none"))
        yield open_bench(run)


@pytest.fixture
def ask(bench, monkeypatch):
    monkeypatch.setitem(
        BASELINE_PICTURES, "hypernym", 5
    )  # fewer than there are leaves, and unlike one another
    monkeypatch.setitem(BASELINE_PICTURES, "leaf", 3)
    return Completions(bench.run, bench.vlm, bench.features, bench.picture_index)


@torch.no_grad()
def plainly(bench, rows, candidates):
    """log P(candidate | prompt) of words of one token, from one pass over each whole sequence."""
    scores = []
    for row in rows:
        ids = torch.tensor([row.ids[: row.answer]])
        embedded = bench.vlm.embedding(ids.clamp(min=0))
        if row.picture >= 0:
            embedded[ids == IMAGE] = bench.vlm.projector(bench.features[[row.picture]])[0]
        scores.append(bench.vlm.model(inputs_embeds=embedded).logits[0, -1].log_softmax(-1))
    return torch.stack(scores)[:, [bench.vlm.tokens(word)[0] for word in candidates]].numpy()


def of_pictures(bench, prompt, pictures, candidates):
    texts = prompts.segments(prompt)
    rows = [bench.vlm.row(picture, texts, bench.picture_index[picture]) for picture in pictures]
    return plainly(bench, rows, candidates)


def of_names(bench, prompt, names, candidates):
    texts = [prompts.segments(prompt, leaf=name, modality="text") for name in names]
    return plainly(bench, [bench.vlm.row(name, text) for name, text in zip(names, texts)], candidates)


def test_the_baseline_has_one_training_picture_of_each_of_some_leaves(bench, ask):
    train = bench.world.table[bench.world.table["split"] == "train"].astype(str)
    leaf_of = dict(zip(train["picture"], train["leaf"], strict=True))
    assert {leaf_of[picture] for picture in ask._baseline} == set(bench.run.taxonomy.leaves)
    assert len(ask._baseline) == len(bench.run.taxonomy.leaves)


def test_hypernyms_of_pictures_are_told_beyond_what_other_pictures_tell(bench, ask):
    shown, hypernyms = list(bench.picture_index)[:6], bench.run.taxonomy.hypernyms
    expected = of_pictures(bench, "kind", shown, hypernyms)
    expected = expected - of_pictures(bench, "kind", ask._baseline[:5], hypernyms).mean(0)
    np.testing.assert_allclose(ask.hypernyms_of_pictures(shown, "kind"), expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-3, "the picture makes a difference"


def test_hypernyms_of_names_are_told_beyond_what_words_without_a_category_tell(bench, ask):
    leaves, hypernyms = bench.run.taxonomy.leaves, bench.run.taxonomy.hypernyms
    expected = of_names(bench, "kind", leaves, hypernyms)
    expected = expected - of_names(bench, "kind", prompts.NEUTRAL, hypernyms).mean(0)
    np.testing.assert_allclose(ask.hypernyms_of_names(leaves, "kind"), expected, rtol=1e-4, atol=1e-5)


def test_names_of_pictures_have_a_baseline_of_their_own_size(bench, ask):
    shown, leaves = list(bench.picture_index)[:6], bench.run.taxonomy.leaves
    expected = of_pictures(bench, "called", shown, leaves)
    expected = expected - of_pictures(bench, "called", ask._baseline[:3], leaves).mean(0)
    chosen = np.random.default_rng(0).random(expected.shape) < 0.5
    found = ask.names_of_pictures(shown, "called", chosen)
    np.testing.assert_allclose(found, np.where(chosen, expected, np.nan), rtol=1e-4, atol=1e-5)
    assert ask.best_names(shown, "called").tolist() == expected.argmax(1).tolist()


def test_a_distribution_over_names_is_the_same_whichever_name_is_the_right_one(bench, ask, monkeypatch):
    monkeypatch.setattr("taxogen.answers.completion.likely", partial(likely, most=2))
    shown, leaves = list(bench.picture_index)[:3], bench.run.taxonomy.leaves
    given = [ask.names_given(shown, "called", np.full(3, at)) for at in range(len(leaves))]
    for names, _ in given:
        np.testing.assert_allclose(names, given[0][0], rtol=1e-4, atol=1e-5)
    assert ((~np.isnan(given[0][0])).sum(1) <= 2).all()
    of_right = np.stack([right for _, right in given], axis=1)
    np.testing.assert_allclose(of_right, of_pictures(bench, "called", shown, leaves), rtol=1e-4, atol=1e-5)
