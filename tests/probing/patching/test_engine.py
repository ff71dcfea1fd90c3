"""Restarted runs equal runs with hooks, self-patches change no bit, and what cannot be patched is refused."""

import threading

import pytest
import torch
from planted import picture_prompt, planted, prompt, spans
from tiny_models import tiny
from transformers import DynamicCache

from probing.hooks import edit
from probing.hooks.layouts import layout_of
from probing.patching import (
    EACH,
    Alignment,
    Answers,
    Cell,
    Patch,
    Restart,
    Rows,
    edits_of,
    grid,
    keep,
    patched_by_hooks,
    same_norm,
    span_states,
)
from probing.sites import Site

SPANS = {"noun": (2, 3), "cue": (4, 5, 6, 7, 8), "last": (8,)}
ALIGNMENTS = {"noun": Alignment("mean"), "cue": EACH, "last": EACH}
POINTS = ["hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_z"]


def token_rows(seed, rows=4):
    ids = torch.randint(3, 110, (rows, 9), generator=torch.Generator().manual_seed(seed))
    return Rows(lambda: {"input_ids": ids}, SPANS)


def prefixed_rows(model, seed, rows=4):
    """Rows behind two tokens that come in as cached keys and values."""
    ids = token_rows(seed, rows).inputs()["input_ids"]
    with torch.no_grad():
        past = model.base_model(input_ids=torch.tensor([[5, 7]]), use_cache=True).past_key_values
        words = model.get_input_embeddings()(ids[:, 2:])

    def inputs():
        cache = DynamicCache(
            [
                (layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1))
                for layer in past.layers
            ]
        )
        return {
            "inputs_embeds": words,
            "position_ids": torch.arange(2, 9).expand(rows, -1),
            "past_key_values": cache,
        }

    return Rows(inputs, SPANS, skip=2)


def every_kind_of_cell(model):
    cells = [cell for point in POINTS for cell in grid(model, f"blocks.*.{point}", list(SPANS))]
    cells += grid(model, "blocks.*.attn.hook_z", ["cue", "last"], heads=True)
    cells += grid(model, "blocks.*.hook_attn_out", ["noun"], window=2)
    return cells + grid(model, "blocks.*.hook_resid_post", ["cue"], cumulative=True)


def patches_from(model, rows, cells):
    sites = layout_of(model).select([f"blocks.*.{point}" for point in POINTS])
    states, _ = span_states(model, rows, sites, ALIGNMENTS)

    def state(cell, site):
        found = states[str(site), cell.span]
        return found if cell.head is None else found[:, :, cell.head]

    return [Patch(cell, {str(site): state(cell, site) for site in cell.sites}) for cell in cells]


FAMILIES = ("llama", "qwen3", "gemma2", "gemma3", "gpt2", "pythia", "olmo2", "phi", "smollm3", "llava")


@pytest.mark.parametrize(
    "name, prefix", [*((name, False) for name in FAMILIES), ("llama", True), ("gpt2", True), ("gemma3", True)]
)
def test_restarted_runs_equal_runs_of_the_whole_model_with_hooks(name, prefix):
    model = tiny(name, attention="eager")
    make = (lambda seed: prefixed_rows(model, seed)) if prefix else token_rows
    rows, read = make(0), Answers.of(model, range(3, 30))
    patches = patches_from(model, make(1), every_kind_of_cell(model))
    found = Restart(model, keep(model, rows), ALIGNMENTS).run(patches, read, tokens=100)
    plain = torch.stack(
        [patched_by_hooks(model, rows, one, read, ALIGNMENTS[one.cell.span]) for one in patches]
    )
    assert (found - plain).abs().max() <= 1e-5
    unpatched = read(model.base_model(**rows.inputs(), use_cache=True).last_hidden_state[:, -1])
    changed = (plain - unpatched).abs().amax((1, 2)) > 1e-4
    # All but what the noun does in the last layer, which no later token sees.
    late = [
        one.cell.span == "noun" and one.cell.layers[0] == 2 and "pre" not in one.cell.point for one in patches
    ]
    assert changed.tolist() == [not one for one in late]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "pythia"])
def test_patching_a_run_into_itself_changes_no_bit(name):
    model = tiny(name, attention="eager")
    rows = token_rows(0)
    cells = [cell for point in POINTS for cell in grid(model, f"blocks.*.{point}", list(SPANS))]
    cells += grid(model, "blocks.*.attn.hook_z", list(SPANS), heads=True)
    states, _ = span_states(
        model, rows, layout_of(model).select([f"blocks.*.{p}" for p in POINTS]), dict.fromkeys(SPANS, EACH)
    )
    with torch.no_grad():
        expected = model(**rows.inputs()).logits
        for cell in cells:
            own = states[str(cell.sites[0]), cell.span]
            patch = Patch(cell, {str(cell.sites[0]): own if cell.head is None else own[:, :, cell.head]})
            with edit(model, edits_of(rows, patch, EACH)):
                assert torch.equal(model(**rows.inputs()).logits, expected), cell
        with edit(model, {}):
            assert torch.equal(model(**rows.inputs()).logits, expected)


