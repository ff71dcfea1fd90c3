"""Figures of a layer-probe table: curves, heat map over training, seen and held-out, hypernyms, transfer, parts."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.drawing.panels import of_last_step, unique
from analyses.frame.tables import estimate_text
from analyses.inputs.categories import HELD_OUT, MEAN, SEEN
from analyses.inputs.encoder import ENCODER
from analyses.layer_probes.rows import OVER_TARGETS
from probing.sites import EMBED, FINAL

_LABELS = {
    "image": "pictures",
    "text": "text",
    "text→image": "text → pictures",
    "image→text": "pictures → text",
}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name; none of a table of contrasts."""
    if "pairs" in table:
        return {}
    stream = table[_in_stream(table["site"])]
    along = (curves, hypernyms, transfer, training, held_out)
    with drawing.style():
        figures = {part.__name__: part(stream) for part in along if len(stream)}
        figures |= {part.__name__: part(table) for part in (parts, heads)}
    return {name: figure for name, figure in figures.items() if figure is not None}


def curves(table: pd.DataFrame) -> Figure:
    """Mean AUROC by layer at each place, with intervals, the control task and chance."""
    rows = _plain(of_last_step(table[table["target"] == MEAN]))
    figure, panels = _panels(_spans(rows))
    for span, axes in panels.items():
        for modality in [name for name in _LABELS if (rows["modality"] == name).any()]:
            curve = rows[(rows["span"] == span) & (rows["modality"] == modality)]
            colour = drawing.colour(modality)
            drawing.curve(axes, curve[curve["measure"] == "auroc"], "layer", colour, _LABELS[modality])
            drawing.curve(axes, curve[curve["measure"] == "control_auroc"], "layer", colour, dashed=True)
    _finish(figure, panels, rows, "Dashed: control task, in which each leaf has another leaf's hypernyms.")
    return figure


def held_out(table: pd.DataFrame) -> Figure | None:
    """Mean AUROC of seen and of held-out hypernyms by layer, pictures only; none where all are one or the other."""
    rows = of_last_step(table[(table["modality"] == "image") & (table["measure"] == "auroc")])
    rows = rows[rows["target"].isin([SEEN, HELD_OUT])]
    if rows.empty:
        return None
    figure, panels = _panels(_spans(rows))
    for span, axes in panels.items():
        for target, label, like in ((SEEN, "seen", "image"), (HELD_OUT, "held-out", "text→image")):
            curve = rows[(rows["span"] == span) & (rows["target"] == target)]
            drawing.curve(axes, curve, "layer", drawing.colour(like), label)
    _finish(figure, panels, rows, "Seen and held-out hypernyms had and had no evidence in training.")
    return figure


def training(table: pd.DataFrame) -> Figure | None:
    """Mean AUROC of picture rows by layer and training step; none for a single step."""
    chosen = (table["target"] == MEAN) & (table["modality"] == "image") & (table["measure"] == "auroc")
    rows = table[chosen & table["layer"].notna()]
    if rows["step"].nunique() < 2:
        return None
    figure, panels = _panels(_spans(rows), width=1.9)
    limits = drawing.auroc_limits(rows["value"])
    for span, axes in panels.items():
        grid = _grid(rows, span, "step")
        last = span == list(panels)[-1]
        drawing.heat(axes, grid, limits, "mean AUROC (chance .5)" if last else None)
        axes.set(title=span, xlabel="training step")
    next(iter(panels.values())).set_ylabel("block")
    note = "Pictures; block −1 is the input of the language model. Intervals are in the table beside this figure."
    _footnote(figure, rows, note)
    return figure


