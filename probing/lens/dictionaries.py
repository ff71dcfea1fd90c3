"""Dictionaries: sparse autoencoders of a frozen language model, read by path, in two layouts of files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from probing.sites import Site
from probing.store import MismatchError

SPARSIFY, SAE_LENS = "sae.safetensors", "sae_weights.safetensors"
"""The file of weights, which distinguishes the layouts of EleutherAI's sparsify and of SAELens."""
CONFIG = "cfg.json"
ROWS = 256  # encoded at once: features are many more than dimensions
_NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
_SPARSIFY_POINTS = {
    "": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "attn": "hook_attn_out",
    "self_attn": "hook_attn_out",
}


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A sparse autoencoder: states → a few active features → states again.

    Attributes:
        site: where its states are found, as in a store.
        encoder: weights.
        bias: of the encoder.
        decoder: a direction for each feature.
        origin: subtracted from states where `subtracts`, and added to reconstructions.
        activation: relu; jumprelu (features above `threshold`); gated; topk (the `k` largest); groupmax (the largest of
            each of `k` groups).
        k: features that are active at most; 0 where as many as there are may be.
        threshold: of jumprelu.
        gate: bias of the gate, and the logarithm of the ratio of magnitudes to gates, of a gated dictionary.
        normalisation: none; layer_norm (each state less its mean, over its standard deviation);
            constant_norm_rescale (each state has the length √width). Undone in reconstructions.
        subtracts: whether the origin is subtracted before encoding.
        centred: whether each state is taken less its mean over dimensions, as models with centred weights write it.
        rescaled: whether features are weighed by the length of their direction (of topk).
    """

    site: str
    encoder: Float[np.ndarray, "width features"]
    bias: Float[np.ndarray, " features"]
    decoder: Float[np.ndarray, "features width"]
    origin: Float[np.ndarray, " width"]
    activation: str = "relu"
    k: int = 0
    threshold: Float[np.ndarray, " features"] | None = None
    gate: tuple[Float[np.ndarray, " features"], Float[np.ndarray, " features"]] | None = None
    normalisation: str = "none"
    subtracts: bool = True
    centred: bool = False
    rescaled: bool = False

    @property
    def width(self) -> int:
        """Dimensions of the states."""
        return len(self.origin)

    @property
    def features(self) -> int:
        """How many there are."""
        return len(self.decoder)

    def states(self, x: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
        """The states that it is about: as they are, or each less its mean.

        Raises:
            MismatchError: they have another width.
        """
        if x.shape[1] != self.width:
            raise MismatchError(
                f"the dictionary at {self.site} is of states {self.width} wide, and these are {x.shape[1]} wide; give "
                "one of the same language model"
            )
        x = np.asarray(x, np.float32)
        return x - x.mean(axis=1, keepdims=True) if self.centred else x

    def encode(self, x: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n features"]:
        """The activation of each feature, 0 for most."""
        shift, scale = self._normal(self.states(x))
        inner = (self.states(x) - shift) / scale - (self.origin if self.subtracts else 0.0)
        if self.gate is not None:
            bias, ratio = self.gate
            open_ = inner @ self.encoder + bias > 0
            return open_ * np.maximum(inner @ (self.encoder * np.exp(ratio)) + self.bias, 0.0)
        before = inner @ self.encoder + self.bias
        if self.rescaled:
            before = before * self._lengths
        if self.threshold is not None:
            return np.where(before > self.threshold, np.maximum(before, 0.0), 0.0)
        before = np.maximum(before, 0.0)
        if self.activation == "topk" and self.k < self.features:
            return _only(before, np.argpartition(-before, self.k - 1, axis=1)[:, : self.k])
        if self.activation == "groupmax":
            groups = before.reshape(len(before), self.k, -1)
            best = groups.argmax(axis=2) + np.arange(0, self.features, groups.shape[2])
            return _only(before, best)
        return before

    def reconstruct(
        self, x: Float[np.ndarray, "n width"], activations: Float[np.ndarray, "n features"]
    ) -> Float[np.ndarray, "n width"]:
        """The states that active features add up to, in the scale of the states `x` that they were encoded from."""
        shift, scale = self._normal(self.states(x))
        weights = activations / self._lengths if self.rescaled else activations
        return (weights @ self.decoder + self.origin) * scale + shift

    def parts(
        self, x: Float[np.ndarray, "n width"]
    ) -> Iterator[tuple[slice, Float[np.ndarray, "m features"]]]:
        """The activations of a few rows at a time, with the place of these rows."""
        for start in range(0, len(x), ROWS):
            rows = slice(start, start + ROWS)
            yield rows, self.encode(x[rows])

    @property
    def _lengths(self) -> Float[np.ndarray, " features"]:
        return np.linalg.norm(self.decoder, axis=1)

    def _normal(self, x: Float[np.ndarray, "n width"]) -> tuple[Any, Any]:
        """What is subtracted from each state, and what it is divided by."""
        if self.normalisation == "layer_norm":
            return x.mean(axis=1, keepdims=True), x.std(axis=1, ddof=1, keepdims=True) + 1e-5
        if self.normalisation == "constant_norm_rescale":
            return 0.0, np.linalg.norm(x, axis=1, keepdims=True) / np.sqrt(self.width)
        return 0.0, 1.0


def folders_of(path: str | Path) -> list[Path]:
    """The folders of dictionaries at a path: itself, or those in it, sorted by name.

    Raises:
        FileNotFoundError: there is no dictionary in either layout.
    """
    path = Path(path)
    candidates = [path, *sorted(one for one in path.iterdir() if one.is_dir())] if path.is_dir() else []
    folders = [one for one in candidates if any((one / name).is_file() for name in (SPARSIFY, SAE_LENS))]
    if not folders:
        raise FileNotFoundError(
            f"{path} has no dictionary: neither {CONFIG} with {SPARSIFY} (sparsify), nor with {SAE_LENS} (SAELens), "
            "there or in a folder of it; download one, and name its folder"
        )
    return folders


def read(folder: str | Path) -> Dictionary:
    """The dictionary in a folder.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a setting that is not known here, or weights that do not fit each other.
    """
    folder = Path(folder)
    missing = [name for name in (CONFIG,) if not (folder / name).is_file()]
    weights = next((name for name in (SPARSIFY, SAE_LENS) if (folder / name).is_file()), "")
    if missing or not weights:
        lacking = missing[0] if missing else f"{SPARSIFY} or {SAE_LENS}"
        raise FileNotFoundError(f"{folder} has no {lacking}; restore it, or name the folder of a dictionary")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    tensors = _tensors(folder / weights)
    try:
        dictionary = (_sparsify if weights == SPARSIFY else _sae_lens)(folder, config, tensors)
    except KeyError as lacking:
        raise ValueError(
            f"{folder / weights} has no {lacking.args[0]!r}; it holds {', '.join(sorted(tensors))}"
        ) from None
    width, features = dictionary.encoder.shape
    shape = dictionary.decoder.shape
    if shape != (features, width) or len(dictionary.origin) != width or len(dictionary.bias) != features:
        raise ValueError(
            f"{folder / weights} holds weights that do not fit: encoder {dictionary.encoder.shape}, "
            f"decoder {shape}"
        )
    return dictionary


def _sparsify(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Dictionary:
    """Source: EleutherAI sparsify 1.3, sparse_coder.py and fused_encoder.py."""
    odd = [key for key in ("transcode", "skip_connection", "signed") if config.get(key)]
    if odd or "W_skip" in tensors:
        raise ValueError(
            f"{folder} is a dictionary with {(odd or ['W_skip'])[0]}; only autoencoders are read here"
        )
    activation = _one_of(folder, "activation", config.get("activation", "topk"), ("topk", "groupmax"))
    weights = tensors["encoder.weight"].T, tensors["encoder.bias"], tensors["W_dec"], tensors["b_dec"]
    return Dictionary(_site_of_hookpoint(folder), *weights, activation, int(config["k"]))


def _sae_lens(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Dictionary:
    """Source: SAELens 6.54, saes/sae.py and one file for each architecture; defaults of older files as it sets them."""
    about = {**config, **(config.get("metadata") or {})}
    activation = str(config.get("architecture", "standard"))
    inner = str(config.get("activation_fn", config.get("activation_fn_str", "relu")))
    k = config.get("k", (config.get("activation_fn_kwargs") or {}).get("k", 0))
    if activation == "standard":
        activation = _one_of(folder, "activation_fn", inner, ("relu", "topk"))
    _one_of(folder, "architecture", activation, ("relu", "jumprelu", "gated", "topk"))
    if activation == "topk" and not k:
        raise ValueError(
            f"{folder / 'cfg.json'} has no k, of how many features are active; a topk dictionary needs it"
        )
    normalisation = config.get("normalize_activations") or "none"
    if normalisation not in _NORMALISATIONS:
        raise ValueError(
            f"{folder} expects states under {normalisation!r}, whose factors are not in its files; fold them into its "
            f"weights with SAELens first (known: {', '.join(_NORMALISATIONS)})"
        )
    factor = tensors.get("scaling_factor", np.ones(1))
    if not np.allclose(factor, 1):
        raise ValueError(
            f"{folder} has a scaling_factor of its own, which is not read here; fold it into W_dec"
        )
    gate = (tensors["b_gate"], tensors["r_mag"]) if activation == "gated" else None
    kwargs = about.get("model_from_pretrained_kwargs") or {}
    return Dictionary(
        _site_of_name(folder, about.get("hook_name") or about.get("hook_point")),
        tensors["W_enc"],
        tensors["b_mag" if gate else "b_enc"],
        tensors["W_dec"],
        tensors["b_dec"],
        activation,
        int(k or 0),
        tensors["threshold"] if activation == "jumprelu" else None,
        gate,
        str(normalisation),
        bool(config.get("apply_b_dec_to_input", True)),
        bool(kwargs.get("center_writing_weights")),
        bool(config.get("rescale_acts_by_decoder_norm", False)),
    )


def _site_of_hookpoint(folder: Path) -> str:
    """The site of a hook point of sparsify, which is the name of a module and of the folder."""
    match = re.fullmatch(r"(?:\w+\.)*(?:layers|h|blocks)\.(\d+)(?:\.(\w+))?", folder.resolve().name)
    point = _SPARSIFY_POINTS.get(match[2] or "") if match else None
    if not match or point is None:
        raise ValueError(
            f"{folder} is of no hook point that is known here; its folder is named layers.N, or layers.N.mlp or .attn"
        )
    return str(Site(point, int(match[1])))


def _site_of_name(folder: Path, name: Any) -> str:
    """The site of a hook name of TransformerLens."""
    try:
        return str(Site.parse(str(name)))
    except ValueError as unknown:
        raise ValueError(f"{folder} is of the hook point {name!r}; {unknown}") from None


def _one_of(folder: Path, what: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{folder} has the {what} {value!r}, which is not known here: {', '.join(known)}")
    return str(value)


def _only(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The values in some columns of each row, 0 elsewhere."""
    chosen = np.zeros_like(values)
    np.put_along_axis(chosen, columns, np.take_along_axis(values, columns, axis=1), axis=1)
    return chosen


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.torch import load_file  # NumPy has no bfloat16

    return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}
