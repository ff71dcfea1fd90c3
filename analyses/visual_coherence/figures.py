"""Figures of the `visual_coherence` analysis: cosines inside and between hypernyms, and scores against coherence."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.tables import estimate_text
from analyses.inputs.intervals import limits_text
from analyses.visual_coherence.coherence import RULES
from analyses.visual_coherence.rows import ALL

LEVEL = 0.05


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of a table of visual coherence, by name."""
    with drawing.style():
        return {"coherence": _coherence_figure(table), "scores": _scores_figure(table)}


def _coherence_figure(table: pd.DataFrame) -> Figure:
    """Within and between hypernyms by condition, a panel per rule, and what exchanged leaves reach."""
    means = table[(table["target"] == "mean") & (table["rule"] != "")]
    rules, names = list(dict.fromkeys(means["rule"])), list(dict.fromkeys(means["condition"]))
    figure = Figure(figsize=(2.4 * len(rules) + 0.8, 1.5 + 0.45 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(rules), sharey=True, squeeze=False)[0]
    for axis, rule in zip(panels, rules, strict=True):
        for place, name in enumerate(names):
            here = means[(means["rule"] == rule) & (means["condition"] == name)].set_index("measure")
            for kind, marker, shift in (("within", "o", -0.12), ("between", "s", 0.12)):
                if kind in here.index:
                    value, lower, upper = here.loc[kind, ["value", "lower", "upper"]].to_numpy(float)
                    look: dict[str, Any] = {"color": drawing.colour(name) if kind == "within" else "0.5"}
                    axis.plot([lower, upper], [place + shift] * 2, linewidth=1.4, **look)
                    axis.plot(value, place + shift, marker, markersize=5, **look)
        axis.set_title(rule)
        axis.set_xlabel("mean cosine")
    panels[0].set_yticks(range(len(names)), [drawing.readable(name) for name in names])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    for kind, marker in (("within", "o"), ("between", "s")):
        panels[0].plot([], [], marker, color="0.5", markersize=5, label=f"{kind} hypernyms")
    figure.legend(loc="outside upper center", ncols=2)
    nulls = means[means["measure"] == "null_limit"]
    null = nulls["value"].max()
    said = f"leaves exchanged among hypernyms reach a difference of {null:.3f} at most (95 %)"
    n = int(means.loc[means["measure"] == "within", "n"].max())
    interval = limits_text(nulls["n"]) if len(nulls) else "95 %"  # n of such a row is the number of runs
    rule_text = "; ".join(f"{rule}: {RULES[rule]}" for rule in rules)
    drawing.footnote(figure, f"{drawing.caption(n, 'leaf concepts', interval, said)}\n{rule_text}.")
    return figure


def _scores_figure(table: pd.DataFrame) -> Figure:
    """AUROC of each hypernym against its coherence (the first rule), a panel per condition; rings where q ≤ .05."""
    rule = str(table.loc[table["rule"] != "", "rule"].iloc[0])
    names = [name for name in dict.fromkeys(table["condition"]) if name != ALL]
    columns = min(len(names), 4)
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(2.1 * columns + 1, 2.7 * lines + 0.7), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axis, name in zip(panels.flat, names, strict=False):
        _scatter(axis, table[table["condition"] == name], rule, name)
    for axis in panels.flat[len(names) :]:
        axis.set_axis_off()
    for axis in panels[:, 0]:
        axis.set_ylabel("AUROC of the hypernym")
    for axis in panels[-1]:
        axis.set_xlabel("visual coherence")
    n = int(table.loc[table["measure"] == "pearson", "n"].max())
    interval = "95 %, over hypernyms; of slopes (per standard deviation), Wald"
    drawing.footnote(
        figure,
        drawing.caption(
            n, f"hypernyms; rule {rule}", interval, f"AUROC .5, dashed; r = 0{_ringed(table, rule)}"
        ),
    )
    return figure


def _ringed(table: pd.DataFrame, rule: str) -> str:
    """Meaning of a ring, where the rule has a p for each hypernym."""
    tested = ((table["rule"] == rule) & (table["measure"] == "q")).any()
    said = "; ring: coherence beyond that of exchanged leaves, q ≤ .05 (Benjamini–Hochberg over hypernyms)"
    return said if tested else ""


def _scatter(axis: Axes, rows: pd.DataFrame, rule: str, name: str) -> None:
    here = rows[(rows["rule"] == rule) & (rows["measure"] == "coherence") & (rows["target"] != "mean")]
    score = rows[rows["measure"] == "auroc"].groupby("target")["value"].mean()
    x, y = here.set_index("target")["value"].align(score, join="inner")
    axis.plot(x, y, "o", color=drawing.colour(name), markersize=3.5, alpha=0.8)
    sure = rows[(rows["rule"] == rule) & (rows["measure"] == "q") & (rows["value"] <= LEVEL)]["target"]
    ringed = [target for target in x.index if target in set(sure)]
    axis.plot(x[ringed], y[ringed], "o", color="black", markersize=5.5, markerfacecolor="none")
    for label in {*x.nsmallest(1).index, *x.nlargest(2).index, *y.nsmallest(2).index}:
        axis.annotate(
            label, (x[label], y[label]), fontsize="x-small", xytext=(2, 2), textcoords="offset points"
        )
    axis.axhline(0.5, **drawing.CHANCE)
    found = rows[(rows["rule"] == rule) & (rows["target"] == "auroc")].set_index("measure")
    said = []
    for kind, symbol in (("pearson", "r"), ("spearman", "ρ"), ("slope", "slope")):
        if found["value"].notna()[kind]:
            said.append(f"{symbol} = {estimate_text(found.loc[kind])}".replace("-", "−"))
    axis.set_title("\n".join([drawing.readable(name, " "), *said]), fontsize="small")
