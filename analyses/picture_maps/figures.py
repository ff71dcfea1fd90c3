"""Figures of a table of picture maps: maps over pictures, how they point, and where the heads that point are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from analyses.frame import drawing
from analyses.picture_maps.summary import IN_WORDS, PATCHES, by_map, word
from taxogen.world import pictures

SIDE = 128
"""Pixels across and down in which a map is drawn."""
ROWS = {
    ("run", PATCHES[0]): "this run",
    ("run", PATCHES[1]): "patches\nshuffled",
    ("placebo", PATCHES[0]): "random init",
}
"""Model and patches → the name of a line of maps."""
SIGNED = ("gradient", "integrated", "cut", "mean", "patch", "probe")
"""Maps whose numbers are of either sign."""
FADED = 0.35
"""How much of a picture is seen through a map."""


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of the table, by name; a picture whose file is gone is white."""
    with drawing.style():
        of_leaves = table[table["measure"] == "map"].groupby("leaf", sort=False)
        names = {str(leaf): re.sub(r"\W+", "_", str(leaf)) for leaf, _ in of_leaves}
        figures = {f"maps-{names[str(leaf)]}": maps(rows, table) for leaf, rows in of_leaves}
        pointing = table[(table["measure"] == "pointing") & table["value"].notna()]
        if len(pointing):
            figures["pointing"] = pointed(table)
        if (pointing["map"] == "head").any():
            figures["heads"] = heads(table)
        if (table["measure"] == "agreement").any():
            figures["agreement"] = agreeing(table)
        return figures


