"""Config: the settings of a run; read from TOML, changed by `key=value`, checked before anything starts."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from taxogen.runs import relations
from taxogen.runs.names import device, plain_name, site_pattern, step
from taxogen.runs.setting import Setting, Takes, flatten, setting, shown
from taxogen.runs.toml_file import read_settings

DEFAULTS = 1  # to be raised when the default of a setting that decides weights changes: runs before it differ
DECIDING = ("data.", "model.", "train.")
INCIDENTAL = ("train.snapshots", "train.checkpoint_seconds", "model.device")
RETIRED = {
    "evaluate.draws": "nothing ever read it; analyses that draw have an option --draws",
    "data.disjoint": "data.shuffle=across never maps to a leaf that shares a hypernym, across-plain may",
}
"""Keys that older runs have in their config.json, and why they are settings no longer."""
_FLAT = ("gelu-mlp", "linear")
"""Projectors that flattened, in configs from before `model.standardise` was a setting: now flat-…"""
_HASHED = {
    ("model.projector", "flat-linear"): "linear",
    ("model.projector", "linear"): "linear of each token",
    ("data.shuffle", "across-plain"): "across",
    ("data.shuffle", "across-plain-matched"): "across-matched",
}
"""Values that changed their names, as the hash still spells them."""
_PLAIN = {old: name for (key, name), old in _HASHED.items() if key == "data.shuffle"}
"""Shuffles that `data.disjoint` went with, as the hash still has it, and what they are without it."""
_BEFORE = {"train.order": "items"}
"""What runs did before these were settings, where that is not their default: an older config.json means it."""
_SPANS = tuple(
    f"{span}{pooling}" for span in ("slot", "cue", "last") for pooling in ("", ":mean", ":last", ":all")
)
_TEMPLATES = "taxogen.questions.prompts:TEMPLATES"


@dataclass(frozen=True)
class DataConfig:
    """Pictures, their split and names, the questions about them, and the hypernym evidence that is left."""

    task: str = setting("completion", known="taxogen.questions.prompts:FORMATS")
    # Of leaf and hypernym questions; empty: one of each.
    templates: tuple[str, ...] = setting((), known=_TEMPLATES)
    chat: bool = False  # whether questions stand in the language model's chat template
    negatives: str = setting("random", known="taxogen.questions.negatives:RULES")  # of yes/no questions
    pictures: str = setting("pictograms", needed=True)
    taxonomy: str = ""  # a table (leaf, hypernym, …); empty: the one that comes with the pictures
    split: str = setting("seeded", known="taxogen.world.splits:RULES")
    # Size of a seeded draw of leaf concepts, over all categories; 0: all.
    leaves: int = setting(0, at_least=2, zero=True)
    # At most, a seeded draw; 0: all. One alone would leave none to test on.
    pictures_per_leaf: int = setting(0, at_least=2, zero=True)
    ablation: str = setting("full", known="taxogen.questions.ablation:RULES")
    fraction: float = setting(1.0, at_least=0, at_most=1)
    rule: str = ""  # empty: the default rule of that ablation; study: the published one
    held_out: tuple[str, ...] = ()  # hypernyms, for the systematic ablation
    shuffle: str = setting("none", known="taxogen.world.shuffle:KINDS")
    coherence: float = setting(0.5, at_least=0, at_most=1)  # graded: share of the leaves that stay within


@dataclass(frozen=True)
class ModelConfig:
    """Which frozen encoder, which frozen language model, and the projector that is learned between them.

    Or a released vision-language model (`vlm`) in the place of all three, of which nothing is learned.
    """

    encoder: str = setting("efficientnet-lite2", needed=True)
    # The encoder's patch grid is averaged down to this number (a square).
    encoder_tokens: int = setting(1, at_least=1)
    lm: str = setting("smollm2-135m", needed=True)
    init: str = setting("pretrained", known=("pretrained", "random", "pretrained-embeddings"))
    # Of each encoder token, or (flat-…) of all encoder tokens of a picture as one vector.
    projector: str = setting("flat-gelu-mlp", needed=True)
    hidden: int = setting(1024, at_least=1, zero=True)  # 0: the usual width of such a projector
    # Unless the projector is flat: of encoder_tokens, or fewer by a square (neighbours joined).
    image_tokens: int = setting(4, at_least=1)
    standardise: bool = True  # encoder features, by the mean and scale of training pictures
    normalise: bool = True  # image tokens, to one root mean square
    token_scale: float = setting(0.0, at_least=0)  # that root mean square; 0: that of token embeddings
    # A hub name or folder that AutoModelForImageTextToText reads; empty: encoder, projector and lm.
    vlm: str = ""
    # To which pictures are squashed before the processor of `vlm` sees them; 0: as they are.
    picture_side: int = setting(0, at_least=8, zero=True)
    # In which encoder features are cached; everything computes on them as float32.
    feature_dtype: str = setting("float32", known=("float32", "bfloat16", "float16"))
    # auto: bfloat16 where the processor multiplies it in hardware, else float32.
    dtype: str = setting("auto", known=("auto", "float32", "bfloat16", "float16", "float64"))
    # Of encoder, projector and language model, in every stage and analysis; auto: the accelerator where there is one.
    device: str = setting("auto", spelled=device)


@dataclass(frozen=True)
class TrainConfig:
    """How the projector is learned; rates per step, clip on the global gradient norm."""

    steps: int = setting(300, at_least=0)  # 0: from `epochs`
    epochs: float = setting(5.0, above=0)
    match_steps: bool = False  # epochs count the items before the ablation: as many steps at every level
    batch: int = setting(32, at_least=1)
    # What is shuffled: pictures, whose questions share a step (and their image tokens), or each item by itself.
    order: str = setting("pictures", known=("pictures", "items"))
    lr: float = setting(1e-3, above=0)
    weight_decay: float = setting(0.0, at_least=0)
    warmup: float = setting(0.03, at_least=0, below=1)  # share of the steps; then cosine to zero
    clip: float = setting(1.0, above=0)
    snapshots: tuple[str, ...] = setting(("0", "25", "50", "100", "200", "last"), spelled=step, numbers=True)
    checkpoint_seconds: float = setting(20.0, at_least=0)  # 0: after every step


@dataclass(frozen=True)
class CaptureConfig:
    """The activations that are written to disk, and the steps of training at which they are."""

    at: tuple[str, ...] = setting(("0", "last"), spelled=step, numbers=True)
    sites: tuple[str, ...] = setting(
        ("hook_embed", "blocks.*.hook_resid_post", "ln_final.hook_normalized"),
        spelled=site_pattern,
        needed=True,
    )
    spans: tuple[str, ...] = setting(("slot", "cue", "last"), known=_SPANS, needed=True)
    pictures_per_leaf: int = setting(2, at_least=0)  # of the test split, seeded; 0: all
    dtype: str = setting("float16", known="probing.store.shard_files:DTYPES")


@dataclass(frozen=True)
class EvaluateConfig:
    """The test pictures and templates of evaluation, and the width of the leaf-naming question."""

    pictures_per_leaf: int = setting(0, at_least=0)  # of the test split, seeded; 0: all
    # Of the test questions, averaged and apart; empty: the first of training.
    templates: tuple[str, ...] = setting((), known=_TEMPLATES)
    leaf_choices: int = setting(20, at_least=2)


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a run. Same config, same machine: same bytes.

    Raises:
        ValueError: a value has the wrong type, is out of range, or would do nothing beside the others.
        KeyError: a name is not known; the nearest known one is named.
    """

    name: str = setting("default", spelled=plain_name)
    seed: int = setting(0, at_least=0)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        for key, one in catalogue().items():
            one.check(attrgetter(key)(self))
        relations.check(self)

    def to_dict(self) -> dict[str, Any]:
        """The config as plain nested dictionaries, ready for JSON."""
        return dataclasses.asdict(self)

    @property
    def hash(self) -> str:
        """A digest of every setting that decides the trained weights (not the name, capture or evaluation).

        Settings at their default, or at what runs did before these were settings, are left out: a setting that comes
        later leaves older runs valid.
        """
        default = dict(flatten(Config().to_dict())) | _BEFORE
        deciding = {
            key: _HASHED.get((key, value), value) if isinstance(value, str) else value
            for key, value in flatten(self.to_dict())
            if key == "seed" or (key.startswith(DECIDING) and key not in INCIDENTAL and value != default[key])
        }
        deciding |= {"data.disjoint": True} if self.data.shuffle in _PLAIN else {}
        return hashlib.sha256(json.dumps([DEFAULTS, deciding], sort_keys=True).encode()).hexdigest()[:16]


