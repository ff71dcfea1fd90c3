"""Jacobian lens: exact where the model is affine, the derivative of a tiny model, means over tokens; refusals."""

import pytest
import torch
from tiny_models import tiny

from probing.hooks import edit, record
from probing.lens import linearise, mean_of

IDS = torch.tensor([[5, 9, 33, 47, 12], [7, 3, 21, 90, 64]])


def span(*places, rows=2, tokens=5):
    mask = torch.zeros(rows, tokens, dtype=torch.bool)
    mask[:, list(places)] = True
    return mask


def test_an_affine_model_is_its_own_linearisation():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    states = torch.randn(6, 2, 4, generator=generator, dtype=torch.float64)
    states[:, 1] = states[0, 1]  # what the other token adds is a part of the offset
    states.requires_grad_()

    def output(states):
        return states[:, 0] @ first + states[:, 1] @ second + 1

    maps = linearise(output(states), {"a": states}, {"slot": span(0, rows=6, tokens=2)})
    new = states.detach().clone()
    new[:, 0] = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    found = maps["a", "slot"](new[:, 0])
    torch.testing.assert_close(found.double(), output(new), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(maps["a", "slot"].matrix.double(), first.T, rtol=1e-6, atol=1e-6)
    both = linearise(output(states), {"a": states}, {"slot": span(0, 1, rows=6, tokens=2)})["a", "slot"]
    torch.testing.assert_close(both.matrix.double(), (first + second).T / 2, rtol=1e-6, atol=1e-6)
    assert (maps["a", "slot"].n, both.n) == (6, 12)


def test_the_matrix_is_the_mean_of_finite_differences_at_every_site():
    model = tiny("gpt2").double()  # Llama's norm is computed in float32
    last, sites = "blocks.2.hook_resid_post", ("hook_embed", "blocks.1.hook_resid_post")
    spans = {"slot": span(1, 2), "last": span(4)}
    given = model.get_input_embeddings()(IDS).detach().requires_grad_()
    with record(model, [*sites, last]) as seen:
        model(inputs_embeds=given)
    maps = linearise(seen[last][:, -1], {site: seen[site] for site in sites}, spans)

    def answer(site, row, token, move):
        def push(value):
            new = value.clone()
            new[row, token] += move
            return new

        with torch.no_grad(), edit(model, {site: push}), record(model, last) as seen:
            model(inputs_embeds=given)
        return seen[last][row, -1]

    step = 1e-5
    for site in sites:
        for name, places in (("slot", (1, 2)), ("last", (4,))):
            for column in (0, 17):
                move = torch.zeros(32, dtype=torch.float64)
                move[column] = step
                slopes = [
                    (answer(site, row, token, move) - answer(site, row, token, -move)) / (2 * step)
                    for row in (0, 1)
                    for token in places
                ]
                expected = torch.stack(slopes).mean(0)
                assert expected.abs().max() > 1e-3
                torch.testing.assert_close(
                    maps[site, name].matrix[:, column].double(), expected, atol=1e-5, rtol=1e-4
                )
    one = linearise(*_again(model, given, last), {"last": span(4)})[last, "last"]
    torch.testing.assert_close(one.matrix, torch.eye(32), atol=1e-6, rtol=0)
    torch.testing.assert_close(one.offset, torch.zeros(32), atol=1e-6, rtol=0)


def _again(model, given, site):
    with record(model, site) as seen:
        model(inputs_embeds=given)
    return seen[site][:, -1], {site: seen[site]}


def test_batches_count_by_their_tokens():
    states = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)

    def maps(states):
        return linearise(
            states[:, 0].square() @ torch.ones(4, 2),
            {"a": states},
            {"slot": span(0, rows=len(states), tokens=2)},
        )

    whole = maps(states)["a", "slot"]
    parts = mean_of([maps(part.detach().requires_grad_())["a", "slot"] for part in (states[:2], states[2:])])
    torch.testing.assert_close((parts.matrix, parts.offset), (whole.matrix, whole.offset))
    assert parts.n == 3


def test_a_span_without_tokens_is_refused():
    states = torch.ones(2, 5, 4, requires_grad=True)
    with pytest.raises(ValueError, match="no row has a token in cue; linearise at other spans"):
        linearise(states[:, 0], {"a": states}, {"slot": span(0), "cue": span()})
