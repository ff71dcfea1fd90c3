"""GGUF files of tiny models, written as llama.cpp's converter writes them: names, permuted rows, norms plus one."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from taxogen.models.lms.reading import SENTENCES

END = "<|endoftext|>"
LETTERS = "".join(sorted(set("".join(SENTENCES)) - {" "}))
PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS]
PIECES += ["th", "the", "▁the", "▁a"]

_BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_SANDWICH = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@cache
def byte_level() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens and merges of a byte-level BPE that knows the words of the ten sentences."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )  # pyright: ignore[reportCallIssue]
    built.train_from_iterator(SENTENCES, trainer)
    pairs = json.loads(built.to_str())["model"]["merges"]
    ids = sorted(built.get_vocab().items(), key=lambda entry: entry[1])
    return tuple(token for token, _ in ids), tuple(" ".join(pair) for pair in pairs)


def write(
    path: Path,
    model: Any,
    architecture: str,
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray | None] | None = None,
) -> Path:
    """A GGUF file of a model, with other or further metadata and tensors; None leaves one out."""
    writer = GGUFWriter(path, architecture)
    for key, value in (metadata(model.config, architecture) | dict(fields or {})).items():
        if value is not None:
            _add(writer, key, value)
    for name, values in (tensors_of(model, architecture) | dict(tensors or {})).items():
        if values is not None:
            writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds.get(type(value), writer.add_array)(key, value)


def metadata(config: Any, architecture: str) -> dict[str, Any]:
    """Sizes and tokenizer of a model, as llama.cpp names them."""
    theta = config.rope_parameters.get("full_attention", config.rope_parameters)["rope_theta"]
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(theta),
    }
    if architecture == "llama":
        sizes |= {"rope.dimension_count": head, "vocab_size": config.vocab_size}
    named = {f"{architecture}.{key}": value for key, value in sizes.items()}
    return named | (sentencepiece() if architecture.startswith("gemma") else _words())


def _words() -> dict[str, Any]:
    """Metadata of the byte-level vocabulary."""
    tokens, merges = byte_level()
    types = [int(TokenType.CONTROL if token == END else TokenType.NORMAL) for token in tokens]
    words = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": list(tokens),
        "merges": list(merges),
        "token_type": types,
        "bos_token_id": tokens.index(END),
        "eos_token_id": tokens.index(END),
        "add_bos_token": True,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in words.items()}


def sentencepiece() -> dict[str, Any]:
    """Metadata of a vocabulary of pieces with bytes to fall back on, as Gemma's and Llama 2's."""
    types = [3, 3, 3, 2, *[6] * 256, *[1] * (len(PIECES) - 260)]
    pieces = {
        "model": "llama",
        "tokens": PIECES,
        "scores": [-float(at) for at in range(len(PIECES))],
        "token_type": types,
        "padding_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "unknown_token_id": 3,
        "add_bos_token": True,
        "add_space_prefix": False,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in pieces.items()}


def tensors_of(model: Any, architecture: str) -> dict[str, np.ndarray]:
    """The weights under llama.cpp's names: rows of Llama's queries and keys interleaved, Gemma's norms plus one."""
    gemma, config, named = architecture.startswith("gemma"), model.config, {}
    inner = _BLOCK | (_SANDWICH if gemma else {})
    for name, values in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if architecture == "llama" and "self_attn.q_proj" in name:
            values = interleaved(values, config.num_attention_heads)
        if architecture == "llama" and "self_attn.k_proj" in name:
            values = interleaved(values, config.num_key_value_heads)
        if gemma and name.endswith("norm.weight"):
            values = values + 1
        if module in _ENDS:
            named[f"{_ENDS[module]}.{kind}"] = values.numpy()
        else:
            _, _, block, rest = module.split(".", 3)
            named[f"blk.{block}.{inner[rest]}.{kind}"] = values.numpy()
    return named


def interleaved(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a head in the order of llama.cpp: the two halves that rotate together, one after the other."""
    return values.reshape(heads, 2, len(values) // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with each weight drawn, those of norms and biases too, which start at one value otherwise."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data += torch.randn(weight.shape, generator=generator) * 0.1
    return model.eval()
