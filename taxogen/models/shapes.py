"""Shapes of frozen models: the sizes that decide work and memory, known by name or from a config on this disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from taxogen.models import lms


@dataclass(frozen=True)
class LmShape:
    """Sizes of a language model whose blocks are attention and a gated MLP.

    Attributes:
        blocks: how many.
        width: of the residual stream.
        heads: of attention.
        kv_heads: heads of keys and values.
        head_width: numbers per head.
        inner: width of the MLP.
        vocabulary: tokens.
        tied: whether the output matrix is the embedding table.
        normed_heads: whether queries and keys are normalised.
        counted: weights of the blocks, where these were counted and not derived; 0: derived.
    """

    blocks: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    vocabulary: int
    tied: bool
    normed_heads: bool = False
    counted: int = 0

    @property
    def in_blocks(self) -> int:
        """Weights of the blocks' matrices."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        return self.counted or self.blocks * (attention + 3 * self.width * self.inner)

    @property
    def weights(self) -> int:
        """All weights, tied ones once."""
        return self.in_blocks + self.vocabulary * self.width * (1 if self.tied else 2)

    def attention(self, pairs: float) -> float:
        """FLOPs of a forward pass that depend on pairs of tokens: each with every other in its line, as eager does."""
        return 4.0 * self.blocks * self.heads * self.head_width * pairs

    def kept_bytes(self, tokens: float, pairs: float, size: int) -> float:
        """Bytes that a forward pass keeps for the backward one in all blocks; weights take no gradient.

        Per token 8 · width (the inputs of both norms, in float32), queries, keys and values of every head, and three
        vectors of the MLP; per pair and head the softmax in float32, and once more in a smaller number type.

        Args:
            tokens: of all lines.
            pairs: of tokens, over all lines.
            size: bytes of a number of the weights' type.
        """
        norms = 8 * self.width + 4 * self.head_width * (self.heads + self.kv_heads) * self.normed_heads
        products = size * 3 * (self.heads * self.head_width + self.inner)
        softmax = self.heads * (4 if size >= 4 else 4 + size)
        return self.blocks * ((norms + products) * tokens + softmax * pairs)


LMS: Mapping[str, LmShape] = {
    lms.EMBEDDED: LmShape(30, 576, 9, 3, 64, 1536, 49152, True),
    "Qwen/Qwen3-0.6B": LmShape(28, 1024, 16, 8, 128, 3072, 151936, True, True),
    "Qwen/Qwen3-1.7B": LmShape(28, 2048, 16, 8, 128, 6144, 151936, True, True),
    "Qwen/Qwen3-4B": LmShape(36, 2560, 32, 8, 128, 9728, 151936, True, True),
    "Qwen/Qwen3-8B": LmShape(36, 4096, 32, 8, 128, 12288, 151936, False, True),
    "meta-llama/Llama-3.2-1B": LmShape(16, 2048, 32, 8, 64, 8192, 128256, True),
    "meta-llama/Llama-3.2-1B-Instruct": LmShape(16, 2048, 32, 8, 64, 8192, 128256, True),
    "meta-llama/Llama-3.2-3B": LmShape(28, 3072, 24, 8, 128, 8192, 128256, True),
}
"""Sizes by name, from the `config.json` that is published with each model."""


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of an image encoder: width of a token, tokens of its (square) grid, FLOPs of a picture."""

    width: int
    tokens: int
    flops: float

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of its tokens."""
        return math.isqrt(self.tokens), math.isqrt(self.tokens)


def _vit(width: int, blocks: int, inner: int, tokens: int, others: int = 0) -> EncoderShape:
    """A vision transformer with so many patch tokens, and others beside them, such as class and registers."""
    matrices, length = 4 * width**2 + 2 * width * inner, tokens + others
    return EncoderShape(width, tokens, blocks * (2.0 * matrices * length + 4.0 * width * length**2))


ENCODERS: Mapping[str, EncoderShape] = {
    "efficientnet-lite0": EncoderShape(1280, 49, 0.768e9),
    "efficientnet-lite2": EncoderShape(1280, 81, 1.717e9),
    "vit-s14-saliency": _vit(384, 11, 1536, 256, 1),
    "timm:vit_large_patch14_reg4_dinov2.lvd142m#224": _vit(1024, 24, 4096, 256, 5),
    "timm:vit_so400m_patch14_siglip_384.webli#384": _vit(1152, 27, 4304, 729),
}
"""Sizes of the embedded encoders (FLOPs of the Lite ones as torch counts them) and of those of the study's presets."""


def lm_shape(name: str) -> LmShape:
    """The sizes of a language model: known by name, or from its `config.json` on this disk. No weight is read.

    Raises:
        FileNotFoundError: it is neither known nor on this disk.
        ValueError: its config cannot be read.
    """
    if name in LMS:
        return LMS[name]
    config = _config(lms.folder_of(name), "language model", LMS)
    text = config.get_text_config()
    width, heads = text.hidden_size, text.num_attention_heads
    tied = bool(config.tie_word_embeddings)
    tables = text.vocab_size * width * (1 if tied else 2)
    return LmShape(
        blocks=text.num_hidden_layers,
        width=width,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_width=getattr(text, "head_dim", None) or width // heads,
        inner=getattr(text, "intermediate_size", None) or 4 * width,
        vocabulary=text.vocab_size,
        tied=tied,
        normed_heads="qwen3" in text.model_type,
        counted=lms.parameters(config) - tables,
    )


def encoder_shape(name: str) -> EncoderShape:
    """The sizes of an image encoder, as `lm_shape`; of a transformers one from its `config.json` on this disk.

    Raises:
        FileNotFoundError: it is neither known nor on this disk.
        ValueError: its config cannot be read, or it has no patches.
    """
    if name in ENCODERS:
        return ENCODERS[name]
    config = _config(name.partition("#")[0], "image encoder", ENCODERS)
    vision = getattr(config, "vision_config", config)
    sizes = [
        getattr(vision, key, None) for key in ("hidden_size", "num_hidden_layers", "image_size", "patch_size")
    ]
    if not all(isinstance(size, int) for size in sizes):
        raise ValueError(
            f"the image encoder {name!r} was asked for; its config.json has no square patches to count: "
            f"plan with one of {', '.join(ENCODERS)}"
        )
    width, blocks, image, patch = (int(size) for size in sizes if size is not None)
    inner = getattr(vision, "intermediate_size", None) or width * getattr(vision, "mlp_ratio", 4)
    return _vit(
        width, blocks, int(inner), (image // patch) ** 2, 1 + getattr(vision, "num_register_tokens", 0)
    )


def tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a language model, where it is on this disk."""
    try:
        return AutoTokenizer.from_pretrained(lms.folder_of(name), local_files_only=True)
    except OSError:
        return None


def _config(name: str, kind: str, known: Mapping[str, object]) -> Any:
    there = Path(name).is_dir()
    try:
        if there and not (Path(name) / "config.json").is_file():
            raise FileNotFoundError(name)
        return AutoConfig.from_pretrained(name, local_files_only=True)
    except OSError:
        place = (
            "its folder has no config.json" if there else "it is neither a folder nor in the hub's cache here"
        )
        raise FileNotFoundError(
            f"the {kind} {name!r} was asked for; {place}, and its sizes are not known by name: give "
            f"the path of a folder, or one of {', '.join(known)}"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"the {kind} {name!r} was asked for; its config.json cannot be read ({' '.join(str(error).split())})"
        ) from error
