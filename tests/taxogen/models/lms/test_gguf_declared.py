"""What GGUF files declare and transformers does not read: in the configuration, or refused in one line."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from taxogen.models import lms, weights
from taxogen.models.lms import declared, gguf_file, sources
from taxogen.models.lms.gguf_file import GgufFile
from tests.taxogen.models.lms import written

HIDDEN, HEADS, BLOCKS = 64, 4, 6
SIZES: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_hidden_layers": BLOCKS,
    "num_key_value_heads": HEADS,
}
BASES = {"gemma3": 1e6, "lfm2": 1e6}
LONG = {"rope_factors_long.weight": (8,), "rope_factors_short.weight": (8,)}
TURNED = {"stablelm": 4, "nemotron": 8}


def completed(architecture, fields, shapes=None, factors=None, **settings):
    """A configuration as transformers reads it from a file's sizes, with what else the file declares."""
    sizes: dict[str, Any] = {"attention.head_count": HEADS, "block_count": BLOCKS}
    if architecture in BASES:
        sizes["rope.freq_base"] = BASES[architecture]
    if architecture in TURNED:
        sizes["rope.dimension_count"] = TURNED[architecture]
    kind = f"{architecture}_text" if architecture in ("gemma3", "gemma4") else architecture
    head = {"head_dim": HIDDEN // HEADS} if architecture == "gemma3" else {}
    config = CONFIG_MAPPING[kind](**{**SIZES, **head, **settings})
    named = {f"{architecture}.{key}": value for key, value in {**sizes, **fields}.items()}
    named["general.architecture"] = architecture
    declared.complete(config, GgufFile(Path("x.gguf"), named, shapes or {}, factors))
    return config


def refused(said, *args, **settings):
    with pytest.raises(ValueError, match=said) as refusal:
        completed(*args, **settings)
    assert str(refusal.value).startswith("The language model 'x.gguf' was asked for; its ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "architecture", ["starcoder2", "stablelm", "nemotron", "phi3", "lfm2", "llama", "gemma3"]
)
def test_a_file_that_declares_what_transformers_has_is_read_and_any_other_base_is_refused(architecture):
    config = completed(architecture, {})
    theta = BASES.get(architecture, 10_000.0)
    assert config.to_dict() == completed(architecture, {"rope.freq_base": theta * (1 + 1e-7)}).to_dict()
    for other in (theta * 1.01, theta * 100, 500.0):
        has = re.escape(f"transformers' {architecture} of it has {theta:g}. Give the model's folder")
        refused(rf"its rope\.freq_base is \S+, and {has}", architecture, {"rope.freq_base": other})


def test_no_base_means_that_of_llama_cpp():
    refused(r"rope\.freq_base is 10000, and .* has 500000", "llama", {}, rope_parameters={"rope_theta": 5e5})


def test_the_base_and_the_blocks_of_windows_are_those_of_gemma():
    window = {"attention.sliding_window": 8}
    assert completed("gemma3", {"rope.freq_base_swa": 1e4, **window}).sliding_window == 8
    refused(r"rope\.freq_base_swa is 20000, and .* has 10000", "gemma3", {"rope.freq_base_swa": 2e4})
    local = [True] * 5 + [False]
    for same in (6, tuple(local)):
        completed("gemma3", {**window, "attention.sliding_window_pattern": same})
    for other in (0, 2, 5, 7, tuple(reversed(local)), (True,) * 6):
        refused("sliding_window_pattern is", "gemma3", {**window, "attention.sliding_window_pattern": other})


@pytest.mark.parametrize(
    ("architecture", "turned"), [("phi3", 16), ("llama", 16), ("stablelm", 4), ("nemotron", 8)]
)
def test_the_share_of_a_head_that_is_turned_is_the_declared_one(architecture, turned):
    completed(architecture, {"rope.dimension_count": turned})
    for other in {4, 8, 12, 16} - {turned}:
        said = f"rope.dimension_count is {other}, and transformers' {architecture} of it has {turned}"
        refused(said, architecture, {"rope.dimension_count": other})


@pytest.mark.parametrize("key", ["attn_factor", "alpha", "yarn_ext_factor", "yarn_log_multiplier"])
def test_angles_scaled_by_further_keys_are_refused(key):
    refused(f"changed by rope.scaling.{key}, which is not read", "phi3", {f"rope.scaling.{key}": 1.19})


def test_factors_of_longrope_are_refused_and_a_neutral_factor_is_not():
    for name in LONG:
        refused(f"changed by {name}", "phi3", {}, {name: LONG[name]})
    completed("phi3", {"rope.scaling.attn_factor": 1.0, "rope.scaling.original_context_length": 4096})
    refused("changed by rope.dimension_sections", "qwen2", {"rope.dimension_sections": 4})


@pytest.mark.parametrize(
    "fields",
    [{"scaling.factor": 4.0}, {"scale_linear": 4.0}, {"scaling.type": "linear", "scaling.factor": 4.0}],
)
def test_a_factor_without_a_type_is_linear(fields):
    fields = {f"rope.{key}": value for key, value in fields.items()}
    scaled = completed("llama", fields).rope_parameters
    assert (scaled["rope_type"], scaled["factor"]) == ("linear", 4.0)
    assert (
        completed("llama", {**fields, "rope.scaling.type": "none"}).rope_parameters["rope_type"] == "default"
    )
    refused("divided by factors beside", "llama", fields, {}, np.ones(8, np.float32))


@pytest.mark.parametrize(
    "architecture", ["nemotron", "falcon", "lfm2", "starcoder2", "bloom", "gemma3", "mamba"]
)
@pytest.mark.parametrize("key", ["layer_norm_epsilon", "layer_norm_rms_epsilon"])
def test_another_epsilon_than_the_declared_one_is_refused(architecture, key):
    refused(rf"attention\.{key} is 0\.01, and transformers'", architecture, {f"attention.{key}": 0.01})


def test_a_window_of_zero_is_none():
    assert completed("phi3", {"attention.sliding_window": 0}, sliding_window=7).sliding_window is None


@pytest.mark.parametrize("architecture", ["gpt2", "bloom", "mamba"])
def test_angles_of_a_model_that_has_none_are_refused(architecture):
    completed(architecture, {})
    refused(r"declared \(rope_freqs", architecture, {}, {"rope_freqs.weight": (8,)}, np.ones(8, np.float32))
    refused(r"declared \(scaling.factor\)", architecture, {"rope.scaling.factor": 2.0})


def test_factors_of_angles_of_two_kinds_are_refused():
    refused("divided by factors beside", "gemma3", {}, {"rope_freqs.weight": (8,)}, np.ones(8, np.float32))


def test_a_scaling_that_transformers_assumes_and_the_file_does_not_declare_is_refused():
    refused("rope.scaling.type is not declared, and .* has 'yarn'", "gpt_oss", {"rope.freq_base": 150000.0})
    refused("rope.scaling.type is not declared, and .* has 'proportional'", "gemma4", {"rope.freq_base": 1e6})


def test_the_embedded_models_configuration_is_what_its_file_declares():
    config = AutoConfig.from_pretrained(lms.embedded_folder())
    before = weights.config_hash(config)
    declared.complete(config, gguf_file.read(weights.packaged(*sources._GGUF)))
    assert weights.config_hash(config) == before


def test_a_model_that_cannot_read_a_sentence_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    size = {**SIZES, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32, "head_dim": 8}
    size |= {"max_position_embeddings": 64, "vocab_size": len(written.PIECES)}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING["gemma3_text"](**size)).eval()
    path = written.write(tmp_path / "x.gguf", model, "gemma3", {"gemma3.attention.sliding_window": 0})
    with pytest.raises(ValueError, match=r"asked for; it cannot read a sentence \(.+\)\. Get another"):
        lms.load(str(path))


