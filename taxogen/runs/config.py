"""Config: the settings of a run; read from TOML, changed by `key=value`, checked before anything starts."""

import dataclasses
import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULTS = 1  # to be raised when the default of a setting that decides weights changes: runs before it differ
DECIDING = ("data.", "model.", "train.")
_TRUTH = {"true": True, "false": False}
INCIDENTAL = ("train.snapshots", "train.checkpoint_seconds")


@dataclass(frozen=True)
class DataConfig:
    """Pictures, their split and names, the questions about them, and the hypernym evidence that is left."""

    task: str = "completion"  # or yes_no
    templates: tuple[
        str, ...
    ] = ()  # of leaf and hypernym questions (taxogen.questions.prompts); empty: one of each
    chat: bool = False  # whether questions stand in the language model's chat template
    negatives: str = "random"  # of yes/no questions: random, hard or study
    pictures: str = "pictograms"
    taxonomy: str = ""  # a table (leaf, hypernym, …); empty: the one that comes with the pictures
    split: str = "seeded"
    leaves: int = 0  # size of a seeded draw of leaf concepts, over all categories; 0: all
    pictures_per_leaf: int = 0  # at most, a seeded draw; 0: all
    ablation: str = "full"
    fraction: float = 1.0
    rule: str = ""  # empty: the default rule of that ablation; study: the published one
    held_out: tuple[str, ...] = ()  # hypernyms, for the systematic ablation
    shuffle: str = "none"  # or within, across, across-matched
    disjoint: bool = False  # across: never to a leaf that shares a hypernym


@dataclass(frozen=True)
class ModelConfig:
    """Which frozen encoder, which frozen language model, and the projector that is learned between them."""

    encoder: str = "efficientnet-lite2"
    encoder_tokens: int = 1  # the encoder's patch grid is averaged down to this number (a square)
    lm: str = "smollm2-135m"
    init: str = "pretrained"
    projector: str = "gelu-mlp"
    hidden: int = 1024
    image_tokens: int = 4
    dtype: str = "auto"  # auto: bfloat16 where the processor multiplies it in hardware, else float32


@dataclass(frozen=True)
class TrainConfig:
    """How the projector is learned; rates per step, clip on the global gradient norm."""

    steps: int = 300  # 0: from `epochs`
    epochs: float = 5.0
    match_steps: bool = False  # epochs count the items before the ablation: as many steps at every level
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.03  # share of the steps; then cosine to zero
    clip: float = 1.0
    snapshots: tuple[str, ...] = ("0", "25", "50", "100", "200", "last")
    checkpoint_seconds: float = 20.0


@dataclass(frozen=True)
class CaptureConfig:
    """The activations that are written to disk, and the steps of training at which they are."""

    at: tuple[str, ...] = ("0", "last")
    sites: tuple[str, ...] = ("hook_embed", "blocks.*.hook_resid_post", "ln_final.hook_normalized")
    spans: tuple[str, ...] = ("slot", "cue", "last")
    pictures_per_leaf: int = 2  # of the test split, seeded
    dtype: str = "float16"


@dataclass(frozen=True)
class EvaluateConfig:
    """The test pictures and templates of evaluation, and the width of the leaf-naming question."""

    pictures_per_leaf: int = 0  # of the test split, seeded; 0: all
    templates: tuple[str, ...] = ()  # of the test questions, averaged and apart; empty: the first of training
    leaf_choices: int = 20
    draws: int = 2000  # of the bootstrap


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a run. Same config, same machine: same bytes."""

    name: str = "default"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def to_dict(self) -> dict[str, Any]:
        """The config as plain nested dictionaries, ready for JSON."""
        return dataclasses.asdict(self)

    @property
    def hash(self) -> str:
        """A digest of every setting that decides the trained weights (not the name, capture or evaluation).

        Settings at their default are left out, so that a setting that comes later leaves older runs valid.
        """
        default = dict(flatten(Config().to_dict()))
        deciding = {
            key: value
            for key, value in flatten(self.to_dict())
            if key == "seed" or (key.startswith(DECIDING) and key not in INCIDENTAL and value != default[key])
        }
        return hashlib.sha256(json.dumps([DEFAULTS, deciding], sort_keys=True).encode()).hexdigest()[:16]


def read(
    path: str | Path | None = None, overrides: Iterable[str] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """The config of a TOML file (or the defaults), changed by overrides such as ``train.steps=100``.

    `base` are settings by dotted key, such as a preset's, that the file and the overrides go over.

    Raises:
        FileNotFoundError: the file does not exist.
        KeyError: a key is not known; the nearest known one is named.
        ValueError: a value has the wrong type.
    """
    return from_flat(settings(path, overrides, base))


def settings(
    path: str | Path | None = None, overrides: Iterable[str] = (), base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings that `read` makes a config of, by dotted key; refuses as it does."""
    written: dict[str, Any] = {}
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"config {path} was asked for, but there is no such file; "
                "`python -m taxogen config` prints the defaults"
            )
        written = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    flat = {**(base or {}), **dict(flatten(written))}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"--set {override}: a setting is written key=value, for example train.steps=100")
        flat[key.strip()] = text.strip()
    return flat


def from_flat(flat: Mapping[str, Any]) -> Config:
    """The config in which the given dotted keys have the given values and all others their defaults."""
    known = {key: value for key, value in flatten(Config().to_dict())}
    groups: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise KeyError(f"config key {key!r} is not known; {hint}")
        group, _, name = key.rpartition(".")
        groups.setdefault(group, {})[name] = _convert(key, value, known[key])
    parts: dict[str, Any] = dict(groups.pop("", {}))
    for spec in dataclasses.fields(Config):
        if spec.name in groups:
            parts[spec.name] = dataclasses.replace(getattr(Config(), spec.name), **groups[spec.name])
    return Config(**parts)


def from_dict(plain: Mapping[str, Any]) -> Config:
    """The config that `Config.to_dict` wrote."""
    return from_flat(dict(flatten(plain)))


def to_toml(config: Config) -> str:
    """The config as TOML text, every key with its value."""
    lines = [f"{spec.name} = {_toml(getattr(config, spec.name))}" for spec in dataclasses.fields(config)[:2]]
    for spec in dataclasses.fields(config)[2:]:
        group = getattr(config, spec.name)
        lines += ["", f"[{spec.name}]"]
        lines += [
            f"{inner.name} = {_toml(getattr(group, inner.name))}" for inner in dataclasses.fields(group)
        ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The leaves of nested dictionaries with their dotted keys."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _convert(key: str, value: Any, default: Any) -> Any:
    """The value in the type of its default; text from the command line is parsed."""
    try:
        if isinstance(default, tuple):
            parts = value.split(",") if isinstance(value, str) else list(value)
            return tuple(str(part).strip() for part in parts if str(part).strip())
        if isinstance(default, bool):
            return _TRUTH[str(value).lower()]
        if isinstance(default, int) and not isinstance(value, int | str):
            raise ValueError(value)
        return type(default)(value)
    except (TypeError, ValueError, KeyError):
        kind = type(default).__name__
        raise ValueError(f"config key {key!r} takes a value of type {kind}, found {value!r}") from None
