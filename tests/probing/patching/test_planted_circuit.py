"""On a circuit planted by hand the grid finds exactly the planted cell, and attribution and placebos agree with it."""

import numpy as np
import pytest
import torch
from planted import HEAD, HYPERNYMS, ID, LAYER, LAYERS, LEAVES, TAXONOMY, hypernym_of, planted, prompt, spans

from probing.hooks.layouts import layout_of
from probing.patching import (
    EACH,
    Answers,
    Patch,
    Restart,
    Rows,
    attribute,
    contrast,
    divergence,
    excess,
    grid,
    keep,
    patched_by_hooks,
    rank_agreement,
    restored_fraction,
    same_norm,
    span_states,
)

SPANS = ["slot", "cue", "last"]
#: Every leaf against one of the next hypernym.
PAIRS = [(leaf, TAXONOMY[HYPERNYMS[(HYPERNYMS.index(hypernym_of(leaf)) + 1) % 4]][0]) for leaf in LEAVES]
UP, DOWN = (
    torch.tensor([[name == hypernym_of(pair[side]) for name in HYPERNYMS] for pair in PAIRS])
    for side in (0, 1)
)


def rows(leaves):
    ids = torch.tensor([prompt(leaf) for leaf in leaves])
    return Rows(lambda: {"input_ids": ids}, {name: spans()[name] for name in SPANS})


@pytest.fixture(scope="module")
def circuit():
    model = planted()
    clean, corrupted = rows([pair[0] for pair in PAIRS]), rows([pair[1] for pair in PAIRS])
    return model, clean, corrupted, Answers.of(model, [ID[name] for name in HYPERNYMS])


def states_of(model, source, cells):
    sites = sorted({site for cell in cells for site in cell.sites}, key=lambda site: site.order)
    return span_states(model, source, sites, dict.fromkeys(SPANS, EACH))[0]


def patches_of(cells, states, change=lambda state: state):
    def state(cell, site):
        found = states[str(site), cell.span]
        return change(found if cell.head is None else found[:, :, cell.head])

    return [Patch(cell, {str(site): state(cell, site) for site in cell.sites}) for cell in cells]


def restored(circuit, cells, noising=False):
    """The restored fraction of each pair in each cell; for noising the share that is lost."""
    model, clean, corrupted, read = circuit
    source, target = (corrupted, clean) if noising else (clean, corrupted)
    found = Restart(model, keep(model, target)).run(patches_of(cells, states_of(model, source, cells)), read)
    ends = [contrast(read(keep(model, one).hidden[:, -1]), UP, DOWN) for one in (source, target)]
    return restored_fraction(*ends, contrast(found, UP, DOWN)).numpy()


@pytest.mark.parametrize("noising", [False, True])
def test_the_residual_grid_follows_the_hypernym_from_the_slot_to_the_last_token(circuit, noising):
    cells = grid(circuit[0], "blocks.*.hook_resid_post", ["slot", "last"])
    expected = [cell.layers[0] < LAYER if cell.span == "slot" else cell.layers[0] >= LAYER for cell in cells]
    found = restored(circuit, cells, noising)
    np.testing.assert_allclose(found, np.repeat(np.array(expected, float)[:, None], len(PAIRS), 1), atol=1e-5)


def test_of_all_heads_at_all_spans_one_writes_the_hypernym(circuit):
    cells = grid(circuit[0], "blocks.*.attn.hook_z", SPANS, heads=True)
    found = restored(circuit, cells).min(1)
    whole = [(cell.layers[0], cell.head, cell.span) for cell, value in zip(cells, found) if value > 0.5]
    # The cue holds the last token.
    assert whole == [(LAYER, HEAD, "cue"), (LAYER, HEAD, "last")]
    others = [value for cell, value in zip(cells, found) if (cell.layers[0], cell.head) != (LAYER, HEAD)]
    assert np.abs(others).max() < 1e-5
    for point, where in (("hook_attn_out", [LAYER]), ("hook_mlp_out", [])):
        cells = grid(circuit[0], f"blocks.*.{point}", ["last"])
        assert [c.layers[0] for c, v in zip(cells, restored(circuit, cells).min(1)) if v > 0.5] == where


def test_windows_and_cumulative_cells_hold_what_their_layers_hold(circuit):
    windows = grid(circuit[0], "blocks.*.hook_attn_out", ["last"], window=2)
    found = restored(circuit, windows).min(1) > 0.5
    assert found.tolist() == [LAYER in cell.layers for cell in windows]
    cumulative = grid(circuit[0], "blocks.*.hook_attn_out", ["last"], cumulative=True)
    assert (restored(circuit, cumulative).min(1) > 0.5).tolist() == [
        layer >= LAYER for layer in range(LAYERS)
    ]


