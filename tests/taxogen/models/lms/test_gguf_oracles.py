"""Models that come back from GGUF are those that were written: logits, settings, start tokens, number types."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from taxogen.models import lms
from taxogen.models.lms import reading
from tests.taxogen.models.lms import written

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
WORDS, PIECES = len(written.byte_level()[0]), len(written.PIECES)
LLAMA3 = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
GEMMA = {**SIZES, "vocab_size": PIECES, "head_dim": 12, "query_pre_attn_scalar": 12}


def rotary(**scaling):
    return {"rope_type": "default", "rope_theta": 10000.0, **scaling}


CASES = {
    "llama": (LlamaConfig(**SIZES, vocab_size=WORDS), {}),
    "llama, tied": (LlamaConfig(**SIZES, vocab_size=WORDS, tie_word_embeddings=True), {}),
    "llama 3": (
        LlamaConfig(
            **SIZES | {"max_position_embeddings": 16384},
            vocab_size=WORDS,
            head_dim=32,
            rope_parameters=rotary(rope_type="llama3", **LLAMA3),
        ),
        {},
    ),
    "llama, linear": (
        LlamaConfig(**SIZES, vocab_size=WORDS, rope_parameters=rotary(rope_type="linear", factor=4.0)),
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
    ),
    "llama, linear without a type": (
        LlamaConfig(**SIZES, vocab_size=WORDS, rope_parameters=rotary(rope_type="linear", factor=4.0)),
        {"llama.rope.scale_linear": 4.0},
    ),
    "qwen2": (Qwen2Config(**SIZES, vocab_size=WORDS, rope_parameters=rotary(rope_theta=1e6)), {}),
    "qwen3": (Qwen3Config(**SIZES, vocab_size=WORDS, head_dim=12, tie_word_embeddings=True), {}),
    "gemma2": (
        Gemma2Config(**GEMMA, attn_logit_softcapping=3.0, final_logit_softcapping=2.0, sliding_window=4),
        {
            "gemma2.attention.sliding_window": 4,
            "gemma2.attn_logit_softcapping": 3.0,
            "gemma2.final_logit_softcapping": 2.0,
        },
    ),
    "gemma3": (
        Gemma3TextConfig(
            **GEMMA | {"num_hidden_layers": 7},
            sliding_window=4,
            rope_parameters={
                "full_attention": rotary(rope_type="linear", factor=8.0, rope_theta=1e6),
                "sliding_attention": rotary(),
            },
        ),
        {
            "gemma3.attention.sliding_window": 4,
            "gemma3.rope.scaling.type": "linear",
            "gemma3.rope.scaling.factor": 8.0,
        },
    ),
}


@pytest.fixture(autouse=True)
def _cache_and_no_noise(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        reading.Reading, "is_noise", False
    )  # random weights are what a mapping is best seen on


def built(config):
    torch.manual_seed(5)
    return written.randomised(AutoModelForCausalLM.from_config(config, attn_implementation="eager"))


def factors(config):
    """Those of llama.cpp's converter: by what each frequency of the plain angles is divided."""
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    return (
        config.rope_parameters["rope_theta"] ** -(np.arange(len(scaled)) / len(scaled)) / scaled.numpy()
    ).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_logits_come_back_from_gguf_as_they_were(case, tmp_path):
    config, fields = CASES[case]
    model = built(config)
    more = {"rope_freqs.weight": factors(config)} if case == "llama 3" else {}
    path = written.write(tmp_path / "x.gguf", model, case.split()[0].strip(","), fields, more)
    lm = lms.load(str(path), dtype=torch.float32)
    ids = torch.arange(24)[None] * 7 % 200 + 4
    with torch.inference_mode():
        ours, theirs = lm.model(ids).logits, model(ids).logits
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_angles_scaled_in_another_way_than_is_read_are_refused(tmp_path):
    config, _ = CASES["llama 3"]
    model = built(config)
    plain = {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}
    with pytest.raises(
        ValueError, match=r"rotary angles are scaled as 'yarn', which is not read from GGUF\. Give"
    ):
        lms.load(str(written.write(tmp_path / "yarn.gguf", model, "llama", plain)))
    others = {"rope_freqs.weight": factors(config) ** 1.3}
    with pytest.raises(
        ValueError, match=r"angles are divided by other factors than those of Llama 3, which is not"
    ):
        lms.load(str(written.write(tmp_path / "other.gguf", model, "llama", {}, others)))


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({}, written.END),
        ({"tokenizer.ggml.add_bos_token": None}, written.END),
        ({"tokenizer.ggml.add_bos_token": False}, None),
        ({"tokenizer.ggml.bos_token_id": None}, None),
        ({"tokenizer.ggml.bos_token_id": 7}, written.byte_level()[0][7]),
    ],
)
def test_texts_are_scored_after_the_token_that_the_file_declares(fields, start, tmp_path):
    path = written.write(tmp_path / "x.gguf", built(CASES["qwen2"][0]), "qwen2", fields)
    lm = lms.load(str(path))
    assert (lm.tokenizer.bos_token, lm.start_token_id) == (
        start,
        None if start is None else written.byte_level()[0].index(start),
    )
    stored = reading.Reading.read(tmp_path / "cache" / lms.folder_of(str(path)))
    assert stored.start == (start or "")


