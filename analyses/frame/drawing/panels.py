"""Panels side by side, one a place in the prompt: their frame, their legend and footnote, and runs in one figure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from probing.categories.massive import TREATMENTS
from probing.sites import EMBED

OVER_LEAVES = "95 % bootstrap over leaves"
"""The interval of a number whose leaf concepts were drawn again."""


def unique(names: Iterable) -> list[str]:
    """Each name once, in order."""
    return list(dict.fromkeys(names))


def of_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last step, and those that no step touches."""
    return rows[(rows["step"] == rows["step"].max()) | (rows["step"] < 0)]


def treatment_of(table: pd.DataFrame) -> str:
    """The treatment of massive activations that figures and summaries show: the default one, if the table has it."""
    return TREATMENTS[0] if (table["treatment"] == TREATMENTS[0]).any() else str(table["treatment"].iloc[0])


def shown_modality(table: pd.DataFrame) -> str:
    """The modality of figures that show one: pictures, or words where no pictures were given."""
    return "image" if (table["modality"] == "image").any() else "text"


def side_by_side(count: int, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """Panels with one vertical scale."""
    figure = Figure(figsize=(2.9 * count + 0.6, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=True)[0])


def frame(axes: Axes, title: str, null: float | None = 0.0) -> None:
    """The title of a panel over layers, and a line at the value that says nothing, if there is one."""
    if null is not None:
        axes.axhline(null, **drawing.CHANCE)
    axes.set_title(title)
    axes.set_xlabel("block")


def legend(figure: Figure, panel: Axes, columns: int) -> None:
    """The names in one panel, above all of them; one below the other over a single panel."""
    lines, names = panel.get_legend_handles_labels()
    columns = columns if len(figure.axes) > 1 else 1
    figure.legend(lines, names, loc="outside upper center", ncols=columns)


def place_of(site: str) -> str:
    """A site in words: the stream behind a block by the block alone, another point of it with its name.

    >>> place_of("blocks.3.hook_resid_post"), place_of("blocks.3.hook_attn_out"), place_of("hook_embed")
    ('block 3', 'block 3, attn out', 'the input of block 0')
    """
    if site == EMBED:
        return "the input of block 0"
    block, point = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+)", site, re.DOTALL).groups()  # pyright: ignore
    words = re.sub(r"attn\.|hook_", "", point).replace("_", " ").replace(".", " ").replace("#", " ")
    return ", ".join([f"block {block}"] * (block is not None) + [words] * (words != "resid post"))


def leaves_caption(rows: pd.DataFrame, null: str, interval: str = OVER_LEAVES) -> str:
    """The caption of numbers about leaf concepts."""
    return drawing.caption(int(rows["n"].max()), "leaf concepts", interval, null)


def runs(lines: Mapping[str, pd.DataFrame], null: str, limits: Sequence[pd.DataFrame] = ()) -> Figure:
    """Curves over layers, one a `run` at its last step, coloured by `condition`; a panel for each `span`.

    Args:
        lines: label of the vertical axis → rows with the columns run, condition, span, step, layer, value, lower,
            upper, n; a line of panels each.
        null: of the caption.
        limits: for each line, the rows that say what the null stays below, drawn dotted; none for none.
    """
    with drawing.style():
        shown = {label: _last_of_runs(rows) for label, rows in lines.items()}
        rows = pd.concat(shown.values())
        spans, palette = unique(rows["span"]), drawing.colours(unique(rows["condition"]))
        size = (2.9 * len(spans) + 0.6, 2.6 * len(shown) + 0.8)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(shown), len(spans), squeeze=False, sharex=True, sharey="row")
        for at, (label, own) in enumerate(shown.items()):
            for axes, span in zip(grid[at], spans):
                drawing.conditions(axes, own[own["span"] == span], "layer", palette)
                for _, limit in _each_run(_last_of_runs(limits[at])) if limits else ():
                    colour = palette[str(limit["condition"].iloc[0])]
                    drawing.curve(axes, limit[limit["span"] == span], "layer", colour, dashed=True)
                frame(axes, span)
            grid[at, 0].set_ylabel(label)
        legend(figure, grid[0, 0], 4)
        drawing.footnote(figure, leaves_caption(rows, null))
        return figure


def _each_run(rows: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    return ((str(name), own) for name, own in rows.groupby("run", sort=False))


def _last_of_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """The last step of each run; runs need not have the same."""
    return pd.concat([of_last_step(own) for _, own in _each_run(rows)])