def test_exactly_the_planted_cell_beats_its_placebos(circuit):
    """A random state and a leaf of a third hypernym also move the log-odds, but less than the clean run's state."""
    model, clean, corrupted, read = circuit
    cells = grid(model, "blocks.*.attn.hook_z", ["slot", "last"], heads=True)
    restart = Restart(model, keep(model, corrupted))
    third = [TAXONOMY[HYPERNYMS[(HYPERNYMS.index(hypernym_of(pair[0])) + 2) % 4]][0] for pair in PAIRS]
    states = states_of(model, clean, cells)
    generator = torch.Generator().manual_seed(0)
    made = {
        "clean": patches_of(cells, states),
        "random": patches_of(cells, states, lambda state: same_norm(state, generator)),
        "stranger": patches_of(cells, states_of(model, rows(third), cells)),
    }
    base = contrast(read(keep(model, corrupted).hidden[:, -1]), UP, DOWN)
    effects = {
        kind: (contrast(restart.run(patches, read), UP, DOWN) - base).numpy()
        for kind, patches in made.items()
    }
    clusters = np.array([pair[0] for pair in PAIRS])
    beats = [excess(effects["clean"], effects[kind], clusters, 200).beats for kind in ("random", "stranger")]
    beats.append(excess(effects["clean"], 0.0, clusters, 200).beats)
    counted = [(cell.layers[0], cell.head, cell.span) for cell, all_ in zip(cells, np.all(beats, 0)) if all_]
    assert counted == [(LAYER, HEAD, "last")]
    planted_at = [(c.layers[0], c.head, c.span) for c in cells].index((LAYER, HEAD, "last"))
    # Taking the corrupted hypernym away is half of the way, and both placebos do that.
    assert (effects["stranger"][planted_at] > 1).all()
    own = excess(effects["stranger"], effects["stranger"], clusters, 200)
    assert (own.value == 0).all()
    assert not own.beats.any()


def test_attributions_rank_the_planted_head_first_and_integrated_ones_are_exact(circuit):
    model, clean, corrupted, read = circuit
    heads = grid(model, "blocks.*.attn.hook_z", ["slot", "last"], heads=True)
    cells = [*heads, *grid(model, "blocks.*.hook_resid_post", ["slot", "last"])]
    states = states_of(model, clean, cells)

    def metric(hidden):
        return contrast(read(hidden), UP, DOWN)

    true = contrast(Restart(model, keep(model, corrupted)).run(patches_of(cells, states), read), UP, DOWN)
    true = true - contrast(read(keep(model, corrupted).hidden[:, -1]), UP, DOWN)
    plain = attribute(model, corrupted, cells, states, metric)
    assert heads[int(plain[: len(heads)].mean(1).argmax())] == next(
        c for c in heads if (c.layers[0], c.head, c.span) == (LAYER, HEAD, "last")
    )
    # Attention is saturated, so that a gradient at the noun sees the value that is carried and not the key.
    whole = attribute(model, corrupted, cells, states, metric, steps=40)
    at_last = [i for i, cell in enumerate(cells) if cell.span == "last"]
    torch.testing.assert_close(whole[at_last], true[at_last], rtol=0, atol=2e-3)
    agreement = rank_agreement(whole[at_last].numpy(), true[at_last].numpy())
    assert agreement.value > 0.95
    assert agreement.n == len(at_last)
    with pytest.raises(ValueError, match="three cells at least"):
        rank_agreement(np.zeros((2, 4)), np.zeros((2, 4)))


def test_gradients_start_at_embeddings_behind_a_mask_free_cache_too(circuit):
    model, clean, corrupted, read = circuit
    cells = grid(model, "blocks.*.hook_attn_out", ["last"], window=2)
    states = states_of(model, clean, cells)
    found = attribute(model, corrupted, cells, states, lambda hidden: contrast(read(hidden), UP, DOWN))
    single = attribute(
        model, corrupted, grid(model, "blocks.*.hook_attn_out", ["last"]), states,
        lambda hidden: contrast(read(hidden), UP, DOWN),
    )  # fmt: skip
    torch.testing.assert_close(found, single[:-1] + single[1:])
    assert layout_of(model).blocks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_outcomes_are_what_they_say():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    up, down = (
        torch.tensor([[True, False, False]] * 2),
        torch.tensor([[False, True, True], [False, False, False]]),
    )
    found = contrast(logits, up, down)
    assert found[0] == 2
    assert torch.isnan(found[1])
    assert divergence(logits, logits).abs().max() == 0
    p = torch.softmax(logits[0], -1)
    assert divergence(logits[:1], torch.zeros(1, 3))[0] == pytest.approx(
        float((p * (p * 3).log()).sum()), abs=1e-6
    )
    share = restored_fraction(np.array([2.0, 1.0]), np.array([0.0, 1.0]), np.array([[1.0, 5.0]]))
    assert share[0, 0] == 0.5
    assert np.isnan(share[0, 1])  # clean and corrupted do not differ


def test_restarts_equal_hooks_on_the_planted_model(circuit):
    model, clean, corrupted, read = circuit
    cells = grid(model, "blocks.*.attn.hook_z", ["last"], heads=True)
    patches = patches_of(cells, states_of(model, clean, cells))
    found = Restart(model, keep(model, corrupted)).run(patches, read)
    plain = torch.stack([patched_by_hooks(model, corrupted, one, read) for one in patches])
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)
