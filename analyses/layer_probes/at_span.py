"""What the probes of one span come to, and how it lies on disk as a part."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame.parts import ARRAYS, Codec, Parts, stored
from analyses.inputs.probe_curves import Condition, Curves
from probing.probes.evaluate import Series


@dataclass(frozen=True)
class AtSpan:
    """Rows, curves, directions and reasons for NaN of one span; see `analyses.layer_probes.layers.LayerProbes`."""

    table: pd.DataFrame
    curves: Curves
    directions: Mapping[tuple[int, str, str, str], np.ndarray]
    undefined: tuple[str, ...]


Keep = Callable[[str, Callable[[], AtSpan]], AtSpan]
"""Gives what is known under a name, or makes it."""


def made_at_once(_: str, make: Callable[[], AtSpan]) -> AtSpan:
    """A span's probes, not kept on disk."""
    return make()


def kept_in(parts: Parts) -> Keep:
    """What keeps the probes of each span as a part."""
    return partial(_stored, parts)


def _stored(parts: Parts, name: str, make: Callable[[], AtSpan]) -> AtSpan:
    return stored(parts.folder, name, make, CODEC, parts.settings)


def _write(one: AtSpan, path: Path) -> None:
    buffer = io.BytesIO()
    one.table.to_parquet(buffer, index=False)
    arrays = {"table": np.frombuffer(buffer.getvalue(), np.uint8), "undefined": np.array(one.undefined, str)}
    for place, values in one.directions.items():
        arrays[_name("direction", *place)] = values.astype(np.float32)
    for condition, (sites, along) in one.curves.items():
        arrays[_name("sites", *condition)] = np.array(sites)
        for subset, series in along.items():
            for part in fields(series):
                arrays[_name("curve", *condition, subset, part.name)] = getattr(series, part.name)
    ARRAYS.write(arrays, path)


def _read(path: Path) -> AtSpan:
    arrays = ARRAYS.read(path)
    table = pd.read_parquet(io.BytesIO(arrays.pop("table").tobytes()))
    undefined = tuple(arrays.pop("undefined").tolist())
    directions, sites, series = {}, {}, {}
    for name, values in arrays.items():
        match json.loads(name):
            case ["direction", *place]:
                directions[tuple(place)] = values
            case ["sites", *condition]:
                sites[Condition(*condition)] = tuple(values.tolist())
            case ["curve", *condition, subset, part]:
                series.setdefault(Condition(*condition), {}).setdefault(subset, {})[part] = values
    curves = {
        condition: (sites[condition], {subset: Series(**parts) for subset, parts in along.items()})
        for condition, along in series.items()
    }
    return AtSpan(table, curves, directions, undefined)


def _name(*labels: Any) -> str:
    return json.dumps(labels, ensure_ascii=False)


CODEC = Codec(".npz", _write, _read)
