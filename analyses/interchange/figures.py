"""Figures of an interchange table: answers that follow the source, effects beside controls, what stays, angles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.interchange.exchanged import ANGLES, ARBITRARY_ANGLES, SPECTRUM

METHODS = {
    "means": "differences of means",
    "probe": "probes",
    "leace": "LEACE",
    "das": "learnt (DAS)",
}
EDITS = {
    "swap": "subspace",
    "complement": "its complement",
    "read": "its part that is read",
    "unread": "its part that is not",
    "random": "random, equal rank",
    "random_norm": "random, equal norm",
    "arbitrary": "arbitrary labels",
    "whole": "whole state",
}
STAYS = {"other": "other hypernyms:\nright order", "leaf": "leaf's name first\ninside its hypernym"}
_ALPHA = 0.05


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of a table, by name: one of each kind for a span, and the angles where there are any."""
    figures: dict[str, Figure] = {}
    with drawing.style():
        for span in dict.fromkeys(table["span"]):
            rows = table[table["span"] == span]
            figures[f"accuracy_{span}"] = accuracy(rows)
            figures[f"controls_{span}"] = controls(rows)
            if _lines(rows, STAYS):
                figures[f"stays_{span}"] = stays(rows)
            if (rows["target"] == "angles").any():
                figures[f"angles_{span}"] = angles(rows)
    return figures


def accuracy(rows: pd.DataFrame) -> Figure:
    """How often the source's hypernym is preferred, by layer, a line for each method."""
    return _by_rank(rows, {"hypernym": "source's hypernym\npreferred"})


def stays(rows: pd.DataFrame) -> Figure:
    """What an exchange should leave as it was, by layer, a line for each method; nothing exchanged is the mark."""
    return _by_rank(rows, STAYS)


def controls(rows: pd.DataFrame) -> Figure:
    """Effects of a subspace of the largest rank, its parts and its controls, by layer."""
    shown = rows[(rows["measure"] == "effect") & (rows["treatment"] == "")]
    own = shown[(shown["edit"] == "swap") & (shown["rank"] == shown["rank"].max())]
    subspaces = list(dict.fromkeys(zip(own["method"], own["trained"], own["rank"])))
    figure, grid = _grid(1, len(subspaces), 2.6)
    palette = drawing.colours(list(EDITS))
    for axes, (method, trained, rank) in zip(grid[0], subspaces):
        mine = (shown["method"] == method) & (shown["trained"] == trained) & (shown["rank"] == rank)
        shared = (shown["method"] == "") & shown["rank"].isin([0, rank])
        for edit, label in EDITS.items():
            _line(axes, shown[(mine | shared) & (shown["edit"] == edit)], palette[edit], label)
        twin = rows[(rows["measure"] == "effect") & (rows["treatment"] != "") & (rows["edit"] == "swap")]
        twin = twin[(twin["method"] == method) & (twin["trained"] == trained) & (twin["rank"] == rank)]
        _line(axes, twin, drawing.colour("random_init"), "random-init LM")
        axes.axhline(0, **drawing.CHANCE)
        axes.set_title(f"{METHODS[method]},\n{trained}, rank {rank}", loc="left")
        axes.set_xlabel("behind block")
    grid[0][0].set_ylabel("source's against base's\nhypernym, change (nats)")
    _finish(figure, grid, rows, "no change (dashed); random and arbitrary ones are means over draws")
    return figure


def angles(rows: pd.DataFrame) -> Figure:
    """Overlap of the subspaces of words and of pictures by layer, beside those of null subspaces."""
    shown = rows[(rows["target"] == "angles") & (rows["measure"] == "overlap")]
    p = rows[rows["measure"] == "overlap_p_corrected"]
    methods, ranks = (list(dict.fromkeys(shown[name])) for name in ("method", "rank"))
    figure, grid = _grid(1, len(ranks), 2.4)
    palette = drawing.colours(methods)
    for axes, rank in zip(grid[0], ranks):
        for method in methods:
            one = shown[(shown["method"] == method) & (shown["rank"] == rank)]
            own = one[one["edit"] == ANGLES]
            drawing.curve(axes, own, "layer", palette[method], METHODS[method])
            at = p[(p["method"] == method) & (p["rank"] == rank) & (p["value"] <= _ALPHA)]["layer"]
            sure = own[own["layer"].isin(at)]
            axes.plot(sure["layer"], sure["value"], "o", color=palette[method])
            drawing.curve(axes, one[one["edit"] == ARBITRARY_ANGLES], "layer", palette[method], None, True)
        null = shown[(shown["rank"] == rank) & (shown["edit"] == SPECTRUM)].groupby("layer")["value"].mean()
        axes.plot(null.index, null, **drawing.CHANCE)
        axes.set_title(f"rank {rank}", loc="left")
        axes.set_xlabel("behind block")
        axes.set_ylim(0, 1.02)
    grid[0][0].set_ylabel("words ↔ pictures:\nmean squared cosine")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    folds = int(shown["n"].max())
    drawing.footnote(
        figure,
        f"n = {folds} fold{'s, each' if folds > 1 else ''} of other leaves; no interval. Null: random subspaces in "
        "the spectrum of pictures' states (grey, mean); thin dashed: labels exchanged among leaves, the same in words "
        "and in pictures. Dots: p ≤ .05 among the latter, corrected over layers.",
    )
    return figure


