"""Tables of emergence: layer-probe rows of several runs under their conditions and means over seeds; best layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.emergence.seeds import seed_rows
from analyses.frame.section import Block, Grid, Shown, number_text
from analyses.frame.tables import block_text, layer_text
from analyses.inputs.categories import MEAN
from analyses.inputs.conditions import condition_of, with_conditions
from analyses.inputs.intervals import ONE_SEED
from analyses.inputs.probe_curves import Draws
from probing import stats
from probing.store import MismatchError
from taxogen.runs.run import Run

QUESTIONS = {
    "image": "picture probe → pictures",
    "text→image": "text probe → pictures",
    "text": "text probe → text",
}
"""Modality of a row → training and test rows of the probe, in words."""
_ROWS_APART = ("against", "step", "spans", "transforms", "code", "held_out", "device", "workers")
"""Options of layer probes that add rows, or change no number: runs may differ in them."""


def refuse_unlike(runs: Sequence[Run], records: Sequence[Mapping[str, Any] | None]) -> None:
    """Refuses runs whose layer probes were made with other options, where that is recorded.

    Raises:
        MismatchError: the probes of two runs differ in an option that changes their numbers.
    """
    known = [(run, record["options"]) for run, record in zip(runs, records) if record is not None]
    for run, options in known[1:]:
        first, of_first = known[0]
        names = [name for name in of_first if name not in _ROWS_APART and of_first[name] != options.get(name)]
        if names:
            name = names[0]
            raise MismatchError(
                f"{first.path} was probed with {name}={of_first[name]}, {run.path} with {name}={options.get(name)}: "
                f"their curves cannot be compared; `python -m analyses.layer_probes --run …` probes one of them again"
            )


def emergence_table(
    runs: Sequence[Run], probes: Sequence[pd.DataFrame], draws: Mapping[str, Sequence[Draws]] | None = None
) -> pd.DataFrame:
    """The layer-probe rows (means over hypernyms) of several runs with their condition, and means over seeds.

    `seeds` is the number of runs that a row rests on; the limits of a row of one run leave out how seeds differ.
    `draws` are the bootstrap draws of the runs of each condition that has several.

    Raises:
        MismatchError: two runs are one condition with one seed, or the seeds of one share no curve.
    """
    known: dict[tuple[str, int], str] = {}
    for run in runs:
        condition = condition_of(run, runs)
        other = known.setdefault((condition, run.config.seed), run.name)
        if other != run.name:
            raise MismatchError(
                f"{other} and {run.name} are both {condition} with seed {run.config.seed}: one run would count as two "
                "seeds; give each seed once"
            )
    means = [table[table["target"] == MEAN].assign(run=run.name) for run, table in zip(runs, probes)]
    table = with_conditions(runs, means).assign(seeds=1)
    if not draws:
        return table
    same = {name: table[name].iloc[0] for name in ("analysis", "split", "seed")}
    return pd.concat([table, seed_rows(draws).assign(**same)[table.columns]], ignore_index=True)


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to be shown: of each condition its means over seeds, or, with one seed, those of its run."""
    return table[table["seeds"] == table.groupby("condition")["seeds"].transform("max")]