@pytest.mark.parametrize("points", [["hook_resid_pre", "hook_resid_post"], POINTS])
def test_lists_of_patches_side_by_side_have_the_bits_of_each_alone(points):
    model, second = tiny("llama"), token_rows(2)
    cells = [cell for point in points for cell in grid(model, f"blocks.*.{point}", list(SPANS))]
    lists = [patches_from(model, token_rows(seed), cells) for seed in (1, 3, 4)]
    restart = Restart(model, keep(model, second), ALIGNMENTS)
    read = Answers.of(model, [3, 50, 9])
    alone = [restart.run(patches, read, tokens=80) for patches in lists]
    names, count = set(), []

    def watched(hidden):
        names.add(threading.current_thread().name)
        return read(hidden)

    answers = restart.run_each(lists, watched, tokens=80, workers=3, done=count.append)
    assert all(torch.equal(one, other) for one, other in zip(answers, alone, strict=True))
    assert sum(count) == 3 * len(cells)
    inside = points is POINTS
    assert (threading.main_thread().name in names) == inside  # hooks are seen by all threads
    assert (len(names) == 1) or not inside


def test_words_go_into_pictures_and_pictures_into_words():
    """Four picture tokens against one of the noun, in both directions, right in every cell before the planted layer."""
    model = planted()
    read = Answers.of(model, range(8, 12))
    picture = torch.stack([picture_prompt(model, leaf) for leaf in ("trout", "saw")])
    words = torch.tensor([prompt("crow"), prompt("apple")])
    rows = {
        "image": Rows(lambda: {"inputs_embeds": picture}, spans(slot=4)),
        "text": Rows(lambda: {"input_ids": words}, spans()),
    }
    right = {"text": [0, 3], "image": [1, 2]}
    for source, target in (("text", "image"), ("image", "text")):
        states, _ = span_states(
            model, rows[source], [Site("hook_resid_post", 0)], {"slot": Alignment("mean")}
        )
        patch = Patch(
            Cell((Site("hook_resid_post", 0),), "slot"),
            {"blocks.0.hook_resid_post": states["blocks.0.hook_resid_post", "slot"]},
        )
        restart = Restart(model, keep(model, rows[target]), {"slot": Alignment("mean")})
        assert restart.run([patch], read)[0].argmax(-1).tolist() == right[source]


def test_an_error_inside_an_edit_or_a_restart_leaves_the_model_as_it_was():
    model = tiny("llama", attention="eager")
    rows = token_rows(0)
    kept = keep(model, rows)
    patch = patches_from(model, token_rows(1), [Cell((Site("hook_attn_out", 1),), "cue")])[0]
    broken = Patch(patch.cell, {"blocks.1.hook_attn_out": torch.zeros(4, 3, 32)})
    with torch.no_grad():
        expected = model(**rows.inputs()).logits
        with pytest.raises(RuntimeError, match="expand"):
            Restart(model, kept).run([broken], lambda hidden: hidden)
        with pytest.raises(RuntimeError, match="expand"):
            patched_by_hooks(model, rows, broken, lambda hidden: hidden)
        with pytest.raises(ZeroDivisionError), edit(model, {"blocks.0.hook_resid_post": lambda value: 1 / 0}):
            model(**rows.inputs())
        assert torch.equal(model(**rows.inputs()).logits, expected)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_spans_of_other_lengths_are_refused_with_the_reason():
    with pytest.raises(
        ValueError, match=r"'slot' has 1 tokens where the state comes from and 4 where it goes.*'mean'"
    ):
        EACH.check("slot", 1, 4)
    Alignment("mean").check("slot", 1, 4)
    with pytest.raises(ValueError, match="span 'slot' has 0 tokens"):
        Alignment("mean").check("slot", 0, 4)
    with pytest.raises(KeyError, match="alignment 'both' was asked for; known: each: token by token"):
        Alignment("both")
    value = torch.arange(6.0).reshape(1, 3, 2)
    assert Alignment("mean").read(value, (0, 2)).tolist() == [[[2, 3]]]
    assert Alignment("last").read(value, (0, 2)).tolist() == [[[4, 5]]]
    assert Alignment("last").target((0, 2)) == (2,)
    assert Alignment("spread").target((0, 2)) == (0, 2)