def _by_rank(rows: pd.DataFrame, targets: Mapping[str, str]) -> Figure:
    """Accuracies by layer: rows of panels are targets × what subspaces were made from, columns are ranks."""
    shown = rows[(rows["measure"] == "accuracy") & (rows["treatment"] == "")]
    swaps = shown[shown["edit"] == "swap"]
    ranks, methods = (list(dict.fromkeys(swaps[name])) for name in ("rank", "method"))
    lines = _lines(rows, targets)
    figure, grid = _grid(len(lines), len(ranks), 1.7 * len(lines) + 1.0)
    palette = drawing.colours(methods)
    for line, (target, one) in zip(grid, lines):
        of_target = shown[shown["target"] == target]
        for axes, rank in zip(line, ranks):
            mine = of_target[of_target["rank"].isin([0, rank])]
            for method in methods:
                swap = mine[(mine["method"] == method) & (mine["trained"] == one) & (mine["edit"] == "swap")]
                drawing.curve(axes, swap, "layer", palette[method], METHODS[method])
            for edit, colour, label in (("whole", "0.1", "whole state"), ("random", "0.6", EDITS["random"])):
                _line(axes, mine[mine["edit"] == edit], colour, label)
            drawing.curve(axes, mine[mine["edit"] == "none"], "layer", "0.1", "nothing exchanged", True)
            chance = mine.loc[mine["edit"] == "chance", "value"]
            axes.axhline(float(chance.iloc[0]), **drawing.CHANCE)
            axes.set_title(f"made from {one}, rank {rank}", loc="left")
            axes.set_ylim(-0.03, 1.03)
        line[0].set_ylabel(targets[target])
    for axes in grid[-1]:
        axes.set_xlabel("behind block")
    _finish(figure, grid, rows, "chance, blind answers (grey, dashed)")
    return figure


def _lines(rows: pd.DataFrame, targets: Iterable[str]) -> list[tuple[str, str]]:
    """Targets × what subspaces were made from, of which there are accuracies."""
    swaps = rows[(rows["measure"] == "accuracy") & (rows["treatment"] == "") & (rows["edit"] == "swap")]
    there = set(zip(swaps["target"], swaps["trained"], swaps["value"].notna()))
    trained = dict.fromkeys(swaps["trained"])
    return [(target, one) for target in targets for one in trained if (target, one, True) in there]


def _line(axes: Axes, rows: pd.DataFrame, colour: str, label: str) -> None:
    if len(rows):
        drawing.curve(axes, rows, "layer", colour, label)


def _grid(lines: int, columns: int, height: float) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    figure = Figure(figsize=(max(1.9 * columns + 1.0, 4.6), height + 0.6), layout="constrained")
    return figure, figure.subplots(lines, columns, squeeze=False, sharex=True, sharey="row").tolist()


def _finish(figure: Figure, grid: Sequence[Sequence[Axes]], rows: pd.DataFrame, null: str) -> None:
    """One legend for all panels, and a caption."""
    entries: dict[str, object] = {}
    for axes in np.ravel(np.array(grid, dtype=object)):
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles))
    figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=3)  # pyright: ignore
    pairs, hypernyms = (int(rows.loc[rows["target"] != "angles", name].max()) for name in ("n", "hypernyms"))
    of = f"leaf pairs between {hypernyms} hypernyms, {rows['direction'].iloc[0]}"
    interval = "95 %, studentised bootstrap over hypernyms, of controls over draws as well"
    drawing.footnote(
        figure, f"{drawing.caption(pairs, of, interval, null)} Subspaces are made from other leaves."
    )
