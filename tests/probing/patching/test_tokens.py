"""Single tokens of a row: rollout by hand, completeness, edits against plain passes; nothing depends on batches."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from probing.edits.knockout import between, knock_out
from probing.patching import Answers, Rows
from probing.patching.tokens import (
    TokensOfRow,
    attention,
    contributions,
    cut,
    exchanged,
    metric_between,
    rollout,
    row,
)

IDS, PLACES = torch.tensor([[1, 5, 2, 7, 3, 6, 4]]), (2, 3, 4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    model.set_attn_implementation("eager")
    return model


@pytest.fixture
def tokens(model):
    def copies(n):
        return Rows(lambda: {"input_ids": IDS.expand(n, -1)}, spans={"last": (6,)})

    return TokensOfRow(model, copies, PLACES)


@pytest.fixture
def behind_prefix(model):
    """The same row with its first token cached."""

    def copies(n):
        def inputs():
            past = model.model(IDS[:, :1].expand(n, -1), use_cache=True).past_key_values
            return {"input_ids": IDS[:, 1:].expand(n, -1), "past_key_values": past}

        return Rows(inputs, spans={"last": (6,)}, skip=1)

    return TokensOfRow(model, copies, PLACES)


def embeddings(model):
    return model.get_input_embeddings()(IDS)


def answers(model, embedded):
    return model(inputs_embeds=embedded).logits[:, -1, [3, 7]]


def margin(model):
    read = Answers.of(model, [3, 7])
    return lambda hidden: read(hidden)[:, 0] - read(hidden)[:, 1]


def test_rollout_is_the_product_of_half_patterns_and_half_identities():
    rng = np.random.default_rng(0)
    patterns = [np.tril(rng.random((4, 4))) for _ in range(3)]
    patterns = [one / one.sum(1, keepdims=True) for one in patterns]
    expected = np.eye(4)
    for one in patterns:
        expected = (0.5 * one + 0.5 * np.eye(4)) @ expected
    rolled = rollout([torch.tensor(one) for one in patterns])
    np.testing.assert_allclose(rolled, expected, atol=1e-12)
    np.testing.assert_allclose(rolled.sum(1), 1)
    # A pattern that leaves attention to a sink without a key is brought back to a sum of one.
    np.testing.assert_allclose(rollout([torch.full((2, 2), 0.25)]).sum(1), 1)


@pytest.mark.parametrize("kind", ["tokens", "behind_prefix"])
def test_attention_and_rollout_are_those_of_the_models_own_patterns(model, kind, request):
    looks = attention(request.getfixturevalue(kind), [5, 6])
    own = model(IDS, output_attentions=True).attentions
    torch.testing.assert_close(
        looks.heads, torch.stack([one[0][:, [5, 6]] for one in own]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        looks.rolled, rollout([one[0].mean(0) for one in own])[[5, 6]], atol=1e-6, rtol=0
    )
    assert looks.layers == (0, 1, 2)


def test_a_query_in_the_cached_prefix_is_refused(behind_prefix):
    with pytest.raises(ValueError, match="token 0 was to look; the first 1 tokens are a cached prefix"):
        attention(behind_prefix, [0])


@pytest.mark.parametrize("kind", ["tokens", "behind_prefix"])
def test_integrated_gradients_sum_to_the_difference_of_both_ends(model, kind, request):
    tokens, metric = request.getfixturevalue(kind), margin(model)
    baseline = 0.1 * torch.randn(16, generator=torch.Generator().manual_seed(1))
    end, start = metric_between(tokens, baseline, metric, [1.0, 0.0])
    moved = embeddings(model).clone()
    moved[:, list(PLACES)] = baseline
    for at, embedded in ((end, embeddings(model)), (start, moved)):
        yes, no = answers(model, embedded)[0]
        assert at == pytest.approx(float(yes - no), abs=1e-5)
    gaps = [
        abs(float(contributions(tokens, baseline, metric, steps).sum() - (end - start))) for steps in (1, 64)
    ]
    assert abs(float(end - start)) > 0.1
    assert gaps[1] < 0.01 * abs(float(end - start)) < gaps[0]


def test_gradient_times_input_is_the_slope_along_each_tokens_way(model, tokens):
    metric, baseline = margin(model), torch.zeros(16)
    slopes = []
    for place in PLACES:
        ends = []
        for step in (-1e-2, 1e-2):
            moved = embeddings(model).clone()
            moved[:, place] *= 1 + step
            yes, no = answers(model, moved)[0]
            ends.append(float(yes - no))
        slopes.append((ends[1] - ends[0]) / 2e-2)
    np.testing.assert_allclose(contributions(tokens, baseline, metric), slopes, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("kind", ["tokens", "behind_prefix"])
@pytest.mark.parametrize("at_once", [1, 16, 1024])
def test_an_exchanged_or_unseen_token_is_that_of_a_pass_of_its_own(
    model, kind, at_once, request, monkeypatch
):
    monkeypatch.setattr(row, "AT_ONCE", at_once)
    tokens, read = request.getfixturevalue(kind), Answers.of(model, [3, 7])
    states = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    changed, unseen = exchanged(tokens, states, read), cut(tokens, read)
    for at, place in enumerate(PLACES):
        moved = embeddings(model).clone()
        moved[0, place] = states[at]
        torch.testing.assert_close(changed[at], answers(model, moved)[0], atol=1e-5, rtol=0)
        with knock_out(model, between(range(place + 1, 7), [place]), range(3)):
            torch.testing.assert_close(unseen[at], answers(model, embeddings(model))[0], atol=1e-5, rtol=0)
    assert float((changed[0] - changed[1]).abs().max()) > 1e-2
    assert float((unseen[0] - unseen[1]).abs().max()) > 1e-2


def test_shuffled_tokens_change_places_and_nothing_else(model, tokens):
    shuffled = tokens.shuffled([2, 0, 1])
    torch.testing.assert_close(shuffled.embedded, tokens.embedded[[2, 0, 1]])
    moved = embeddings(model)[:, [0, 1, 4, 2, 3, 5, 6]]
    read = Answers.of(model, [3, 7])
    kept = exchanged(shuffled, shuffled.embedded, read)
    torch.testing.assert_close(kept, answers(model, moved).expand(3, -1), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"3 tokens were to be put in the order \[0, 0, 1\]"):
        tokens.shuffled([0, 0, 1])