def test_a_turn_marker_is_no_start_token(tmp_path):
    tokens = list(written.byte_level()[0])
    tokens[9] = "<|im_start|>"
    types = [3 if at in (0, 9) else 1 for at in range(WORDS)]
    fields = {"tokens": tokens, "token_type": types, "bos_token_id": 9, "add_bos_token": False}
    path = written.write(
        tmp_path / "x.gguf",
        built(CASES["llama"][0]),
        "llama",
        {f"tokenizer.ggml.{key}": value for key, value in fields.items()},
    )
    lm = lms.load(str(path))
    assert (lm.tokenizer.bos_token, lm.start_token_id) == ("<|im_start|>", tokens.index(written.END))


def test_gemmas_tokenizer_puts_no_space_before_a_text_and_keeps_spaces_within(tmp_path):
    path = written.write(tmp_path / "x.gguf", built(CASES["gemma2"][0]), "gemma2", CASES["gemma2"][1])
    tokenizer = lms.load(str(path)).tokenizer
    assert tokenizer.tokenize("the  the") == ["the", "▁", "▁the"]
    assert tokenizer.tokenize("é") == ["<0xC3>", "<0xA9>"]


def test_weights_are_kept_in_the_smallest_type_that_holds_them(tmp_path):
    model = built(CASES["llama"][0])
    model.model.layers[0].mlp.up_proj.weight.data[:] = (
        model.model.layers[0].mlp.up_proj.weight.bfloat16().float()
    )
    model.model.layers[0].mlp.down_proj.weight.data[:] = (
        model.model.layers[0].mlp.down_proj.weight.half().float()
    )
    path = str(written.write(tmp_path / "x.gguf", model, "llama"))
    lm = lms.load(path, dtype=torch.float32)
    with safe_open(f"{lms.folder_of(path)}/model.safetensors", "pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no mapping)
    assert kinds["model.layers.0.mlp.up_proj.weight"] == "BF16"
    assert kinds["model.layers.0.mlp.down_proj.weight"] == "F16"
    assert kinds["model.layers.1.mlp.up_proj.weight"] == "F32"
    for name, weight in model.named_parameters():
        assert torch.equal(weight, lm.model.get_parameter(name)), name


def test_what_was_read_is_kept_beside_the_model_and_told_at_every_load(tmp_path, caplog):
    path = str(written.write(tmp_path / "x.gguf", built(CASES["llama"][0]), "llama"))
    content = json.loads((tmp_path / "cache" / lms.folder_of(path) / reading.FILE).read_text())
    assert content["architecture"] == "llama"
    with caplog.at_level("INFO"):
        lm = lms.load(path)
    assert content["weights"] == sum(weight.numel() for weight in lm.model.parameters())
    assert f"{path}: {content['nats_per_token']:.2f} nats a token" in caplog.text
    assert math.isclose(content["nats_per_token"], math.log(WORDS), rel_tol=0.3)
