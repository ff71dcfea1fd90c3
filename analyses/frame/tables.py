"""Long tables: their columns, a row from an estimate, the layer of a site, evidence in them, and how they are saved."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probing import stats
from probing.sites import EMBED, Site
from probing.stats import Estimate
from probing.store import records
from probing.store.labelled import library

if TYPE_CHECKING:
    import xarray  # pyright: ignore[reportMissingImports]

COLUMNS = (
    *(
        "run",
        "analysis",
        "step",
        "site",
        "layer",
        "span",
        "modality",
        "target",
        "treatment",
        "measure",
        "split",
    ),
    *("value", "lower", "upper", "n", "seed"),
)
_NUMBERS = ("value", "lower", "upper", "n")
_MOST_PLACES = 10_000_000
OUTSIDE = ("encoder", "taxonomy", "text encoder", "scores", "all")
"""Entries of the site column that are no sites of the language model."""
NO_STEP = -1
"""The step of rows that no training step touches, such as those of text."""

PICTURES, SHARED, CAUSES, WORDS = "pictures", "shared with words", "causes", "words"
"""What evidence about layers is about: states of pictures, what these have in common with those of words, what answers
depend on, and words alone."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Numbers along the layers that `analyses.emergence` sets side by side; `ALONG_LAYERS` of a package has its own.

    Attributes:
        kind: its name.
        about: `PICTURES`, `SHARED`, `CAUSES` or `WORDS`.
        rows: column → value of the cells of stored effects that are meant, or of the rows of the table.
        least: the measure of the limit below which nothing is detected, taken off the rows of the table, and that of
            their p corrected over layers; none where effects are stored.
        most: a numeric column of which the largest value is meant.
        sign: −1 where a loss is evidence.
    """

    kind: str
    about: str
    rows: Mapping[str, str] = field(default_factory=dict)
    least: tuple[str, str] | None = None
    most: str = ""
    sign: int = 1


def layer_of(site: str, encoder: float = float("nan")) -> float:
    """The block index of a site or head (`blocks.3.attn.hook_z#5`), −1 for the input of the first block.

    NaN after the last norm and outside a language model.

    Args:
        site: an entry of the column `site`.
        encoder: the layer of the image encoder, where it has a place on the axis.
    """
    if site == "encoder":
        return encoder
    if site in OUTSIDE:
        return float("nan")
    parsed = Site.parse(site.partition("#")[0])
    if parsed.layer is not None:
        return float(parsed.layer)
    return -1.0 if parsed.point == EMBED else float("nan")


def step_text(step: int) -> str:
    """A step before what follows it, such as `step 150, `; nothing for rows of no step."""
    return "" if step == NO_STEP else f"step {step}, "


def block_text(layer: float) -> str:
    """A block for the eye: its index, the name of what lies before the blocks, "none", or "never" for a limit.

    >>> block_text(3.0), block_text(-1.0), block_text(float("nan")), block_text(float("inf"))
    ('3', 'input', 'none', 'never')
    """
    if math.isnan(layer):
        return "none"
    return "never" if math.isinf(layer) else {-2.0: "encoder", -1.0: "input"}.get(layer, f"{layer:.0f}")


def block_limits_text(row: Mapping[Any, Any]) -> str:
    """The interval of a block in brackets, with the space before it; nothing where it has none."""
    limits = [float(row[name]) for name in ("lower", "upper")]
    return "" if any(map(math.isnan, limits)) else f" [{', '.join(map(block_text, limits))}]"


def layer_text(row: Mapping[Any, Any]) -> str:
    """A block with its interval.

    >>> layer_text({"value": float("nan"), "lower": 28.0, "upper": float("inf")})
    'none [28, never]'
    """
    return block_text(float(row["value"])) + block_limits_text(row)


def estimate_text(row: Any, form: str = ".2f") -> str:
    """The number of a row with its interval, such as `0.90 [0.87, 0.93]`; `(no interval)` or `undefined` without."""
    value, lower, upper = (float(row[name]) for name in ("value", "lower", "upper"))
    return stats.estimate_text(value, lower, upper, form)


def row(measure: str, number: Estimate | float, n: int = 0, **labels: Any) -> dict[str, Any]:
    """One row of a long table; a bare number has no interval."""
    if not isinstance(number, Estimate):
        number = Estimate(float(number), float("nan"), float("nan"), n)
    limits = {"value": number.value, "lower": number.lower, "upper": number.upper, "n": number.n}
    return {**labels, "measure": measure, **limits}


def table(
    rows: Sequence[Mapping[str, Any]] | pd.DataFrame, analysis: str, seed: int, extra: Sequence[str] = ()
) -> pd.DataFrame:
    """The long table of these rows; `extra` columns stand before the span, labels that no row has are empty."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    frame = frame.assign(run="", analysis=analysis, seed=seed)
    frame["layer"] = [layer_of(site) for site in frame["site"]]
    columns = [*COLUMNS[:5], *extra, *COLUMNS[5:]]
    for name in columns:
        if name not in frame:
            frame[name] = ""
    return frame[columns]


