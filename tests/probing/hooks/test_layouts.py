import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from tiny_models import CONFIGS, MULTIMODAL, SMALL, UNLISTED, tiny
from torch import nn

from probing.edits.knockout import knock_out
from probing.hooks.families import FAMILIES
from probing.hooks.layouts import layout_of
from probing.hooks.structure import relative_error, sample_tokens, tolerance
from probing.hooks.verify import verify
from probing.sites import EMBED, FINAL, Site


@pytest.mark.parametrize("name", [*CONFIGS, *MULTIMODAL])
def test_known_families_are_resolved_without_running(name):
    model = tiny(name)
    model.forward = None  # a forward pass would fail
    layout = layout_of(model)
    assert layout.model_type in FAMILIES
    assert len(layout.blocks) == 3
    assert layout.sites[0] == Site(EMBED)
    assert layout.sites[-1] == Site(FINAL)


@pytest.mark.parametrize("name", UNLISTED)
def test_unlisted_families_are_resolved_by_running_them(name):
    model = tiny(name)
    with pytest.warns(UserWarning, match="is not in probing.hooks.families.FAMILIES"):
        layout = layout_of(model)
    parallel = name in ("stablelm_parallel", "cohere")
    assert (layout.family.mid == "") == parallel
    assert bool(layout.family.attention_norm) == (name == "glm4")


@pytest.mark.parametrize(
    "name", ["llama", "gemma2", "gemma3", "gpt2", "pythia", "gpt_neox_sequential", "olmo2", "phi", "phi3"]
)
def test_running_a_family_finds_what_its_listing_says(name, monkeypatch):
    listed = layout_of(tiny(name)).family
    monkeypatch.delitem(FAMILIES, layout_of(tiny(name)).model_type)
    model = tiny(name)
    if name == "pythia":
        model.gpt_neox.config.model_type = "unlisted"
    with pytest.warns(UserWarning, match="running it once showed"):
        found = layout_of(model).family
    assert found == listed


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("granite", r"resid_pre \+ self_attn \+ mlp = resid_post does not hold"),
        ("opt", "not every block has one mlp named mlp, feed_forward.*: block 0 has self_attn"),
    ],
)
def test_blocks_that_add_something_else_have_the_residual_stream_alone(name, reason):
    model = tiny(name)
    with pytest.warns(
        UserWarning, match=f"'{name}' is not in .* only the residual stream is captured: {reason}"
    ):
        layout = layout_of(model)
    points = {site.point for site in layout.sites}
    assert layout.streams_only
    assert points == {EMBED, "hook_resid_pre", "hook_resid_post", FINAL}
    with pytest.raises(KeyError, match=r"has no blocks\.0\.hook_mlp_out; available: hook_embed, blocks\.0-"):
        layout.point(Site("hook_mlp_out", 0))
    report = verify(model)
    assert report.holds, str(report)
    model.set_attn_implementation("eager")
    with (
        pytest.raises(
            ValueError, match=f"'{name}' has the residual stream alone: its attention is not known"
        ),
        knock_out(model, [(3, 1)], layers=[0]),
    ):
        pass


def test_a_model_without_decoder_says_what_was_looked_for():
    with pytest.raises(
        ValueError,
        match=r"Linear cannot be captured: looked for blocks.*found none \(Linear did not run on tokens ",
    ):
        layout_of(nn.Linear(2, 2))


def test_two_decoders_are_not_chosen_between_and_the_advice_works():
    both = nn.Sequential(tiny("llama"), tiny("gpt2"))
    with pytest.raises(
        ValueError, match=r"LlamaModel at '0\.model', GPT2Model at '1\.transformer'; hand over one of them"
    ):
        layout_of(both)
    assert layout_of(both.get_submodule("0.model")).model_type == "llama"


def test_a_wrapped_model_is_found():
    class Ours(nn.Module):
        def __init__(self):
            super().__init__()
            self.projector, self.lm = nn.Linear(3, 32), tiny("qwen2")

    assert layout_of(Ours()).model_type == "qwen2"


def test_parallel_blocks_have_no_middle():
    layout = layout_of(tiny("phi"))
    with pytest.raises(KeyError, match=r"no site matches 'blocks\.0\.hook_resid_mid'"):
        layout.select("blocks.0.hook_resid_mid")


def test_attention_patterns_need_eager_attention():
    model = tiny("llama", attention="sdpa")
    with pytest.raises(ValueError, match=r"runs 'sdpa' attention.*set_attn_implementation\('eager'\)"):
        layout_of(model).select("blocks.0.attn.hook_pattern")
    model.set_attn_implementation("eager")
    assert len(layout_of(model).select("blocks.*.attn.hook_pattern")) == 3


def test_layouts_keep_no_model_alive():
    model = tiny("llama").model  # the decoder itself is the model
    layout_of(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_sample_tokens_leave_special_ones_out():
    model = tiny("llava")
    tokens = sample_tokens(model, rows=50, length=50)
    assert not set(tokens.unique().tolist()) & {0, 1, 2, 119}
    assert torch.equal(tokens, sample_tokens(model, rows=50, length=50))
    assert int(tokens.max()) < SMALL["vocab_size"]


def test_relative_error_is_relative_to_the_largest_value():
    assert relative_error(torch.tensor([1.0, 100.0]), torch.tensor([2.0, 100.0])) == pytest.approx(0.01)
    assert relative_error(torch.tensor([0.0]), torch.tensor([0.0])) == 0
    assert tolerance(torch.float32) == 1e-5
    assert tolerance(torch.bfloat16) == 16 * 2**-7


def test_config_without_one_number_of_heads_is_refused():
    model = hf.AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    model.model.config = SimpleNamespace(model_type="llama", num_attention_heads=[2, 2, 4])
    with pytest.raises(ValueError, match="says no num_attention_heads"):
        layout_of(model)
