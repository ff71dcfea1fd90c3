"""Edits at chosen tokens: they touch those tokens alone, steer the planted circuit, and leave nothing behind."""

import numpy as np
import planted as circuit
import pytest
import torch

from probing.edits.steering import added, at_tokens, projection_std
from probing.hooks import edit, record

SITE = f"blocks.{circuit.LAYER}.hook_resid_post"


@pytest.fixture(scope="module")
def model():
    return circuit.planted()


def logits(model, question="kind"):
    ids = torch.tensor([circuit.prompt(leaf, question) for leaf in circuit.LEAVES])
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_only_the_chosen_tokens_change(model):
    ids = torch.tensor([circuit.prompt("crow"), circuit.prompt("carp")])
    last = circuit.spans()["last"]
    with torch.no_grad(), record(model, SITE) as clean:
        model(input_ids=ids)
    add = at_tokens(added(torch.ones(circuit.WIDTH)), last)
    with torch.no_grad(), edit(model, {SITE: add}), record(model, SITE) as seen:
        model(input_ids=ids)
    torch.testing.assert_close(seen[SITE][:, last[0]], clean[SITE][:, last[0]] + 1, rtol=0, atol=1e-6)
    kept = [at for at in range(ids.shape[1]) if at not in last]
    assert torch.equal(seen[SITE][:, kept], clean[SITE][:, kept])


def test_positions_may_differ_from_row_to_row_and_count_from_the_first_token(model):
    value = torch.zeros(2, 3, 4)
    changed = at_tokens(lambda rows: rows + 1, torch.tensor([[2], [4]]), skip=2)(value)
    assert changed is not None
    assert changed[..., 0].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_no_token_no_dose_and_the_same_values_change_no_bit(model):
    clean = logits(model)
    for change in (
        at_tokens(added(torch.ones(circuit.WIDTH)), ()),
        at_tokens(lambda value: value, (2, 3)),
        at_tokens(added(torch.zeros(circuit.WIDTH)), (2, 3)),
    ):
        with edit(model, {SITE: change}):
            assert torch.equal(logits(model), clean)


def test_steering_along_the_planted_direction_raises_that_hypernym_with_the_dose_and_nothing_else(model):
    clean = logits(model)[:, -1]
    bird = circuit.hypernym_direction("bird")
    random = torch.randn(circuit.WIDTH, generator=torch.Generator().manual_seed(0))
    random *= (
        0.1 / random.norm()
    )  # few of its dimensions are read; at the same length it moves the norm alone
    found = []
    for dose in (0.5, 1.0, 2.0):
        with edit(model, {SITE: at_tokens(added(dose * bird), circuit.spans()["last"])}):
            found.append(logits(model)[:, -1])
    words = [circuit.ID[name] for name in circuit.HYPERNYMS]
    at = circuit.HYPERNYMS.index("bird")
    rise = [
        steered[:, words].log_softmax(1)[:, at] - clean[:, words].log_softmax(1)[:, at] for steered in found
    ]
    others = torch.tensor([circuit.hypernym_of(leaf) != "bird" for leaf in circuit.LEAVES])
    assert (rise[0][others] > 0.5).all()
    assert (rise[1] > rise[0])[others].all()
    assert (rise[2] > rise[1])[others].all()
    leaves = [circuit.ID[leaf] for leaf in circuit.LEAVES]
    names = logits(model, "called")[:, -1, leaves].argmax(1)
    with edit(model, {SITE: at_tokens(added(2.0 * bird), circuit.spans("called")["last"])}):
        assert torch.equal(logits(model, "called")[:, -1, leaves].argmax(1), names)
    with edit(model, {SITE: at_tokens(added(random), circuit.spans()["last"])}):
        moved = logits(model)[:, -1, words].log_softmax(1)[:, at] - clean[:, words].log_softmax(1)[:, at]
    assert moved.abs().max() < 0.5 * rise[0][others].min()


def test_an_error_inside_leaves_no_hook(model):
    clean = logits(model)

    def fail(_):
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), edit(model, {SITE: at_tokens(fail, (1,))}):
        logits(model)
    assert torch.equal(logits(model), clean)


def test_a_dose_is_told_in_standard_deviations_of_the_projection():
    rows = np.random.default_rng(0).standard_normal((5000, 3)) * [1, 5, 0]
    assert projection_std(rows, np.array([0, 2.0, 0])) == pytest.approx(5, rel=0.05)
    assert projection_std(torch.tensor(rows), torch.tensor([0, 2.0, 0]).double()) == pytest.approx(
        5, rel=0.05
    )
    with pytest.raises(ValueError, match="do not vary along this direction"):
        projection_std(rows, np.array([0, 0, 1.0]))


@pytest.mark.parametrize("tokens", [(1,), (9,)])
def test_tokens_that_are_not_in_the_pass_are_refused(tokens):
    change = at_tokens(lambda rows: rows, tokens, skip=2)
    with pytest.raises(ValueError, match="found tokens 2 to 4 in this pass"):
        change(torch.zeros(1, 3, 4))
