"""Contextual lens: equal to brute force and to the authors' package; planted neighbours found, shuffled words not."""

import numpy as np
import pytest
import torch
from banks import SENTENCES, SITES, tokenizer
from tiny_models import tiny

from probing.lens import build_bank, nearest_states, unit_rows, word_cosines


def pieces(states, rows):
    return [(start, states[start : start + rows]) for start in range(0, len(states), rows)]


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_neighbours_are_those_of_all_cosines_at_once_however_they_are_read(rows):
    torch.manual_seed(0)
    queries, first, second = torch.randn(9, 5), torch.randn(40, 5), torch.randn(40, 5)
    near = nearest_states(queries, [pieces(first, rows), pieces(second, rows)], k=6)
    cosines = unit_rows(queries) @ unit_rows(torch.cat([first, second])).T
    value, order = cosines.sort(dim=1, descending=True)
    torch.testing.assert_close(near.cosine, value[:, :6])
    assert torch.equal(40 * near.site + near.token, order[:, :6])
    word = np.arange(40) % 7
    best = word_cosines(queries, pieces(first, rows), word, words=9)
    expected = [cosines[:, :40][:, torch.tensor(word == one)].max(1).values for one in range(7)]
    torch.testing.assert_close(best, torch.stack([*expected, *[-torch.ones(9)] * 2], 1))


def test_of_equal_states_the_earlier_is_nearer_and_zeros_point_nowhere():
    same = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    near = nearest_states(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), [pieces(same, 2), pieces(same, 2)], k=6)
    assert near.token[0].tolist() == [1, 2, 3, 1, 2, 3]
    assert near.site[0].tolist() == [0, 0, 0, 1, 1, 1]
    assert near.cosine[1].tolist() == [0] * 6


@pytest.mark.parametrize("k", [0, 6])
def test_more_neighbours_than_there_are_states_are_refused(k):
    with pytest.raises(ValueError, match=rf"asked for the {k} nearest of \d states"):
        nearest_states(torch.ones(1, 2), [pieces(torch.ones(5, 2), 2)], k=k)


def test_planted_words_are_nearest_and_with_words_exchanged_they_are_as_often_as_by_chance():
    rng = np.random.default_rng(0)
    word = np.repeat(np.arange(40), 5)
    centre = torch.tensor(rng.normal(size=(40, 30)), dtype=torch.float32)
    bank = centre[word] + 0.5 * torch.tensor(rng.normal(size=(200, 30)), dtype=torch.float32)
    own = np.tile(np.arange(40), 25)
    states = centre[own] + 0.5 * torch.tensor(rng.normal(size=(1000, 30)), dtype=torch.float32)
    near = nearest_states(states, [pieces(bank, 64)]).token[:, 0].numpy()
    assert (word[near] == own).mean() > 0.95
    assert (word_cosines(states, pieces(bank, 64), word, 40).argmax(1).numpy() == own).mean() > 0.95
    shares = [(rng.permutation(40)[word][near] == own).mean() for _ in range(200)]
    assert np.mean(shares) == pytest.approx(
        1 / 40, abs=0.006
    )  # over 3 standard errors of 40 words in 200 draws


def test_neighbours_are_those_of_the_authors_package(tmp_path):
    latentlens = pytest.importorskip("latentlens")
    model, words = tiny("llama"), tokenizer()
    index = latentlens.build_index(
        "tiny", list(SENTENCES), layers=[1, 2], model=model, tokenizer=words, show_progress=False
    )
    bank = build_bank(tmp_path / "bank.h5", model, words, SENTENCES, SITES)
    torch.manual_seed(0)
    queries = torch.randn(20, 32)
    for sites, layers in ((SITES[1:], [1, 2]), (SITES[1:2], [1])):  # their layer 1 is behind block 0
        near = nearest_states(queries, [bank.pieces(site) for site in sites], k=5)
        for row, theirs in enumerate(index.search(queries, top_k=5, layers=layers)):
            ours = [
                (bank.texts[token], *bank.places[token][:2].tolist()) for token in near.token[row].tolist()
            ]
            assert ours == [(one.token_str, SENTENCES.index(one.caption), one.position) for one in theirs]
            np.testing.assert_allclose(near.cosine[row], [one.similarity for one in theirs], atol=1e-6)
            assert near.site[row].tolist() == [layers.index(one.contextual_layer) for one in theirs]