def test_what_cannot_be_patched_is_refused():
    model = tiny("llama", attention="eager")
    rows = token_rows(0)
    with pytest.raises(ValueError, match=r"first 3 tokens are a cached prefix that all rows share"):
        Rows(rows.inputs, SPANS, skip=3).positions("noun")
    with pytest.raises(KeyError, match="no span 'image'; they have noun, cue, last"):
        rows.positions("image")
    with pytest.raises(ValueError, match=r"what enters the stack is blocks\.0\.hook_resid_pre"):
        Cell((Site("hook_embed"),), "cue")
    with pytest.raises(
        ValueError, match=r"head 1 of hook_attn_out was asked for; only attn\.hook_z has heads"
    ):
        Cell((Site("hook_attn_out", 0),), "cue", 1)
    with pytest.raises(ValueError, match=r"a window of 4 layers was asked for, hook_attn_out was asked at 3"):
        grid(model, "blocks.*.hook_attn_out", ["cue"], window=4)
    with pytest.raises(ValueError, match=r"single heads were asked for"):
        grid(model, "blocks.*.hook_attn_out", ["cue"], heads=True)
    padded = Rows(lambda: {**rows.inputs(), "attention_mask": torch.eye(4, 9).long()}, SPANS)
    with pytest.raises(ValueError, match="a row is padded"):
        keep(model, padded)


def test_models_that_cannot_be_restarted_are_refused_and_say_what_can_be_done():
    model = tiny("cohere", attention="eager")
    with pytest.raises(ValueError, match="it scales its logits in a way not known here"):
        Answers.of(model, [3])
    model = tiny("llama", attention="eager")
    kept = keep(model, token_rows(0))
    patch = patches_from(model, token_rows(1), [Cell((Site("hook_resid_post", 1),), "cue")])
    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight.mul_(1.1)  # the kept pass is now of another model
    with pytest.raises(
        ValueError, match=r"llama: a restart at token 4 gives a state that differs .* patched_by_hooks"
    ):
        Restart(model, kept).run(patch, lambda hidden: hidden)
    sliding = tiny("gemma2", attention="eager")
    ids = torch.randint(3, 110, (2, 20), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"a sliding window\?\): patch with patched_by_hooks"):
        keep(sliding, Rows(lambda: {"input_ids": ids}, SPANS))


@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_resid_post"])
def test_what_a_model_adds_between_its_blocks_is_added_in_a_restart_where_it_is_fixed(point):
    model, rows = tiny("llama", attention="eager"), token_rows(0)
    more = torch.randn(4, 9, model.config.hidden_size, generator=torch.Generator().manual_seed(3))

    def add(
        _, args
    ):  # in passes of the model over whole rows, as its stack would, not where a block is called alone
        return (args[0] + more, *args[1:]) if args[0].shape[1] == 9 else None

    layout_of(model).blocks[1].register_forward_pre_hook(add)
    kept, read = keep(model, rows), Answers.of(model, [3, 7])
    torch.testing.assert_close(kept.behind(0) + more, kept.states[1])
    cells = [Cell((Site(point, layer),), span) for layer in range(3) for span in ("noun", "cue")]
    patches = patches_from(model, token_rows(1), cells)
    found = Restart(model, kept, ALIGNMENTS).run(patches, read)
    for patch, one in zip(patches, found, strict=True):
        expected = patched_by_hooks(model, rows, patch, read, ALIGNMENTS[patch.cell.span])
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)


def test_a_model_that_changes_the_stream_between_its_blocks_is_refused():
    model = tiny("llama", attention="eager")
    layout_of(model).blocks[1].register_forward_pre_hook(lambda _, args: (args[0] * 1.5, *args[1:]))
    with pytest.raises(ValueError, match=r"between blocks 0 and 1 depends on their states.*patched_by_hooks"):
        keep(model, token_rows(0))


def test_cells_are_named_as_sites_are():
    model = tiny("llama")
    assert [cell.site for cell in grid(model, "blocks.*.hook_mlp_out", ["last"], window=2)] == [
        "blocks.0-1.hook_mlp_out",
        "blocks.1-2.hook_mlp_out",
    ]
    last = grid(model, "blocks.*.hook_resid_post", ["last"], cumulative=True)[-1]
    assert (last.site, last.layers) == ("blocks.0-2.hook_resid_post", (0, 1, 2))
    assert len(grid(model, "blocks.*.attn.hook_z", ["cue", "last"], heads=True)) == 3 * 2 * 4


def test_a_random_state_has_the_length_of_the_given_one():
    state = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    made = same_norm(state, torch.Generator().manual_seed(1))
    torch.testing.assert_close(made.norm(dim=-1), state.norm(dim=-1))
    assert torch.equal(made, same_norm(state, torch.Generator().manual_seed(1)))
    assert torch.nn.functional.cosine_similarity(made, state, dim=-1).abs().max() < 0.99
