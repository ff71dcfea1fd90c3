"""Attention knock-out is exact on every family, with and without a cached prefix; the planted edge is found."""

import planted as circuit
import pytest
import torch
from tiny_models import CONFIGS, tiny
from transformers import DynamicCache

from probing.edits.knockout import between, knock_out
from probing.hooks import record

IDS = torch.tensor([[5, 9, 33, 47, 12, 8], [7, 3, 21, 90, 64, 31]])
EDGES = between((4, 5), (1, 2))


def run(model, ids=IDS, **more):
    with torch.no_grad():
        return model(input_ids=ids, **more).logits


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_blocked_edges_have_no_attention_and_the_others_share_it(name):
    model = tiny(name, attention="eager")
    with record(model, "blocks.*.attn.hook_pattern") as clean:
        before = run(model)
    with knock_out(model, EDGES, [1]), record(model, "blocks.*.attn.hook_pattern") as seen:
        after = run(model)
    first, blocked = (f"blocks.{layer}.attn.hook_pattern" for layer in (0, 1))
    assert torch.equal(seen[first], clean[first])
    queries, keys = (torch.tensor(side) for side in zip(*EDGES))
    assert (clean[blocked][:, :, queries, keys] > 0).all()
    assert (seen[blocked][:, :, queries, keys] == 0).all()
    torch.testing.assert_close(
        seen[blocked].sum(-1), torch.ones_like(seen[blocked].sum(-1)), rtol=0, atol=1e-6
    )
    open_keys = clean[blocked][:, :, 4].clone()
    open_keys[..., [1, 2]] = 0
    torch.testing.assert_close(
        seen[blocked][:, :, 4], open_keys / open_keys.sum(-1, keepdim=True), rtol=1e-5, atol=1e-6
    )
    assert torch.equal(seen[blocked][:, :, :4], clean[blocked][:, :, :4])
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(-1).all()
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_no_edge_and_no_layer_change_no_bit(name):
    model = tiny(name, attention="eager")
    clean = run(model)
    for edges, layers in (((), [0, 1]), (EDGES, []), ([[], []], [0])):
        with knock_out(model, edges, layers):
            assert torch.equal(run(model), clean)


def test_positions_count_from_the_first_cached_token():
    model = tiny("llama", attention="eager")
    with knock_out(model, EDGES, [0, 2]):
        whole = run(model)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=IDS[:, :3], past_key_values=cache, use_cache=True)
    with knock_out(model, EDGES, [0, 2]):
        rest = run(model, IDS[:, 3:], past_key_values=cache, position_ids=torch.arange(3, 6)[None])
    torch.testing.assert_close(rest, whole[:, 3:], rtol=1e-5, atol=1e-5)


def test_each_row_may_have_its_own_edges():
    model = tiny("llama", attention="eager")
    clean, all_rows = run(model), None
    with knock_out(model, EDGES, [1]):
        all_rows = run(model)
    with knock_out(model, [EDGES, []], [1]):
        first_only = run(model)
    assert torch.equal(first_only[0], all_rows[0])
    torch.testing.assert_close(first_only[1], clean[1], rtol=1e-6, atol=1e-6)


def test_an_error_inside_leaves_no_hook():
    model = tiny("llama", attention="eager")
    clean = run(model)

    def fail():
        with knock_out(model, EDGES, [0]):
            run(model)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert torch.equal(run(model), clean)


def test_edges_are_causal_and_leave_out_the_token_itself():
    assert between((3, 4), (2, 3)) == ((3, 2), (4, 2), (4, 3))


@pytest.mark.parametrize(
    ("edges", "layers", "message"),
    [
        (EDGES, [3], "layers 0 to 2"),
        (((1, 2),), [0], "not causal"),
        (((0, 0),), [0], "query 0 would see no key"),
        (((8, 0),), [0], "the query 8 of a blocked edge is not in this pass"),
        ([EDGES] * 3, [0], "edges were given for 3 rows, the pass has 2"),
    ],
)
def test_what_cannot_be_knocked_out_is_refused(edges, layers, message):
    model = tiny("llama", attention="eager")
    clean = run(model)
    with pytest.raises((ValueError, KeyError), match=message), knock_out(model, edges, layers):
        run(model)
    assert torch.equal(run(model), clean)


def test_attention_that_takes_no_mask_is_refused():
    model = tiny("llama", attention="sdpa")
    with pytest.raises(ValueError, match="runs 'sdpa' attention"), knock_out(model, EDGES, [0]):
        run(model)


@pytest.fixture(scope="module")
def planted():
    return circuit.planted()


def answers(model, question="kind"):
    """Whether every leaf's prompt is answered as it should be."""
    right = {"kind": circuit.hypernym_of, "called": lambda leaf: leaf}[question]
    known = torch.tensor([circuit.ID[name] for name in sorted({right(leaf) for leaf in circuit.LEAVES})])
    said = run(model, torch.tensor([circuit.prompt(leaf, question) for leaf in circuit.LEAVES]))[:, -1, known]
    return all(circuit.WORDS[known[at]] == right(leaf) for at, leaf in zip(said.argmax(1), circuit.LEAVES))


def test_the_planted_edge_carries_the_answer_and_no_other_does(planted):
    spans = circuit.spans()
    slot_to_last = between(spans["last"], spans["slot"])
    slot_to_cue = between(spans["cue"][:-1], spans["slot"])
    cue_to_last = between(spans["last"], spans["cue"])
    assert answers(planted)
    with knock_out(planted, slot_to_last, [circuit.LAYER]):
        assert not answers(planted)
    others = [layer for layer in range(circuit.LAYERS) if layer != circuit.LAYER]
    with knock_out(planted, slot_to_last, others):
        assert answers(planted)
    with knock_out(planted, (*slot_to_cue, *cue_to_last), range(circuit.LAYERS)):
        assert answers(planted)
    assert answers(planted, "called")