def hypernyms(table: pd.DataFrame) -> Figure | None:
    """AUROC by layer of each target at the last place, pictures and text → pictures."""
    rows = _plain(of_last_step(table[(table["measure"] == "auroc") & ~table["target"].isin(OVER_TARGETS)]))
    rows = rows[rows["modality"].isin(["image", "text→image"])]
    every = int(table.loc[table["target"] == MEAN, "n"].max())
    having = rows.groupby("target", sort=True)["n"].max().astype(int).to_dict()
    targets = list(having)
    if not targets or len(targets) > 60:
        return None
    rows = rows[rows["span"] == _spans(rows)[-1]]
    columns = min(6, len(targets))
    lines = -(-len(targets) // columns)
    figure = Figure(figsize=(1.2 * columns + 0.6, 0.95 * lines + 0.9), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, target in zip(panels, targets):
        for modality in ("image", "text→image"):
            curve = rows[(rows["target"] == target) & (rows["modality"] == modality)]
            if len(curve):
                drawing.curve(axes, curve, "layer", drawing.colour(modality), _LABELS[modality])
        axes.axhline(0.5, **drawing.CHANCE)
        count = f" ({having[target]})" if having[target] < every else ""  # older tables count all
        axes.set_title(textwrap.fill(f"{target}{count}", 14))
    for axes in panels[len(targets) :]:
        axes.set_visible(False)
    for axes in panels[len(targets) - columns : len(targets)]:
        axes.set_xlabel("block")
        axes.tick_params(labelbottom=True)
    panels[columns * (lines // 2)].set_ylabel("AUROC")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=2)
    many = " (how many)" if any(having[target] < every for target in targets) else ""
    note = (
        f"At {rows['span'].iloc[0]}; each panel: leaf concepts under its hypernym{many} against all others."
    )
    _footnote(figure, rows, note, every)
    return figure


def parts(table: pd.DataFrame) -> Figure | None:
    """Mean AUROC of picture rows by layer, a line per part of the blocks; none where only the stream was probed."""
    chosen = (table["target"] == MEAN) & (table["modality"] == "image") & table["layer"].ge(0)
    rows = of_last_step(table[chosen & ~table["site"].str.contains("#")])
    rows = rows.assign(part=rows["site"].str.split(".", n=2).str[-1].str.removeprefix("hook_"))
    names = unique(rows["part"])
    if set(names) <= {"resid_post"}:
        return None
    colours = drawing.colours(names)
    figure, panels = _panels(_spans(rows))
    for span, axes in panels.items():
        for name in names:
            curve = rows[(rows["span"] == span) & (rows["part"] == name)]
            drawing.curve(axes, curve[curve["measure"] == "auroc"], "layer", colours[name], name)
            drawing.curve(
                axes, curve[curve["measure"] == "control_auroc"], "layer", colours[name], dashed=True
            )
    _finish(
        figure,
        panels,
        rows,
        "Pictures. Dashed: control task, in which each leaf has another leaf's hypernyms.",
    )
    return figure


def heads(table: pd.DataFrame) -> Figure | None:
    """Mean AUROC of picture rows by layer and attention head; none where no heads were probed."""
    chosen = (table["target"] == MEAN) & (table["modality"] == "image") & (table["measure"] == "auroc")
    rows = of_last_step(table[chosen & table["site"].str.contains("#")])
    if rows.empty:
        return None
    rows = rows.assign(head=rows["site"].str.partition("#")[2].astype(int))
    figure, panels = _panels(_spans(rows), width=1.9)
    limits = drawing.auroc_limits(rows["value"])
    for span, axes in panels.items():
        grid = _grid(rows, span, "head")
        last = span == list(panels)[-1]
        drawing.heat(axes, grid, limits, "mean AUROC (chance .5)" if last else None)
        axes.set(title=span, xlabel="head")
    next(iter(panels.values())).set_ylabel("block")
    _footnote(figure, rows, "Pictures, one head at a time. Intervals are in the table beside this figure.")
    return figure


def transfer(table: pd.DataFrame) -> Figure | None:
    """Mean AUROC trained on one modality and tested on another, at the layer best for text → pictures."""
    rows = table[(table["target"] == MEAN) & (table["measure"] == "auroc") & table["layer"].notna()]
    rows = _plain(of_last_step(rows))
    spans = _spans(rows[rows["modality"] == "text→image"])
    if not spans:
        return None
    figure, panels = _panels(spans, width=1.9, sharey=False)
    low, high = drawing.auroc_limits(rows["value"])
    for span, axes in panels.items():
        at_span = rows[rows["span"] == span]
        across = at_span[at_span["modality"] == "text→image"]
        best = across.iloc[int(across["value"].argmax())]
        scores = at_span[at_span["site"] == best["site"]].set_index("modality")
        names = ["pictures", "text"]
        cells = np.array([["image", "image→text"], ["text→image", "text"]])
        last = span == spans[-1]
        grid = pd.DataFrame(scores["value"][cells.ravel()].to_numpy().reshape(2, 2), names, names)
        drawing.heat(axes, grid, (low, high), "mean AUROC (chance .5)" if last else None)
        for (row, column), value in np.ndenumerate(grid.to_numpy()):
            limits = scores.loc[cells[row, column]]
            text = estimate_text(limits).replace(" ", "\n", 1)
            tint = "white" if value < (low + high) / 2 else "black"
            axes.text(column, row, text, ha="center", va="center", color=tint, fontsize="small")
        where = "the input" if best["layer"] < 0 else f"block {int(best['layer'])}"
        axes.set(title=f"{span}, {where}", xlabel="tested on")
    next(iter(panels.values())).set_ylabel("trained on")
    _footnote(figure, rows, "At the block where text → pictures is best; the diagonal is within a modality.")
    return figure


def _grid(rows: pd.DataFrame, span: str, column: str) -> pd.DataFrame:
    """Values of one place by layer and `column`; with the layers of all places, since panels share their axis."""
    cells = rows[rows["span"] == span].pivot_table(index="layer", columns=column, values="value")
    return cells.reindex(index=sorted(set(rows["layer"])))


def _panels(spans: Sequence[str], width: float = 2.1, sharey: bool = True) -> tuple[Figure, dict[str, Axes]]:
    figure = Figure(figsize=(width * len(spans) + 0.9, 2.8), layout="constrained")
    panels = figure.subplots(1, len(spans), sharey=sharey, squeeze=False)[0]
    return figure, dict(zip(spans, panels))


def _finish(figure: Figure, panels: dict[str, Axes], rows: pd.DataFrame, note: str) -> None:
    """Axes, chance, legend and the text under a figure of curves over layers."""
    for span, axes in panels.items():
        axes.axhline(0.5, **drawing.CHANCE)
        axes.set(title=span, xlabel="block", xlim=(rows["layer"].min(), rows["layer"].max()))
    first = next(iter(panels.values()))
    first.set_ylabel("mean AUROC, held-out leaves")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    _footnote(figure, rows, note)


def _footnote(figure: Figure, rows: pd.DataFrame, note: str, n: int | None = None) -> None:
    """What is to be known of a figure; `n` leaves, where its rows are of hypernyms, which count their own."""
    first = rows.iloc[0]
    run = f"{first['run']}, " if first["run"] else ""
    steps = sorted({int(step) for step in rows["step"] if step >= 0})
    when = f"step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}; " if steps else ""
    facts = drawing.caption(
        int(first["n"]) if n is None else n,
        "leaf concepts",
        "95 % over leaf concepts, which also train the probes",
        "AUROC .5, no information",
    )
    folds = {
        "leaf": "leaf concepts held out",
        "ungrouped": "leaves NOT held out",
        "family": "families held out",
        "source": "picture sources held out, leaves NOT",
    }
    drawing.footnote(
        figure,
        f"{run}{when}{first['probe']} probes, {folds[first['split']]}. {note} {facts}",
    )


def _in_stream(sites: pd.Series) -> pd.Series:
    """Whether each row is about the residual stream, its input, the last norm or the encoder."""
    return sites.str.endswith("hook_resid_post") | sites.isin([EMBED, FINAL, ENCODER])


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows without centring or rotation between modalities."""
    return rows[~rows["probe"].str.contains(",")]


def _spans(rows: pd.DataFrame) -> list[str]:
    return unique(rows["span"])