def maps(rows: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """The maps of one leaf's picture, in place, with patches shuffled, and by the placebo run."""
    rows = rows[rows["span"] != "cue"]
    kinds = list(dict.fromkeys(zip(rows["map"], rows["site"])))
    lines = [key for key in ROWS if ((rows["model"] == key[0]) & (rows["patches"] == key[1])).any()]
    figure = Figure(figsize=(1.05 * (len(kinds) + 1) + 0.4, 1.22 * len(lines) + 0.7), layout="constrained")
    grid = figure.subplots(len(lines), len(kinds) + 1, squeeze=False)
    shown = picture_of(rows)
    leaf = str(rows["leaf"].iloc[0])
    shares = table[(table["measure"] == "leaf_pointing") & (table["leaf"] == leaf)]
    for line, (model, patches) in zip(grid, lines):
        for axes in line:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        line[0].imshow(shown, extent=(0, 1, 1, 0), aspect=shown.height / shown.width)
        line[0].set_ylabel(ROWS[model, patches], fontsize=7)
        for axes, (name, site) in zip(line[1:], kinds):
            of_kind = rows[(rows["map"] == name) & (rows["site"] == site) & (rows["model"] == model)]
            one = of_kind[of_kind["patches"] == patches]
            over_picture(axes, one, shown, float(of_kind["value"].abs().max()))
            chosen = shares[(shares["map"] == name) & (shares["site"] == site) & (shares["model"] == model)]
            chosen = chosen[(chosen["patches"] == patches) & (chosen["span"] == one["span"].iloc[0])]
            share = float(chosen["value"].iloc[0])
            axes.set_xlabel("" if np.isnan(share) else f"{share:.2f}", fontsize=7, labelpad=1)
    grid[0, 0].set_title(leaf, fontsize=7)
    for axes, (name, site) in zip(grid[0, 1:], kinds):
        axes.set_title(word(name, site).replace(", ", ",\n"), fontsize=6)
    drawing.footnote(figure, _about_maps(rows, shares))
    return figure


def _about_maps(rows: pd.DataFrame, shares: pd.DataFrame) -> str:
    text = (
        f"{rows['picture'].iloc[0]}, {rows['patch'].nunique()} patches; the {rows['target'].iloc[0]} is asked for. Red "
        "speaks for the right names and blue against them, from 0 to the largest number of the model's map; of probe "
        "scores from the picture's mean. Attention is that of the last token, dark to yellow. Shuffled: the same map "
        "with the picture's tokens in another order, drawn where each place is. "
    )
    if shares["value"].notna().any():
        area = rows.drop_duplicates("patch")["inside"].mean()
        text += f"Under each map: the share of its mass on the object; the object has {area:.2f} of the area."
    else:
        text += "The object in the picture is not known, for it has no transparency."
    return text


def picture_of(rows: pd.DataFrame) -> Image.Image:
    """The picture of some rows; white where its file is gone or another."""
    first = rows.iloc[0]
    table = {name: [str(first[name])] for name in ("picture", "leaf", "content_hash")}
    table |= {name: [""] for name in ("source", "style_group", "licence")}
    return pictures.of_table(str(first["pictures"]), pd.DataFrame(table)).open_or_blank(str(first["picture"]))


def over_picture(axes: Axes, rows: pd.DataFrame, shown: Image.Image, largest: float) -> None:
    """A map over a picture that is faded: each patch where it lies, the mean where several do."""
    grey = np.asarray(shown.convert("L"), float)
    aspect: Any = {"extent": (0, 1, 1, 0), "aspect": shown.height / shown.width}
    axes.imshow(255 - FADED * (255 - grey), cmap="gray", vmin=0, vmax=255, **aspect)
    boxes = rows[["left", "top", "right", "bottom"]].to_numpy(float)
    values = rows["value"].to_numpy(float)
    signed = str(rows["map"].iloc[0]) in SIGNED
    if str(rows["map"].iloc[0]) == "probe":
        values = values - values.mean()
        largest = float(np.abs(values).max())
    spread = on_pixels(values, boxes)
    strength = np.nan_to_num(np.abs(spread) / (largest or 1.0)).clip(0, 1)
    limits = (-1, 1) if signed else (0, 1)
    axes.imshow(
        spread / (largest or 1.0), cmap="RdBu_r" if signed else "viridis", vmin=limits[0], vmax=limits[1],
        alpha=0.85 * strength**0.5 if signed else 0.65, interpolation="nearest", **aspect,
    )  # fmt: skip


def on_pixels(
    values: Float[np.ndarray, " tokens"], boxes: Float[np.ndarray, "tokens 4"]
) -> Float[np.ndarray, "side side"]:
    """A map in pixels of the picture: the mean of the patches at each, small ones count more; NaN where none is.

    Tokens whose place has no area, such as those that end a row, are not drawn.
    """
    placed = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    values, boxes = values[placed], boxes[placed]
    middles = (np.arange(SIDE) + 0.5) / SIDE
    across = (boxes[:, None, 0] <= middles) & (middles < boxes[:, None, 2])
    down = (boxes[:, None, 1] <= middles) & (middles < boxes[:, None, 3])
    weight = 1 / ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    total, covered = (
        np.einsum("t,ty,tx->yx", one, down.astype(float), across.astype(float))
        for one in (weight * values, weight)
    )
    return np.where(covered > 0, total / np.where(covered > 0, covered, 1), np.nan)


def pointed(table: pd.DataFrame) -> Figure:
    """The share of each map's mass on the object, over leaves, beside both nulls and the object's area."""
    rows = table[(table["measure"] == "pointing") & (table["map"] != "head")]
    area = table[table["measure"] == "area"].iloc[0]
    names = by_map(rows)
    figure = Figure(figsize=(6.4, 0.34 * len(names) + 1.5), layout="constrained")
    axes = figure.subplots()
    looks = {
        ("run", PATCHES[0]): ("this run", drawing.colour("pretrained"), "o"),
        ("run", PATCHES[1]): ("this run, patches shuffled", drawing.colour("within"), "^"),
        ("placebo", PATCHES[0]): ("random init", drawing.colour("random_init"), "s"),
    }
    looks = {key: look for key, look in looks.items() if (rows["model"] == key[0]).any()}
    for shift, ((model, patches), (label, colour, marker)) in enumerate(looks.items()):
        own = rows[(rows["model"] == model) & (rows["patches"] == patches)]
        own = own.set_index(["map", "span", "site"]).reindex(names)
        places = np.arange(len(names)) + 0.22 * (shift - (len(looks) - 1) / 2)
        axes.hlines(
            places, own["lower"].astype(float), own["upper"].astype(float), color=colour, linewidth=1.4
        )
        axes.scatter(own["value"], places, s=14, c=colour, marker=marker, label=label, zorder=3)
    axes.axvline(float(area["value"]), **drawing.CHANCE)
    axes.set_yticks(range(len(names)), [word(name, site, span) for name, span, site in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("share of the map on the object")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    null = (
        "the object's share of the area, dashed, and the same maps with the picture's tokens in another order"
    )
    drawing.footnote(figure, drawing.caption(int(area["n"]), "leaves, a picture each", IN_WORDS, null))
    return figure


def agreeing(table: pd.DataFrame) -> Figure:
    """How the maps of a picture agree with what is lost by the mean patch in the place of each."""
    rows = table[table["measure"] == "agreement"]
    names = by_map(rows)
    figure = Figure(figsize=(6.0, 0.3 * len(names) + 1.3), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(rows["model"]))
    for shift, model in enumerate(models):
        own = rows[rows["model"] == model].set_index(["map", "span", "site"]).reindex(names)
        colour = drawing.colour("pretrained" if model == "run" else "random_init")
        places = np.arange(len(names)) + 0.2 * (shift - (len(models) - 1) / 2)
        axes.hlines(
            places, own["lower"].astype(float), own["upper"].astype(float), color=colour, linewidth=1.4
        )
        label = "this run" if model == "run" else "random init"
        axes.scatter(
            own["value"], places, s=14, c=colour, marker="o" if model == "run" else "s", label=label, zorder=3
        )
    axes.axvline(0, **drawing.CHANCE)
    axes.set_yticks(range(len(names)), [word(name, site, span) for name, span, site in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("rank correlation over patches")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    with_what = "Correlation of each map with that of the mean patch in the place of each, picture by picture"
    about = drawing.caption(int(rows["n"].max()), "leaves, a picture each", IN_WORDS, "0")
    drawing.footnote(figure, f"{with_what}. {about}")
    return figure


def heads(table: pd.DataFrame) -> Figure:
    """The share of each head's attention to the picture that is on the object, beyond the object's area."""
    rows = table[(table["measure"] == "pointing") & (table["map"] == "head") & (table["span"] == "last")]
    rows = rows[(rows["patches"] == PATCHES[0]) & rows["model"].isin(["run", "placebo"])]
    area = table[table["measure"] == "area"].iloc[0]
    models: Sequence[str] = list(dict.fromkeys(rows["model"]))
    figure = Figure(figsize=(3.1 * len(models) + 0.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    rows = rows.assign(
        head=rows["site"].str.partition("#")[2].astype(int), beyond=rows["value"] - area["value"]
    )
    most = float(rows["beyond"].abs().max())
    for axes, model in zip(panels, models):
        cells = rows[rows["model"] == model].pivot(index="head", columns="layer", values="beyond")
        last = "share on the object − its area" if axes is panels[-1] else None
        drawing.heat(axes, cells, (-most, most), last, diverging=True)
        axes.set_title("this run" if model == "run" else "random init")
        axes.set_xlabel("block")
    panels[0].set_ylabel("head")
    about = drawing.caption(
        int(rows["n"].max()), "leaves, a picture each", "in the table", "0, the object's area"
    )
    drawing.footnote(figure, f"Attention of the last token to the picture. {about}")
    return figure