def save(table: pd.DataFrame, folder: Path, name: str, made_from: Mapping[str, Any]) -> None:
    """Writes name.csv for people and, last, name.parquet for programs, each whole or not at all, with its record."""
    records.write(folder / f"{name}.csv", lambda part: table.to_csv(part, index=False), made_from)
    records.write(folder / f"{name}.parquet", lambda part: table.to_parquet(part, index=False), made_from)


def to_xarray(table: pd.DataFrame, dims: Sequence[str] = ()) -> "xarray.Dataset":
    """A long table as a data set of xarray: an axis for each label that tells rows apart; needs the extra `xarray`.

    `value`, `lower`, `upper` and `n` lie along all axes, NaN where the table has no row. A label that another decides,
    such as the layer of a site, is a coordinate along that axis; one that all rows share has no axis.

    Args:
        table: as every analysis makes and saves it.
        dims: columns that are the axes; by default those that tell rows apart, as few as that takes.

    Raises:
        ModuleNotFoundError: xarray is not installed.
        KeyError: the table has no such column.
        ValueError: rows are alike in all `dims`, or the axes have more than 10 million places.
    """
    xr = library()
    if lacking := [name for name in dims if name not in table]:
        raise KeyError(f"the table has no column {lacking[0]!r}; it has {', '.join(map(str, table.columns))}")
    labels = [str(name) for name in table.columns if name not in _NUMBERS]
    varying = [name for name in labels if table[name].nunique(dropna=False) > 1]
    axes = list(dims) or _axes(table, varying)
    _require_apart(table, axes, varying)
    codes, values = zip(*(pd.factorize(table[name], use_na_sentinel=False) for name in axes))
    shape = tuple(map(len, values))
    if math.prod(shape) > _MOST_PLACES:
        raise ValueError(
            f"{len(table)} rows would stand in an array of {' × '.join(map(str, shape))} places ({', '.join(axes)}); "
            "choose rows first, such as those of one measure"
        )

    def spread(name: str) -> np.ndarray:
        column = table[name].to_numpy()
        text = column.dtype == object
        whole = np.full(shape, "" if text else np.nan, dtype=object if text else float)
        whole[codes] = column
        return whole

    coords: dict[str, Any] = {name: np.asarray(own) for name, own in zip(axes, values)}
    variables = {name: (axes, spread(name)) for name in _NUMBERS if name in table}
    for name in (one for one in labels if one not in axes):
        held_by = [axis for axis in axes if _decides(table, axis, name)]
        if name not in varying:
            coords[name] = table[name].iloc[0]
        elif held_by:
            firsts = table.drop_duplicates(held_by[0])[name]
            coords[name] = (held_by[0], firsts.to_numpy())
        else:
            variables[name] = (axes, spread(name))
    return xr.Dataset(variables, coords)


def _axes(table: pd.DataFrame, varying: Sequence[str]) -> list[str]:
    """The labels that tell rows apart, as few as that takes: of several the first in the table, and always `step`."""
    axes = list(varying)
    for name in reversed(varying):
        others = [one for one in axes if one != name]
        if name != "step" and others and not table.duplicated(others).any():
            axes = others
    return axes


def _decides(table: pd.DataFrame, axis: str, name: str) -> bool:
    """Whether rows that are alike in one column are so in the other."""
    return bool(table.groupby(axis, dropna=False)[name].nunique(dropna=False).max() == 1)


def _require_apart(table: pd.DataFrame, axes: Sequence[str], varying: Sequence[str]) -> None:
    """Refuses a table of which rows are alike in all axes."""
    if not axes:
        raise ValueError(f"the {len(table)} rows differ in no label, so there is no axis for an array")
    if (alike := table.duplicated(list(axes), keep=False)).any():
        groups = table.loc[alike].groupby(list(axes), dropna=False)
        differing = [name for name in varying if groups[name].nunique(dropna=False).max() > 1]
        remedy = (
            f"they differ in {', '.join(differing)}: choose rows, or name it as well"
            if differing
            else "drop them"
        )
        raise ValueError(f"{alike.sum()} of {len(table)} rows are alike in {', '.join(axes)}; {remedy}")