def unadapted(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of probes tested on features as they are, not centred or rotated between modalities."""
    return table[~table["probe"].str.contains(",")]


def of_last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each run's last step, and those that belong to no step."""
    last = table.groupby("run")["step"].transform("max")
    return table[(table["step"] == last) | (table["step"] < 0)]


def best_layers(table: pd.DataFrame) -> pd.DataFrame:
    """For each condition, span and question: the best layer at the last step with its AUROC and control; then the first
    layer detected and the half-rise.
    """
    rows = over_seeds(of_last_steps(unadapted(table)))
    lines = []
    for (condition, span, modality), curve in rows.groupby(["condition", "span", "modality"], sort=False):
        scores = curve[(curve["measure"] == "auroc") & curve["layer"].notna() & curve["value"].notna()]
        if modality not in QUESTIONS or scores.empty:
            continue
        best = scores.iloc[int(scores["value"].argmax())]
        control = curve[(curve["measure"] == "control_auroc") & (curve["site"] == best["site"])]["value"]
        line = {
            "condition": condition,
            "span": span,
            "question": QUESTIONS[str(modality)],
            "block": int(best["layer"]),
        }
        line |= {"auroc": best["value"], "lower": best["lower"], "upper": best["upper"], "n": int(best["n"])}
        line |= {"control": float(control.iloc[0]) if len(control) else np.nan}
        for name, measure in (("detected", "onset"), ("half_rise", "half_rise")):
            place = curve[curve["measure"] == measure]
            line |= {
                f"{name}{part}": float(place.iloc[0][column]) if len(place) else np.nan
                for part, column in (("", "value"), ("_lower", "lower"), ("_upper", "upper"))
            }
        lines.append(line)
    return pd.DataFrame(lines)


def summary(table: pd.DataFrame) -> str:
    """The best layer of each curve, as text."""
    header, rows = _cells(best_layers(table))
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in (header, *rows)]
    return "\n".join(
        [
            "Best block of each curve, mean AUROC (chance .5), first block detected above control and half-rise; "
            f"95 % limits over leaf concepts{seeds_text(over_seeds(table))}:",
            *lines,
        ]
    )


def seeds_text(rows: pd.DataFrame) -> str:
    """The number of seeds behind rows, to follow "over leaf concepts"."""
    least, most = int(rows["seeds"].min()), int(rows["seeds"].max())
    if least == most == 1:
        return f"; {ONE_SEED}"
    text = f" and {most} seeds"
    return text if least == most else f"{text} (of a condition with one seed, {ONE_SEED})"


def of_probes(table: pd.DataFrame) -> list[Block]:
    """The blocks of a report section: curves, the best layer of each, and the course of training where it was seen."""
    blocks: list[Block] = [
        Shown(
            "emergence",
            "Linear probes at every block of the language model, for picture rows, text rows, and probes fitted on "
            "text and tested on pictures of other leaves. The second row is the direct test of a shared code: it can "
            "only succeed where a picture's state carries the hypernym in the words' own directions. The floor is "
            "the control task, the hypernyms of another leaf for each leaf (Hewitt & Liang 2019).",
        ),
        _grid(best_layers(table), seeds_text(over_seeds(table))),
    ]
    if seen_in_training(table):
        blocks.append(
            Shown(
                "training",
                "The same probes at the cue while the projector learns. Step 0 is the untrained projector: "
                "the encoder's features read through a random map.",
            )
        )
    return blocks


def training_rows(table: pd.DataFrame) -> pd.DataFrame:
    """AUROC of probes of every block at the cue, at the steps of training."""
    chosen = (table["measure"] == "auroc") & (table["span"] == "cue") & (table["step"] >= 0)
    return table[chosen & table["layer"].notna()]


def seen_in_training(table: pd.DataFrame) -> bool:
    """Whether the cue was probed at more than one step of training."""
    return training_rows(table)["step"].nunique() > 1


def _cells(best: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The best layer of each curve in words: the header, and a line of texts for each."""
    header = ["condition", "place", "question", "block", "AUROC", "control", "first detected", "half-rise"]
    rows = [
        [
            *(line[name] for name in ("condition", "span", "question")),
            block_text(line["block"]),
            stats.estimate_text(line["auroc"], line["lower"], line["upper"], ".2f"),
            number_text(line["control"]),
            *(
                layer_text(
                    {"value": line[name], **{end: line[f"{name}_{end}"] for end in ("lower", "upper")}}
                )
                for name in ("detected", "half_rise")
            ),
        ]
        for line in best.to_dict("records")
    ]
    return header, rows


def _grid(best: pd.DataFrame, seeds: str) -> Grid:
    caption = (
        f"Best block of each curve: mean AUROC over hypernyms [95 % interval over leaf concepts{seeds}], chance .5, "
        f"n = {int(best['n'].max())} leaf concepts. First detected: the first block from which the curve stays above "
        "its control, corrected over blocks; where it rises slowly that depends on how little can be detected. "
        "Half-rise: the first block from which at least half of the largest difference from the control is kept."
    )
    return Grid(*_cells(best), caption)