GROUPS = {
    "data": DataConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "capture": CaptureConfig,
    "evaluate": EvaluateConfig,
}
"""The tables of a config in TOML; `name` and `seed` stand before them."""


@cache
def catalogue() -> dict[str, Setting]:
    """Every setting by its dotted key."""
    specs = [("", spec) for spec in dataclasses.fields(Config) if spec.name not in GROUPS]
    specs += [(f"{name}.", spec) for name, group in GROUPS.items() for spec in dataclasses.fields(group)]
    return {
        prefix + spec.name: Setting(prefix + spec.name, spec.default, spec.metadata.get("takes", Takes()))
        for prefix, spec in specs
    }


def read(
    path: str | Path | None = None, overrides: Iterable[str] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """The config of a TOML file (or the defaults), changed by overrides such as ``train.steps=100``.

    `base` are settings by dotted key, such as a preset's, that the file and the overrides go over.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: the file cannot be read.
        KeyError: a key or name is not known; the nearest known one is named.
        ValueError: the file is no TOML, or a value has the wrong type, is out of range or would do nothing.
    """
    return from_flat(settings(path, overrides, base))


def settings(
    path: str | Path | None = None, overrides: Iterable[str] = (), base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings that `read` makes a config of, by dotted key; refuses as it does, apart from relations."""
    in_file = {} if path is None else read_settings(path, _from_file)
    flat = {**(base or {}), **{key: value for key, value in in_file.items() if value != {}}}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ValueError(
                f"--set {shown(override)}: a setting is written key=value, such as train.steps=100"
            )
        one = _known(key.strip())
        flat[one.key] = one.parse(text.strip())
    return flat


def from_flat(flat: Mapping[str, Any]) -> Config:
    """The config in which the given dotted keys have the given values and all others their defaults.

    A text stands for the value that it is on the command line.
    """
    return _config(
        {
            key: _known(key).parse(value) if isinstance(value, str) else _known(key).convert(value)
            for key, value in flat.items()
        }
    )


def from_dict(plain: Mapping[str, Any]) -> Config:
    """The config that `Config.to_dict` wrote, now or in a version that had settings which are retired since."""
    if not isinstance(plain, Mapping):
        raise ValueError(f"a config is a table of settings, found {shown(plain)}")
    in_file = {key: _from_file(key, value) for key, value in flatten(plain) if key not in RETIRED}
    if in_file.get("model.projector") in _FLAT and "model.standardise" not in in_file:
        in_file["model.projector"] = f"flat-{in_file['model.projector']}"
    older = "data.coherence" not in in_file and not dict(flatten(plain)).get("data.disjoint")
    if older and in_file.get("data.shuffle") in _PLAIN:
        in_file["data.shuffle"] = _PLAIN[in_file["data.shuffle"]]
    return _config(_BEFORE | {key: value for key, value in in_file.items() if value != {}})


def _config(values: Mapping[str, Any]) -> Config:
    groups: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        groups.setdefault(group, {})[name] = value
    parts: dict[str, Any] = groups.pop("", {})
    return Config(**parts, **{name: GROUPS[name](**inner) for name, inner in groups.items()})


def _from_file(key: str, value: Any) -> Any:
    """The value of a setting in a file, checked; a table of settings may be empty."""
    if key in GROUPS and value == {}:
        return value
    if key in GROUPS:
        first = dataclasses.fields(GROUPS[key])[0].name
        raise ValueError(
            f"config key {key!r} is a table of settings ({key}.{first}, …), found {shown(value)}"
        )
    result = _known(key).convert(value)
    _known(key).check(result)
    return result


def _known(key: str) -> Setting:
    """The setting of that key.

    Raises:
        KeyError: there is none; the nearest is named, or why it is retired.
    """
    known = catalogue()
    if key in RETIRED:
        raise KeyError(f"config key {key!r} is retired: {RETIRED[key]}; leave it out")
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        raise KeyError(f"config key {shown(key)} is not known; {hint}")
    return known[key]


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