def test_a_list_of_yes_and_no_is_read_by_its_values_and_another_by_its_length(tmp_path):
    writer = GGUFWriter(tmp_path / "x.gguf", "gemma3")
    writer.add_array("gemma3.attention.sliding_window_pattern", [True, False, True])
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    file = gguf_file.read(tmp_path / "x.gguf")
    assert file.declared("attention.sliding_window_pattern") == (True, False, True)
    assert file.tokenizer("tokens") == 2


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """Contents of the files that are converted, by a conversion that copies them."""
    contents = []
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))

    def convert(path, part):
        contents.append(path.read_bytes())
        part.mkdir()
        shutil.copy(path, part / "copy")

    monkeypatch.setattr(sources.conversion, "convert", convert)
    return contents


def test_a_file_that_changes_while_it_is_converted_is_refused_and_not_kept(tmp_path, monkeypatch, converted):
    path, copy = tmp_path / "x.gguf", tmp_path / "y.gguf"
    for file in (path, copy):
        file.write_bytes(b"GGUF one")
    convert = sources.conversion.convert
    monkeypatch.setattr(
        sources.conversion, "convert", lambda *args: (path.write_bytes(b"GGUF two"), convert(*args))
    )
    with pytest.raises(
        ValueError, match=r"x\.gguf' was asked for; its bytes changed while it was read\. Start"
    ):
        sources.source(str(path))
    monkeypatch.setattr(sources.conversion, "convert", convert)
    assert (Path(sources.folder_of(str(copy))) / "copy").read_bytes() == b"GGUF one"
    assert converted == [b"GGUF two", b"GGUF one"]


def test_another_conversion_converts_once_more(tmp_path, monkeypatch, converted):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF one")
    first = [sources.source(str(path)) for _ in range(2)]
    monkeypatch.setattr(sources, "FORMAT", sources.FORMAT + 1)
    folder, revision = sources.source(str(path))
    assert len(converted) == 2
    assert first == [(first[0][0], revision)] * 2
    assert folder != first[0][0]
