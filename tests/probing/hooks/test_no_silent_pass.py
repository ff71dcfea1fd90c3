"""Compiled, adapted, quantised, absent and prompt-tuned models, and several passes: recorded truly or refused."""

import types

import pytest
import torch
from tiny_models import tiny
from torch import nn

from probing.capture import CaptureBatch, capture
from probing.hooks import edit, record
from probing.hooks.layouts import layout_of
from probing.hooks.provenance import adapters_of, weight_hash
from probing.hooks.verify import verify
from probing.patching import Answers, Cell, Patch, Restart, Rows, keep
from probing.sites import Site
from probing.store import MismatchError

IDS = torch.tensor([[5, 6, 7, 8]])
POST = "blocks.*.hook_resid_post"


def compiled(how):
    model = tiny("llama")
    if how == "model":
        model.compile(backend="eager")
    elif how == "forward":
        model.forward = torch.compile(model.forward, backend="eager")
    else:
        for block in model.model.layers:
            block.compile(backend="eager")
    with torch.no_grad():
        model(IDS)  # the graph is there before any hook
    return model


@pytest.mark.parametrize("how", ["model", "forward", "blocks"])
def test_compiled_models_are_recorded_and_edited_as_they_are_written(how, tmp_path):
    model, plain = compiled(how), tiny("llama")
    with torch.no_grad():
        with record(plain, POST) as expected:
            plain(IDS)
        with record(model, POST) as seen:
            model(IDS)
        assert seen.keys() == expected.keys()
        assert all(torch.equal(seen[site], value) for site, value in expected.items())
        untouched = model(IDS).logits
        with edit(model, {"blocks.1.hook_resid_post": torch.zeros_like}):
            edited = model(IDS).logits
        with edit(plain, {"blocks.1.hook_resid_post": torch.zeros_like}):
            assert torch.equal(edited, plain(IDS).logits)
        assert not torch.equal(edited, untouched)
        assert torch.equal(model(IDS).logits, untouched)
    verify(model).require()
    store = capture(model, [CaptureBatch({"input_ids": IDS}, ["a"], {"last": [(3,)]})], tmp_path, sites=POST)
    assert torch.equal(
        torch.from_numpy(store.read("blocks.2.hook_resid_post", "last")[0]),
        expected["blocks.2.hook_resid_post"][0, 3],
    )
    assert store.attributes["weight_hash"] == weight_hash(plain)


def test_a_second_pass_is_refused_unless_it_is_said_what_to_keep():
    model = tiny("llama")
    more = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    with pytest.raises(ValueError, match=r"reached twice .*keep='all'"), record(model, POST):
        model.generate(IDS, **more)
    assert not any(module._forward_hooks for module in model.modules())
    with record(model, POST, keep="all") as seen:
        model.generate(IDS, **more)
    assert [tuple(value.shape[:2]) for value in seen["blocks.1.hook_resid_post"]] == [(1, 4), (1, 1), (1, 1)]
    with record(model, POST, keep="last") as last:
        model.generate(IDS, **more)
    assert torch.equal(last["blocks.1.hook_resid_post"], seen["blocks.1.hook_resid_post"][-1])


def test_a_pass_that_goes_past_a_site_is_refused():
    model = tiny("llama")
    with torch.no_grad():
        hidden = model.model.embed_tokens(IDS)
        places = model.model.rotary_emb(hidden, torch.arange(4)[None])
    sites = ["blocks.0.hook_resid_post", "ln_final.*"]
    with (
        pytest.raises(ValueError, match=r"without reaching ln_final\.hook_normalized \(1 of 2 sites\)"),
        record(model, sites),
    ):
        model.model.layers[0](hidden, position_embeddings=places)


class Adapted(nn.Module):
    """A linear map with two low-rank adapters, which says of itself what PEFT's layers say."""

    def __init__(self, base):
        super().__init__()
        self.base, self.active_adapters, self.merged_adapters = base, ["A"], []
        self.scaling = {"A": 1.0, "B": 1.0}
        self.down = nn.ParameterDict({n: nn.Parameter(torch.randn(2, base.in_features)) for n in "AB"})
        self.up = nn.ParameterDict({n: nn.Parameter(torch.randn(base.out_features, 2)) for n in "AB"})

    def forward(self, value):
        out = self.base(value)
        for name in self.active_adapters:
            out = out + self.scaling[name] * (value @ self.down[name].T @ self.up[name].T)
        return out


