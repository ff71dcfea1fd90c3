"""The same patch through our hooks, through nnsight and through TransformerLens gives the same logits."""

import pytest
import torch
from planted import ID, LAYER, picture_prompt, planted, prompt, spans
from tiny_models import tiny

from probing.backends.nnsight import NnsightRecorder
from probing.backends.transformer_lens import TransformerLensRecorder
from probing.hooks import edit
from probing.hooks.layouts import layout_of
from probing.patching import EACH, Alignment, Cell, Patch, Rows, edits_of, grid, span_states
from probing.sites import Site

pytest.importorskip("transformer_lens")
pytest.importorskip("nnsight")
BACKENDS = {"transformer_lens": TransformerLensRecorder, "nnsight": NnsightRecorder}
POINTS = ["hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_z"]

# What the libraries themselves warn about is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_every_library_patches_as_our_hooks_do(name, backend):
    model = tiny(name, attention="eager")
    ids = torch.randint(3, 110, (2, 3, 9), generator=torch.Generator().manual_seed(0))
    where = {"cue": (4, 5, 6, 7, 8)}
    clean, corrupted = (
        Rows(lambda part=part: {"input_ids": part, "use_cache": False}, where) for part in ids
    )
    sites = layout_of(model).select([f"blocks.1.{point}" for point in POINTS])
    states, _ = span_states(model, clean, sites, {"cue": EACH})
    library = BACKENDS[backend].of(model)
    for cell in [Cell((site,), "cue") for site in sites] + grid(
        model, "blocks.1.attn.hook_z", ["cue"], heads=True
    ):
        state = states[str(cell.sites[0]), "cue"]
        patch = Patch(cell, {str(cell.sites[0]): state if cell.head is None else state[:, :, cell.head]})
        edits = edits_of(corrupted, patch, EACH)
        with torch.no_grad(), edit(model, edits):
            expected = model(**corrupted.inputs()).logits
        found = library.patched(corrupted.inputs(), edits)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
        with torch.no_grad():
            assert not torch.allclose(expected, model(**corrupted.inputs()).logits, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_word_crow_put_into_a_picture_of_a_trout_makes_it_a_bird(backend):
    """The documented example."""
    model = planted()
    words = Rows(lambda: {"input_ids": torch.tensor([prompt("crow")])}, spans())
    picture = Rows(
        lambda: {"inputs_embeds": picture_prompt(model, "trout")[None], "use_cache": False}, spans(slot=4)
    )
    cell, pooled = Cell((Site("hook_resid_post", LAYER - 1),), "slot"), Alignment("mean")
    states, _ = span_states(model, words, cell.sites, {"slot": pooled})
    patch = Patch(cell, {str(site): states[str(site), "slot"] for site in cell.sites})
    edits = edits_of(picture, patch, pooled)
    found = BACKENDS[backend].of(model).patched(picture.inputs(), edits)
    with torch.no_grad(), edit(model, edits):
        expected = model(**picture.inputs()).logits
    with torch.no_grad():
        before = model(**picture.inputs()).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert found[0, -1].argmax() == ID["bird"]
    assert before[0, -1].argmax() == ID["fish"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_library_cannot_patch_is_refused(backend):
    library = BACKENDS[backend].of(tiny("llama", attention="eager"))
    with pytest.raises(ValueError, match="hook_embed"):
        library.patched({"inputs_embeds": torch.zeros(1, 3, 32)}, {"hook_embed": lambda value: value})
    with pytest.raises(KeyError, match="no site matches"):
        library.patched(
            {"input_ids": torch.ones(1, 3, dtype=torch.long)}, {"blocks.9.hook_resid_post": lambda v: v}
        )
