"""Figures of a study by layer: transfer from words to pictures, the first layer detected, and cohesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.inputs.intervals import LEVELS_IN_WORDS, limits_text
from analyses.study.contrasts import RANDOM, SHUFFLE, SYSTEMATIC, level_of

Members = Mapping[str, Mapping[str, str]]
"""Group → label → condition."""
INITS = {
    "pretrained": "pretrained",
    "pretrained-embeddings": "pretrained embeddings",
    "random": "random_init",
}
_ONE_BELOW_ANOTHER = 3  # names of a legend in one column
_FOR_LEGENDS = 0.35  # of the height of all curves, above them
_BESIDE = 0.012  # so that points of two inits with one value are both seen


def transfer(rows: pd.DataFrame, of: Members) -> Figure | None:
    """AUROC of probes fitted on words and tested on pictures, less their control, by layer: a panel for each group."""
    curves = rows[(rows["measure"] == "selectivity") & rows["layer"].notna()]
    return _by_group(curves, of, "AUROC above control", "control task, dashed")


def cohesion(rows: pd.DataFrame, of: Members) -> Figure | None:
    """Cohesion of hypernyms in pictures by layer: a panel for each group."""
    return _by_group(rows, of, "cohesion", "exchanged labels, dashed")


def _by_group(curves: pd.DataFrame, of: Members, what: str, null: str) -> Figure | None:
    known = set(curves["condition"])
    shown = {group: {k: v for k, v in labels.items() if v in known} for group, labels in of.items()}
    shown = {group: labels for group, labels in shown.items() if len(labels) > 1}
    if not shown:
        return None
    lines = -(-len(shown) // 3)
    figure = Figure(figsize=(7.6, 0.6 + 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, min(3, len(shown)), sharex=True, sharey=True, squeeze=False)
    for axes, (group, labels) in zip(panels.flat, shown.items(), strict=False):
        if group in (RANDOM, SYSTEMATIC):
            labels = {
                level_of(label)[0]: name
                for label, name in labels.items()
                if level_of(label)[1] == "pretrained"
            }
        shown_as = {label: INITS.get(label, label) for label in labels}
        palette = drawing.colours(list(shown_as.values()))
        for label, name in labels.items():
            drawing.curve(
                axes, curves[curves["condition"] == name], "layer", palette[shown_as[label]], shown_as[label]
            )
        axes.axhline(0, **drawing.CHANCE)
        axes.set_title(group + (", pretrained" if group in (RANDOM, SYSTEMATIC) else ""))
        axes.legend(fontsize="x-small", loc="upper left", ncols=2 if len(labels) > _ONE_BELOW_ANOTHER else 1)
    low, high = panels[0, 0].get_ylim()
    panels[0, 0].set_ylim(low, high + _FOR_LEGENDS * (high - low))
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_visible(False)
    for line in panels:
        line[0].set_ylabel(what)
    for column in panels.T:
        last = [axes for axes in column if axes.get_visible()][-1]
        last.tick_params(labelbottom=True)
        last.set_xlabel("block")
    drawing.footnote(figure, figure_caption(curves, null, ("leaf concepts",)))
    return figure


def onset(transfer: pd.DataFrame, scores: pd.DataFrame, of: Members) -> Figure | None:
    """The first layer detected and the size of the transfer, against removed evidence and against coherence."""
    known = (
        {name for name in transfer["condition"] if name in set(scores["condition"])} if len(scores) else set()
    )
    about = scores.drop_duplicates("condition").set_index("condition")[["effective", "coherence"]]
    axes_of = {
        "effective": ("share of hypernym questions removed", of.get(RANDOM, {})),
        "coherence": ("realised coherence", of.get(SHUFFLE, {})),
    }
    shown = {
        x: (what, {label: name for label, name in labels.items() if name in known and about[x].notna()[name]})
        for x, (what, labels) in axes_of.items()
    }
    shown = {x: pair for x, pair in shown.items() if len(pair[1]) > 1}
    if not shown:
        return None
    figure = Figure(figsize=(3.4 * len(shown) + 0.4, 4.4), layout="constrained")
    panels = figure.subplots(2, len(shown), sharex="col", sharey="row", squeeze=False)
    rows = transfer.join(about, on="condition")
    never = transfer["layer"].max() + 1
    for column, (x, (what, labels)) in enumerate(shown.items()):
        place = {name: label for label, name in labels.items()}
        for axes, measure in zip(panels[:, column], ("onset", "size"), strict=True):
            here = rows[
                (rows["measure"] == measure) & rows["condition"].isin(place) & np.isfinite(rows["value"])
            ]
            for row in here.to_dict("records"):
                label = place[row["condition"]]
                init = INITS.get(level_of(label)[1], "pretrained")
                tint = drawing.colour(init) if x == "effective" else drawing.colours(list(labels))[label]
                at = row[x] + (_BESIDE if x == "effective" and init != "pretrained" else 0)
                axes.plot([at] * 2, np.clip([row["lower"], row["upper"]], -1, never), color=tint)
                named = drawing.readable(init, " ") if x == "effective" else label
                axes.plot(at, row["value"], drawing.marker(tint), color=tint, label=named, linestyle="none")
        handles, names = panels[1, column].get_legend_handles_labels()
        legend = dict(zip(names, handles, strict=True))
        panels[0, column].legend(legend.values(), legend.keys(), fontsize="x-small")
        panels[1, column].set_xlabel(what)
    panels[0, 0].set_ylabel("first block detected")
    panels[1, 0].set_ylabel("AUROC words → pictures,\nlast third of the blocks")
    panels[1, 0].axhline(0.5, **drawing.CHANCE)
    drawing.footnote(
        figure,
        figure_caption(
            rows[rows["measure"] == "onset"],
            "no block detected: no point, or no upper limit; AUROC .5, dashed",
            ("leaf concepts",),
            "; those of sizes over hypernyms in place of leaf concepts",
        ),
    )
    return figure


def figure_caption(
    rows: pd.DataFrame, null: str, over: Sequence[str] = LEVELS_IN_WORDS, more: str = ""
) -> str:
    """What a figure's numbers rest on; of one seed it says what its limits leave out. `more` follows the interval."""
    runs = sorted({len(str(seeds).split(",")) for seeds in rows["seeds"]})
    seeds = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    of = f"leaf concepts, {seeds} seed{'s' if runs[-1] > 1 else ''}"
    return drawing.caption(int(rows["n"].max()), of, limits_text(runs, over=over) + more, null)