def adapted():
    model = tiny("llama")
    for block in model.model.layers:
        block.mlp.down_proj = Adapted(block.mlp.down_proj)
    return model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"active_adapters": ["B"]}, r"adapters: there 'A ×1 in 3 modules', asked 'B ×1 in 3 modules'"),
        ({"active_adapters": []}, r"adapters: there 'A ×1 in 3 modules', asked 'none in 3 modules'"),
        ({"scaling": {"A": 2.0, "B": 1.0}}, r"asked 'A ×2 in 3 modules'"),
        ({"merged_adapters": ["B"]}, r"asked 'A ×1, merged B ×1 in 3 modules'"),
    ],
)
def test_adapters_are_part_of_what_a_store_is(tmp_path, change, said):
    model = adapted()
    batch = [CaptureBatch({"input_ids": IDS}, ["a"], {"last": [(3,)]})]
    capture(model, batch, tmp_path, sites=POST)
    capture(model, batch, tmp_path, sites=POST)
    for block in model.model.layers:
        vars(block.mlp.down_proj).update(change)
    with pytest.raises(MismatchError, match=said):
        capture(model, batch, tmp_path, sites=POST)
    assert adapters_of(tiny("llama")) == ""


def test_weights_that_are_not_in_memory_are_refused(tmp_path):
    from accelerate import cpu_offload

    batch = [CaptureBatch({"input_ids": IDS}, ["a"], {"last": [(3,)]})]
    for model in (tiny("llama").to("meta"), cpu_offload(tiny("llama"), torch.device("cpu"))):
        for refused in (verify, lambda model: capture(model, batch, tmp_path / "s", sites=POST)):
            with pytest.raises(ValueError, match=r"not in memory .*load it whole, without offloading"):
                refused(model)
    assert not (tmp_path / "s").exists()


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_dynamic_quantisation_is_refused_in_one_line_because_rows_see_one_another(tmp_path):
    model = torch.ao.quantization.quantize_dynamic(tiny("llama"), {nn.Linear}, dtype=torch.qint8)
    assert len(weight_hash(model)) == 64
    other = torch.ao.quantization.quantize_dynamic(tiny("qwen2"), {nn.Linear}, dtype=torch.qint8)
    assert weight_hash(model) != weight_hash(other)
    with pytest.raises(ValueError, match=r"cannot be captured faithfully: .*batch of 1 = batch of N"):
        capture(
            model, [CaptureBatch({"input_ids": IDS}, ["a"], {"last": [(3,)]})], tmp_path / "s", sites=POST
        )
    assert not (tmp_path / "s").exists()


def test_a_model_that_puts_tokens_of_its_own_before_the_rows_is_refused(tmp_path):
    model = tiny("llama")
    forward = model.model.forward

    def prompted(input_ids=None, inputs_embeds=None, attention_mask=None, position_ids=None, **more):
        words = model.model.embed_tokens(input_ids)
        return forward(inputs_embeds=torch.cat([words[:, :1]] * 2 + [words], 1), **more)

    batch = [CaptureBatch({"input_ids": IDS}, ["a"], {"last": [(3,)]})]
    layout_of(model)
    model.model.forward = prompted
    with pytest.raises(ValueError, match=r"shapes: not at .*\(2, 7, 32\) for \(2, 5\) tokens"):
        capture(model, batch, tmp_path / "s", sites=POST)


def weak(block, factor):
    """Makes a Llama block add a fraction of its attention output."""

    def forward(self, hidden_states, **more):
        added, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **more)
        middle = hidden_states + factor * added
        return middle + self.mlp(self.post_attention_layernorm(middle))

    block.forward = types.MethodType(forward, block)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [0.01, 0.9])
def test_a_block_that_adds_a_part_of_its_attention_is_red_in_any_type(dtype, factor):
    model = tiny("llama", dtype=dtype)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 3] += 20
    assert verify(model).holds
    weak(model.model.layers[1], factor)
    red = [check.name for check in verify(model).checks if not check.holds]
    assert red == ["resid_pre + attn_out + mlp_out = resid_post", "resid_pre + attn_out = resid_mid"]


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "olmo2", "pythia"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_channel_of_large_values_turns_no_right_model_red(name, dtype):
    model = tiny(name)
    with torch.no_grad():
        layout_of(model).embedding.weight[:, 3] += 20
    report = verify(model.to(dtype))
    assert report.holds, str(report)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restarts_of_another_model_are_refused_in_any_type(dtype):
    model = tiny("llama", dtype=dtype)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 3] += 20
    rows = Rows(lambda: {"input_ids": torch.tensor([[5, 6, 7, 8, 9, 10]])}, {"cue": (3, 4), "last": (5,)})
    kept = keep(model, rows)
    patch = Patch(
        Cell((Site("hook_resid_post", 0),), "cue"), {"blocks.0.hook_resid_post": kept.states[1][:, 3:5]}
    )
    read = Answers.of(model, range(3, 30))
    Restart(model, kept).run([patch], read)
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.mul_(0.01)
    with pytest.raises(ValueError, match=r"a restart at token 3 gives a state that differs .* block 1 adds"):
        Restart(model, kept).run([patch], read)
