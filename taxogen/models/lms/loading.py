"""Loading: a frozen language model by name, with its tokenizer and where both came from."""

from __future__ import annotations

import copy
import logging
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
from taxogen.models import devices, tokenizers, weights
from taxogen.models.lms.reading import Reading
from taxogen.models.lms.sources import EMBEDDED, REQUIREMENT, source
from taxogen.models.threads import threads

log = logging.getLogger("taxogen")

Init = Literal["pretrained", "random", "pretrained-embeddings"]
INITS: tuple[Init, ...] = ("pretrained", "random", "pretrained-embeddings")


@dataclass(frozen=True)
class LM:
    """A frozen language model, its tokenizer, and where both came from.

    Attributes:
        model: In evaluation mode; no parameter asks for a gradient.
        tokenizer: Of the pretrained model, also when the weights are random.
        name: As asked for.
        revision: Package version, hub commit, hash of a GGUF file, or of a local folder's weights.
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
    def token_scale(self) -> float:
        """Standard deviation of token embeddings as the first block reads them: Gemma multiplies those of its table."""
        embed: Any = self.model.get_input_embeddings()
        with torch.no_grad():
            read = embed(torch.arange(len(embed.weight), device=embed.weight.device))
        return read.float().std().item()

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
        name: `smollm2-135m` (embedded in a package), the path of a folder or of a GGUF file, or a hub name.
        init: `random` is the architecture's own standard initialisation; `pretrained-embeddings` puts the
            pretrained token embeddings (input and output) around random blocks.
        seed: Of a random init, which is drawn in float32 on the CPU: one model in every dtype and device.
        dtype: `native` is bfloat16 where `device` computes it in hardware, else float32.
        attention: transformers' `attn_implementation`.
        device: Any torch device.

    Raises:
        ValueError: Unknown `init`; the device has too little memory left; a file of the model cannot be read; or a
            GGUF file is refused.
        MismatchError: The weights are not those of the configuration; a random init reads no weights.
        FileNotFoundError: The package, folder or hub model is not there; the message says how to get it.
    """
    if init not in INITS:
        raise ValueError(f"init={init!r} was asked for; choose one of {', '.join(INITS)}")
    dtype = native_dtype(device) if dtype == "native" else dtype
    place = torch.device(device)
    folder, gguf = source(str(name))
    with weights.fetching("language model", folder, embedded=EMBEDDED):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        # Where the weights themselves are the model's identity, they are read as they are stored, and hashed.
        known = bool(gguf) or init == "random" or bool(getattr(config, "_commit_hash", None))
        read_in = dtype if known else weights.stored_dtype(folder)
    devices.require_room(lambda: parameters(config) * dtype.itemsize, place, f"the language model {name}")
    if init == "random":
        model = _random(config, seed, attention)
    else:
        model = _pretrained(folder, attention, read_in)
        config = copy.deepcopy(model.config)
    revision = gguf or _revision(name, config, None if init == "random" else model)
    if gguf:
        log.info("%s: %s", name, Reading.read(Path(folder)))
    if init == "pretrained-embeddings":
        model = _with_embeddings_of(model, _random(config, seed, attention))
    return LM(
        model=weights.freeze(_in(model, dtype).to(place)),  # type: ignore[arg-type]
        tokenizer=tokenizer,
        name=str(name),
        revision=revision,
        init=init,
        seed=-1 if init == "pretrained" else seed,
        start_token_id=tokenizers.start_token_id(tokenizer),
    )


def native_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where `device` multiplies it in hardware, else float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # torch has no public test for this; without hardware support bfloat16 is emulated, slower than float32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


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
