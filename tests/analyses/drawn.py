"""Figures read back: lines, bands, cells and marks as they are drawn, to be compared with a table."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox


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


def misprints(figure: Figure) -> list[str]:
    """What cannot be read in a figure as it is laid out: texts outside it, over one another, or over another panel."""
    figure.draw_without_rendering()
    boxes = _texts(figure)
    faults = [f"{name} is cut" for name, box, _ in boxes if not _inside(box, figure.bbox)]
    for at, (name, box, _) in enumerate(boxes):
        faults += [f"{name} is over {other}" for other, taken, _ in boxes[:at] if _over(box, taken)]
    shown = [axes for axes in figure.axes if axes.get_visible()]
    legends = [(axes, legend) for axes in shown if (legend := axes.get_legend()) is not None]
    faults += [
        "a legend is wider than its panel"
        for axes, legend in legends
        if legend.get_window_extent().width > axes.get_window_extent().width + 1
    ]
    return faults + [
        f"{name} is over a panel"
        for name, box, own in boxes
        for axes in shown
        if (axes is not own and _over(box, _corners(axes.get_window_extent())))
    ]


def _texts(figure: Figure) -> list[tuple[str, np.ndarray, Axes | None]]:
    """Every text that is shown, its outline in pixels, and the panel that it may lie in."""
    texts: list[tuple[Text, Axes | None]] = [(text, None) for text in figure.texts]
    texts += [(text, None) for legend in figure.legends for text in [*legend.get_texts(), legend.get_title()]]
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        inner = axes.get_legend()
        texts += [(text, axes) for text in (*axes.texts, *(inner.get_texts() if inner else ()))]
        for one in (axes, *axes.child_axes):
            names = [one.title, one._left_title, one.xaxis.label, one.yaxis.label]  # pyright: ignore
            texts += [(text, None) for text in names]
            for axis, limits in ((one.xaxis, one.get_xlim()), (one.yaxis, one.get_ylim())):
                ticks = zip(axis.get_ticklocs(), axis.get_ticklabels())
                texts += [
                    (text, None) for at, text in ticks
                    if min(limits) - 1e-9 <= at <= max(limits) + 1e-9
                ]  # fmt: skip
    shown = [(text, axes) for text, axes in texts if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), _outline(text), axes) for text, axes in shown]


def _outline(text: Text) -> np.ndarray:
    """The corners of a text, turned as it is; a little less than what its letters may take."""
    centre = np.mean(_corners(text.get_window_extent()), axis=0)
    angle = text.get_rotation()
    text.set_rotation(0)
    box = text.get_window_extent()
    text.set_rotation(angle)
    turned = np.deg2rad(angle)
    turn = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    half = np.array([max(box.width - 2, 1), box.height * 0.8]) / 2
    return centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ turn.T


def _corners(box: Bbox) -> np.ndarray:
    return np.array([[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]])


def _inside(corners: np.ndarray, box: Bbox) -> bool:
    return bool(
        (corners.min(0) >= (box.x0 - 1, box.y0 - 1)).all()
        and (corners.max(0) <= (box.x1 + 1, box.y1 + 1)).all()
    )


def _over(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two rectangles share more than an edge: no direction of their sides separates them."""
    for side in (one[1] - one[0], one[3] - one[0], other[1] - other[0], other[3] - other[0]):
        mine, theirs = one @ side, other @ side
        if mine.max() <= theirs.min() or theirs.max() <= mine.min():
            return False
    return True
