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
from taxogen.runs.config.groups import (
    GROUPS,
    CaptureConfig,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    TrainConfig,
)
from taxogen.runs.config.toml_file import read_settings
from taxogen.runs.names import plain_name
from taxogen.runs.setting import Setting, Takes, flatten, help_of, setting, shown

DEFAULTS = 1  # to be raised when the default of a setting that decides weights changes: runs before it differ
DECIDING = ("data.", "model.", "train.")
INCIDENTAL = ("train.snapshots", "train.checkpoint_seconds", "train.track", "model.device")
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


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a run. Same config, same machine: same bytes.

    Attributes:
        name: of the run, and of its folder below artifacts/runs unless --run names another
        seed: of every draw: pictures, splits, names, ablation, projector, order of training

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


@cache
def catalogue() -> dict[str, Setting]:
    """Every setting by its dotted key."""
    known = {}
    for prefix, group in {"": Config, **{f"{name}.": group for name, group in GROUPS.items()}}.items():
        lines = help_of(group)
        for spec in dataclasses.fields(group):
            if prefix or spec.name not in GROUPS:
                key, takes = prefix + spec.name, spec.metadata.get("takes", Takes())
                known[key] = Setting(key, spec.default, takes, lines[spec.name])
    return known


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
