from dataclasses import replace

import pytest
import torch
from tiny_models import CONFIGS, MULTIMODAL, tiny
from torch import nn

from probing.hooks import families
from probing.hooks.verify import Check, Report, verify


def red(report):
    return [check.name for check in report.checks if not check.holds]


@pytest.mark.parametrize("name", [*CONFIGS, *MULTIMODAL])
def test_every_known_family_is_green(name):
    report = verify(tiny(name))
    assert report.holds, str(report)
    report.require()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_green_within_their_own_rounding(dtype):
    report = verify(tiny("llama", dtype=dtype))
    assert report.holds, str(report)


def test_eager_attention_is_green():
    report = verify(tiny("qwen2", attention="eager"))
    assert report.holds, str(report)


@pytest.mark.parametrize(
    ("name", "wrong", "expected"),
    [
        ("gemma2", {"attention_norm": "", "mlp_norm": ""}, "resid_pre + attn_out + mlp_out = resid_post"),
        ("olmo2", {"attention_norm": ""}, "resid_pre + attn_out + mlp_out = resid_post"),
        ("llama", {"mid": "input_layernorm"}, "resid_pre + attn_out = resid_mid"),
        ("phi", {"mid": "input_layernorm"}, "resid_pre + attn_out = resid_mid"),
    ],
)
def test_a_wrong_listing_is_red(name, wrong, expected, monkeypatch):
    listed = families.FAMILIES[name]
    monkeypatch.setitem(families.FAMILIES, name, replace(listed, **wrong))
    report = verify(tiny(name))
    assert expected in red(report)
    with pytest.raises(ValueError, match=r"cannot be captured faithfully: .*resid_pre"):
        report.require()


def test_hidden_states_that_are_off_by_one_are_red():
    model = tiny("llama")
    forward = model.forward

    def shifted(**inputs):
        output = forward(**inputs)
        if output.hidden_states is not None:
            output.hidden_states = (output.hidden_states[1], *output.hidden_states[1:])
        return output

    model.forward = shifted
    assert red(verify(model)) == ["hidden_states = resid_pre of each block, then ln_final"]


class _InPlace(nn.Module):
    """An MLP that writes into the stream it is given, as some fused kernels do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.down_proj = inner.down_proj

    def forward(self, value):
        result = self.inner(value)
        value.add_(1.0)
        return result


def test_values_that_are_overwritten_after_the_hook_are_red():
    model = tiny("olmo2")
    model.model.layers[1].mlp = _InPlace(model.model.layers[1].mlp)
    assert "values at the hook = values after the pass" in red(verify(model))


class _Mixing(nn.Module):
    """An MLP in which the rows of a batch see one another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.down_proj = inner.down_proj

    def forward(self, value):
        return self.inner(value) + value.mean(0, keepdim=True)


def test_rows_that_see_one_another_are_red():
    model = tiny("llama")
    model.model.layers[0].mlp = _Mixing(model.model.layers[0].mlp)
    assert "batch of 1 = batch of N" in red(verify(model))


def test_attention_to_padding_is_red():
    model = tiny("llama")
    forward = model.model.forward

    def attends_to_all(attention_mask=None, **more):
        return forward(
            attention_mask=None if attention_mask is None else torch.ones_like(attention_mask), **more
        )

    model.model.forward = attends_to_all
    assert "left padding = right padding = none" in red(verify(model))


def test_a_site_without_effect_is_red():
    model = tiny("llama")
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.zero_()
    report = verify(model)
    assert red(report) == ["noise at each site changes the logits"]
    assert "not at blocks.2.attn.hook_z" in str(report)


def test_changed_weights_are_red():
    model = tiny("llama")

    def forget(module, *_):
        with torch.no_grad():
            module.weight[0, 0] += 1

    model.lm_head.register_forward_hook(forget)
    assert "weights unchanged" in red(verify(model))


def test_modes_are_put_back():
    model = tiny("llama")
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    verify(model)
    assert [module.training for module in model.modules()] == modes


def test_report_is_a_table():
    report = Report("Toy", (Check("a", True, "fine"), Check("longer", False, "3 ≤ 1")))
    assert str(report).splitlines() == ["Toy", "green  a       fine", "RED    longer  3 ≤ 1"]
    assert not report.holds
