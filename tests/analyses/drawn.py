"""Figures read back: lines, bands, cells and marks as they are drawn, to be compared with a table."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


def distinct(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The table with numbers that no other row has, as it is read from disk: whatever is drawn comes from one row.

    Values lie in [0, 1], so that those of p and q are on both sides of 5 %, which a fifth of them are made to be under.
    """
    rng = np.random.default_rng(seed)
    values = rng.permutation(np.linspace(0.06, 0.99, len(table)))
    rare = table["measure"].str.match("(.*_)?[pq](_corrected)?$") & (rng.random(len(table)) < 0.2)
    values = np.where(rare, values / 25, values)
    below, above = rng.uniform(0.001, 0.02, (2, len(table)))
    return table.assign(value=values, lower=values - below, upper=values + above, n=table["n"])


def reread(table: pd.DataFrame, folder) -> pd.DataFrame:
    """The table as another program finds it."""
    table.to_parquet(folder / "table.parquet", index=False)
    return pd.read_parquet(folder / "table.parquet")


def panels(figure: Figure) -> list[Axes]:
    """The panels of a figure without its colour bars."""
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def line(axes: Axes, colour: str, style: str = "-") -> pd.DataFrame:
    """The points of the only line of that colour and style, in the order drawn."""
    same = [
        one for one in axes.lines
        if _same(one.get_color(), colour) and _style(one) == style and _points(one).size
    ]  # fmt: skip
    assert len(same) == 1, f"{len(same)} lines in {colour}, {style}"
    return pd.DataFrame(_points(same[0]), columns=["layer", "value"])


def band(axes: Axes, colour: str) -> pd.DataFrame:
    """Layer, lower and upper of the only band of that colour."""
    bands = [one for one in axes.collections if isinstance(one, PolyCollection)]
    same = [one for one in bands if _same(tuple(np.asarray(one.get_facecolor())[0, :3]), colour)]
    assert len(same) == 1, f"{len(same)} bands in {colour}"
    edge = pd.DataFrame(np.asarray(same[0].get_paths()[0].vertices), columns=["layer", "value"]).groupby(
        "layer"
    )["value"]
    return pd.DataFrame({"lower": edge.min(), "upper": edge.max()}).reset_index()


def lines_drawn(axes: Axes) -> int:
    """How many lines with points a panel has, those at chance left out."""
    return sum(_points(one).size > 0 and _style(one) != "chance" for one in axes.lines)


def assert_curve(axes: Axes, rows: pd.DataFrame, colour: str, limits: bool = True) -> None:
    """The curve of that colour is `value` of these rows over `layer`, its band `lower` to `upper`."""
    rows = rows.sort_values("layer")
    assert len(rows) > 1
    assert not rows["layer"].duplicated().any()
    np.testing.assert_allclose(line(axes, colour), rows[["layer", "value"]])
    if limits:
        np.testing.assert_allclose(band(axes, colour), rows[["layer", "lower", "upper"]])


def assert_dotted(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    """The dotted line of that colour is `value` of these rows over `layer`."""
    rows = rows.sort_values("layer")
    assert len(rows) > 1
    np.testing.assert_allclose(line(axes, colour, "dotted"), rows[["layer", "value"]])


def cells(axes: Axes) -> np.ndarray:
    """The cells of the only heat map of a panel; NaN where there is none."""
    (image,) = axes.images
    return np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)


def every(layers) -> list[int]:
    """The layers of a heat map's axis: all from the first to the last."""
    return list(range(int(min(layers)), int(max(layers)) + 1))


def marks(axes: Axes) -> np.ndarray:
    """Whether each cell of a heat map carries a mark."""
    (dots,) = axes.lines
    shown = np.zeros(cells(axes).shape, dtype=bool)
    points = _points(dots).astype(int)
    shown[points[:, 1], points[:, 0]] = True
    return shown


def ticks(axes: Axes, which: str) -> dict[int, str]:
    """Place → text of the ticks of axis "x" or "y"."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    return {int(at): text.get_text() for at, text in zip(axis.get_ticklocs(), axis.get_ticklabels())}


def legend(figure: Figure) -> dict[str, str]:
    """Name → colour, as the legend of a figure gives them."""
    (box,) = figure.legends
    return {
        text.get_text(): matplotlib.colors.to_hex(handle.get_color())  # pyright: ignore
        for text, handle in zip(box.get_texts(), box.get_lines(), strict=True)
    }


def _same(one, other) -> bool:
    return matplotlib.colors.to_hex(one) == matplotlib.colors.to_hex(other)


def _points(one: Line2D) -> np.ndarray:
    return np.asarray(one.get_xydata())


def _style(one: Line2D) -> str:
    if one.get_zorder() == 0.5:
        return "chance"
    return "dotted" if one.is_dashed() else "-"
