"""The table of all evidence side by side: curves along the layers, where each begins, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import analyses
from analyses.emergence.agreement import agreement_rows
from analyses.emergence.curves import Curve
from analyses.emergence.effects import LeafDraws, effect_curves
from analyses.emergence.readable import probe_curves, table_curves
from analyses.emergence.rows import over_seeds, unadapted
from analyses.frame import registry, tables
from analyses.frame.analysis import Analysis, in_one_line
from analyses.frame.tables import Evidence
from analyses.inputs.conditions import grouped_by_condition
from analyses.inputs.effects import effects_file
from analyses.inputs.probe_curves import Draws
from probing.stats import DRAWS, Estimate
from probing.store import MismatchError
from probing.store.records import DamagedError
from taxogen.runs.run import Run

TABLE, DECLARED = "evidence", "ALONG_LAYERS"
CURVE, HOLDS, MISSING = "curve", "holds", "missing"
COUNTED = (tables.PICTURES, tables.SHARED, tables.CAUSES)
"""What evidence is about that is compared: words alone, and two places compared, are shown beside it."""
EXTRA = ("condition", "seeds", "kind", "about", "of", "control", "share", "interval", "note")
Record = dict[str, Any]


def declared() -> list[tuple[Analysis, Evidence]]:
    """All evidence about layers that packages of analyses declare beside their `ANALYSIS`, in the order of reports."""
    folders = [Path(path) for path in analyses.__path__]
    texts = {name: folder / name / "__init__.py" for name in registry.questions() for folder in folders}
    names = [  # no other package is loaded
        name
        for name, text in texts.items()
        if text.is_file() and DECLARED in text.read_text(encoding="utf-8")
    ]
    modules = sorted(
        (import_module(f"analyses.{name}") for name in names),
        key=lambda module: (module.ANALYSIS.order, module.ANALYSIS.name),
    )
    return [(module.ANALYSIS, evidence) for module in modules for evidence in getattr(module, DECLARED)]


def read_by() -> tuple[str, ...]:
    """What is read of a run beside its probes: tables, and effects beside them."""
    paths = []
    for analysis in dict.fromkeys(analysis for analysis, _ in declared()):
        name = analysis.table_name_of(analysis.options())
        paths += [
            f"analyses/{analysis.name}/{file}"
            for file in (f"{name}.parquet", effects_file(analysis.name, name))
        ]
    return tuple(paths)


def evidence_table(
    runs: Sequence[Run], emergence: pd.DataFrame, draws: Mapping[str, Sequence[Draws]], seed: int = 0
) -> pd.DataFrame:
    """The long table of evidence of each condition among some runs.

    Rows `curve` are the evidence at each block less its null, `holds` whether it is beyond it, corrected over layers;
    `onset`, `half_rise` and (of causes) `end` are blocks, `share` the share of the language model's depth that lies
    behind them; of a window of blocks the middle counts. `control` names the placebo whose own effect a row is about.
    `interval` is what limits are from: `draws` of leaves, `stored` in the table of the analysis, or `limits` of the
    curve, each layer alone. Rows `missing` say in `note` why a kind is not there, and how it is made. For `spread`,
    `within` and `before` see `analyses.emergence.agreement`; `of` is the place that they are about.

    `emergence` is the table of probes of the same runs, `draws` their bootstrap draws by condition, where stored.
    """
    records: list[Record] = []
    for name, members in grouped_by_condition(runs).items():
        rows = over_seeds(unadapted(emergence[emergence["condition"] == name]))
        of_condition = _Condition(members, rows, draws.get(name, ()), seed)
        records += [{"condition": name, **record} for record in of_condition.records()]
    blank = dict.fromkeys((*EXTRA, "span"), "") | {"site": "all", "n": 0, "value": np.nan, "share": np.nan}
    frame = tables.table([{**blank, "step": tables.NO_STEP, **one} for one in records], TABLE, seed, EXTRA)
    frame["layer"] = [one.get("layer", np.nan) for one in records]
    return frame.assign(
        split=lambda table: table["about"].where(table["measure"].isin(["spread", "within"]), "")
    )


class _Condition:
    """The evidence of the runs of one condition: each kind from those that have it."""

    def __init__(self, runs: Sequence[Run], rows: pd.DataFrame, draws: Sequence[Draws], seed: int):
        self.runs, self.missing = runs, list[Record]()
        self.depth, self.last = max(1, int(rows["layer"].max()) + 1), int(rows["step"].max())
        self.weights = LeafDraws((), DRAWS, seed)
        self.curves: list[Curve] = []
        if draws:
            count = len(next(iter(draws[0].curves.values()))[1].auroc_draws)
            self.weights = LeafDraws(draws[0].leaves, count, int(rows["seed"].iloc[0]))
            self.curves += probe_curves(rows, draws)
        else:
            why = "their draws are of an earlier version, or of another table"
            self._missing("layer_probes", "probes", runs, why)
        for analysis, evidence in declared():
            asked = [run for run in runs if _file(analysis, evidence, run).is_file()]
            if without := [run for run in runs if run not in asked]:
                self._missing(analysis.name, evidence.kind, without)
            try:
                self.curves += self._of(analysis, evidence, asked) if asked else []
            except (FileNotFoundError, MismatchError, DamagedError, KeyError) as refusal:
                self._missing(analysis.name, evidence.kind, asked, in_one_line(refusal))

    def records(self) -> Iterator[Record]:
        """Every row of the condition."""
        for curve in self.curves:
            yield from _curve_rows(curve, self.depth)
        own = [
            one for one in self.curves if one.about in COUNTED and not one.control and one.step == self.last
        ]
        own = [one for one in own if len(one.layers) > 1]
        for place in dict.fromkeys(one.place for one in own):
            yield from agreement_rows([one for one in own if one.place == place])
        yield from self.missing

    def _of(self, analysis: Analysis, evidence: Evidence, runs: Sequence[Run]) -> list[Curve]:
        if evidence.least:
            return table_curves(evidence, analysis, runs)
        curves = effect_curves(evidence, analysis, runs, self.weights)
        return [replace(one, step=self.last) for one in curves]

    def _missing(self, analysis: str, kind: str, runs: Sequence[Run], why: str = "") -> None:
        command = f"python -m analyses.{analysis} " + " ".join(f"--run {run.path.name}" for run in runs)
        for run in runs:  # the table is the same wherever the runs lie
            why = why.replace(str(run.path), run.path.name)
        note = f"{why}; {command}" if why else command
        self.missing.append({"measure": MISSING, "kind": kind, "note": note, "seeds": len(runs)})


def _file(analysis: Analysis, evidence: Evidence, run: Run) -> Path:
    """Where evidence lies in a run: the table of the analysis, or the effects beside it."""
    table = analysis.table_path(run)
    return table if evidence.least else table.with_name(effects_file(analysis.name, table.stem))


def _curve_rows(curve: Curve, depth: int) -> Iterator[Record]:
    labels: Record = {name: getattr(curve, name) for name in ("kind", "about", "control", "step", "seeds")}
    labels |= {"span": curve.place}
    points = zip(curve.layers, curve.value, curve.lower, curve.upper, curve.holds)
    for layer, value, lower, upper, holds in points:
        at = {**labels, "layer": layer, "share": (layer + 1) / depth}
        yield tables.row(CURVE, Estimate(float(value), float(lower), float(upper), curve.n), **at)
        yield tables.row(HOLDS, float(holds), curve.n, **at)
    if len(curve.layers) < 2:  # of one layer nothing can be told to begin there
        return
    for name, number in curve.places().items():
        drawn = "draws" if curve.draws is not None else "limits"
        interval = "" if np.isnan(number.lower) else "stored" if name in curve.stored else drawn
        yield tables.row(name, number, **labels, share=(number.value + 1) / depth, interval=interval)
