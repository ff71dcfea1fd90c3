"""Every family that transformers builds tiny here is captured right or refused; a few of each kind in every run."""

import pytest
import torch
from transformers.utils import logging

from probing.hooks import record
from probing.hooks.families import FAMILIES, Family
from probing.hooks.layouts import layout_of
from tests.probing.families.models import KINDS, build
from tests.probing.families.oracle import checked, points_in_words
from tests.probing.families.table import PAGE, names, page, row

ROWS = [(kind, name) for kind in KINDS for name in names(kind)]

#: Model type → what is captured of it: one of each kind of blocks.
TEXT = {
    "bert": "stream alone, no ln_final",
    "cohere": "parallel, stream, attention, MLP, z, mlp post",
    "deepseek_v3": "stream, attention, MLP, z, mlp post",
    "granite": "stream alone",
    "jamba": "stream alone",
    "kimi_linear": "stream, attention, MLP, z, mlp post",
    "lfm2": "stream alone",
    "mixtral": "stream, attention, MLP, z",
    "mllama_text_model": "stream alone",
    "opt": "stream alone",
    "qwen3_next": "stream alone",
}
PICTURES = {
    "gemma3": "stream, attention, MLP, z, mlp post",
    "git": "stream alone, no hook_embed and no ln_final",
    "instructblip": "stream alone",
    "llava_next": "stream, attention, MLP, z, mlp post",
    "mllama": "stream alone",
    "qwen3_5": "stream alone",
    "qwen3_vl": "stream, attention, MLP, z, mlp post",
}


@pytest.fixture(autouse=True)
def _quiet(recwarn):
    logging.set_verbosity_error()


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [("text", *both) for both in TEXT.items()] + [("pictures", *both) for both in PICTURES.items()],
)
def test_what_is_captured_of_a_family_is_right(kind, name, words):
    outcome = row(kind, name).outcome
    assert (outcome.status, points_in_words(outcome.points)) == ("right", words), outcome.detail


def test_blocks_with_experts_have_no_projection_of_the_mlp():
    layout = layout_of(build("deepseek_v3", "text"))
    assert len(layout.select("blocks.*.hook_mlp_out")) == 4
    dense = [layer for layer, block in enumerate(layout.blocks) if hasattr(block.mlp, "down_proj")]
    assert [site.layer for site in layout.select("blocks.*.mlp.hook_post")] == dense
    assert 0 < len(dense) < 4


def test_linear_attention_has_no_pattern():
    model = build("kimi_linear", "text")
    model.set_attn_implementation("eager")
    sites = layout_of(model).select("blocks.*.attn.hook_pattern")
    assert 0 < len(sites) < 4
    with torch.inference_mode(), record(model, sites) as seen:
        model(input_ids=torch.arange(3, 9)[None], use_cache=False)
    assert all(torch.allclose(pattern.sum(-1), torch.ones(())) for pattern in seen.values())


@pytest.mark.parametrize(
    "name", ["pix2struct", "pp_formulanet", "t5gemma2", "udop", "vision-encoder-decoder"]
)
def test_an_encoder_decoder_is_refused_and_the_advice_works(name):
    model = build(name, "pictures")
    with pytest.raises(ValueError, match="encoder-decoder, whose text goes through two stacks; ") as refusal:
        layout_of(model)
    if "such as model.get_decoder()" in str(refusal.value):
        assert layout_of(model.get_decoder()).blocks
    else:  # its decoder does not run without the encoder's states
        assert name == "t5gemma2"
        assert "register_forward_hook" in str(refusal.value)


def test_of_several_decoders_the_one_that_is_advised_can_be_captured():
    model = build("blt", "text")
    with pytest.raises(
        ValueError, match=r"several decoders run: .* such as model\.get_submodule\('model\.patcher'\)"
    ):
        layout_of(model)
    assert len(layout_of(model.get_submodule("model.patcher")).blocks) == 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("deepseek_v4", r"model\.layers gives values of shape \[3, 6, 4, 32\] for 3 rows of 6 tokens"),
        ("hrm_text", r"layers ran its block 0 \d times"),
        ("reformer", r"hands on a second state beside the output of block 0"),
    ],
)
def test_a_stream_that_is_not_one_state_is_refused(name, reason):
    with pytest.raises(
        ValueError, match=f"found none .*{reason}.*; read its modules with register_forward_hook"
    ):
        layout_of(build(name, "text"))


def test_the_check_sees_a_wrong_layout(monkeypatch):
    model = build("granite", "text")
    inputs = {"input_ids": torch.arange(3, 11)[None], "use_cache": False}
    assert checked(model, inputs).status == "right"
    monkeypatch.setitem(FAMILIES, "granite", Family())
    outcome = checked(build("granite", "text"), inputs)
    assert outcome.status == "wrong"
    assert outcome.detail.startswith("what block 0 adds: off by")


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_every_family_is_captured_right_or_refused_in_one_line(kind, name):
    outcome = row(kind, name).outcome
    assert outcome.status in ("right", "refused", "not checked", "not built"), outcome
    assert "\n" not in outcome.detail


@pytest.mark.nightly
def test_the_page_says_what_the_table_says():
    assert page([row(kind, name) for kind, name in ROWS]) == PAGE.read_text(encoding="utf-8")
