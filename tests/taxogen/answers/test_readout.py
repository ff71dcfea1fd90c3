"""Log-probabilities and log-odds equal plain passes, whatever candidates share and however long they are."""

import numpy as np
import pytest
import torch

from taxogen.answers import readout
from taxogen.answers.readout import log_odds, log_probs
from taxogen.models import lms
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts

ANSWERS = (6, 4)
CANDIDATES = [(5,), (7, 9), (7, 9, 11), (12, 3), (5, 5, 5, 5)]


@pytest.fixture(scope="module")
def vlm(toy_lm):
    torch.manual_seed(1)
    return Vlm(lms.load(str(toy_lm), dtype=torch.float32), Projector("flat-linear", (1, 6), (2, 32), 8, 0.2))


@pytest.fixture(scope="module")
def features():
    return torch.randn(4, 1, 6, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def rows(vlm):
    """Prompts about pictures and names in turns, so of two lengths."""
    picture, name = prompts.segments("kind"), prompts.segments("kind", leaf="crow", modality="text")
    mixed = [vlm.row("a", picture, 1), vlm.row("b", name), vlm.row("c", picture, 3), vlm.row("d", name)]
    assert len({len(row.ids) for row in mixed}) == 2
    return mixed


@pytest.fixture(params=[256, 2])
def pairs(request, monkeypatch):
    monkeypatch.setattr(readout, "PAIRS", request.param)


@torch.no_grad()
def logits(vlm, row, ids, features):
    """Of every position of one pass over the whole sequence."""
    whole = torch.tensor([[*row.ids, *ids]])
    embedded = vlm.embedding(whole.clamp(min=0))
    if row.picture >= 0:
        embedded[whole == IMAGE] = vlm.projector(features[[row.picture]])[0]
    return vlm.model(inputs_embeds=embedded).logits[0]


def log_prob(vlm, row, candidate, features):
    scores = logits(vlm, row.prompt, candidate, features).log_softmax(-1)[row.answer - 1 : -1]
    return sum(at[token].item() for at, token in zip(scores, candidate, strict=True))


def test_candidates_may_have_any_length(vlm, features, rows, pairs):
    expected = np.array([[log_prob(vlm, row, one, features) for one in CANDIDATES] for row in rows])
    found = log_probs(vlm, rows, features, CANDIDATES)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    chosen = np.random.default_rng(0).random(expected.shape) < 0.5
    some = log_probs(vlm, rows, features, CANDIDATES, chosen)
    np.testing.assert_allclose(some, np.where(chosen, expected, np.nan), rtol=1e-4, atol=1e-4)


def test_candidates_may_be_chosen_by_their_first_tokens(vlm, features, rows, pairs):
    expected = np.array([[log_prob(vlm, row, one, features) for one in CANDIDATES] for row in rows])
    firsts = np.array([[log_prob(vlm, row, one[:1], features) for one in CANDIDATES] for row in rows])
    cut = float(np.median(firsts))
    found = log_probs(vlm, rows, features, CANDIDATES, lambda scores: scores > cut)
    np.testing.assert_allclose(found, np.where(firsts > cut, expected, np.nan), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "questions",
    [
        [(9, 10, 11), (9, 10, 12), (9, 10, 13, 14)],
        [(9, 10), (9, 10, 11), (9, 10, 11, 12)],  # each is how the next begins
        [(9,), (9,)],
        [(9, 10), (11,)],
        [(9, 10, 11)],
    ],
)
def test_questions_may_share_any_tokens(vlm, features, rows, questions, pairs):
    contexts = [row.before_cue for row in rows]
    last = [[logits(vlm, row, question, features)[-1] for question in questions] for row in contexts]
    expected = np.array([[(one[ANSWERS[0]] - one[ANSWERS[1]]).item() for one in line] for line in last])
    found = log_odds(vlm, contexts, features, questions, ANSWERS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    chosen = np.random.default_rng(0).random(expected.shape) < 0.6
    some = log_odds(vlm, contexts, features, questions, ANSWERS, chosen)
    np.testing.assert_allclose(some, np.where(chosen, expected, np.nan), rtol=1e-4, atol=1e-5)
