"""The smallest contrast that a study of some leaves, hypernyms and seeds detects, from pilot runs.

    python -m analyses.power --run A --run B [--measure auroc] [--leaves 100 351] [--hypernyms 34] [--seeds 3 5]
    python -m analyses.power --run A --run B --effect .05          how many leaves, and seeds, that needs
    python -m analyses.power --run A --seed-sd .01                 one pilot: seeds as they are stated

Reads: stored scores of the pilot runs, or with --measure layer_probes the draws of their layer probes.
Writes: nothing, or with --out power.parquet and power.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analyses.frame import tables
from analyses.frame.analysis import refusing
from analyses.frame.command_line import described_parser
from analyses.frame.identity import distinguished
from analyses.frame.tables import estimate_text
from analyses.inputs.intervals import ONE_SEED
from analyses.power.components import Components
from analyses.power.designs import POWER, SINGULAR, Design, counted, detectable_table, grid, required_table
from analyses.power.pilots import PROBES, Pilot, pilots
from taxogen.runs.run import Run

SHARES = (0.25, 0.5, 1, 2)
SEEDS = (1, 3, 5, 10)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what designs detect, of each contrast of the pilot runs.

    Raises:
        SystemExit: with code 2 and one line, where something cannot be done.
    """
    given = parser().parse_args(argv)
    with refusing("python -m analyses.power"):
        _check_place(given)
        runs = distinguished([Run.open(path) for path in given.run])
        found = []
        for pilot in pilots(runs, given.measure, (given.modality, given.span, given.layer)):
            table = _table(pilot, given)
            found.append(table.assign(contrast=pilot.name, of=given.measure))
            print(*_lines(pilot, table, given.effect), "", sep="\n")
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
            made_from = {"runs": {run.name: run.makers() for run in runs}, "measure": given.measure}
            tables.save(pd.concat(found, ignore_index=True), given.out, "power", made_from)
            print(f"Table: {given.out / 'power.parquet'}")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    made = described_parser("python -m analyses.power", __doc__ or "")
    made.add_argument(
        "--run",
        action="append",
        required=True,
        type=Path,
        metavar="DIR",
        help="a pilot run; may be given again",
    )
    made.add_argument(
        "--measure",
        default="auroc",
        help=f"of answers, as in behaviour's tables, or {PROBES} (default: auroc)",
    )
    made.add_argument("--modality", default="", help="of layer probes, such as text→image")
    made.add_argument("--span", default="", help="of layer probes, such as cue")
    made.add_argument("--layer", type=int, help="of layer probes (default: where the contrast varies most)")
    made.add_argument(
        "--leaves",
        type=int,
        nargs="+",
        help="leaf concepts of a study (default: ¼, ½, 1 and 2 times those of the pilot)",
    )
    made.add_argument(
        "--hypernyms",
        type=int,
        nargs="+",
        help="hypernyms of a study (default: ½, 1 and 2 times those of the pilot)",
    )
    made.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        help="training seeds of a study (default: 1, 3, 5, 10; of one pilot 1)",
    )
    made.add_argument(
        "--seed-sd", type=float, metavar="SD", help="of the contrast between seeds, where it is known"
    )
    made.add_argument("--effect", type=float, help="say how many leaves and seeds this contrast needs")
    made.add_argument(
        "--power", type=float, default=POWER, help=f"share of studies that find it (default: {POWER})"
    )
    made.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="of power.parquet and power.csv (default: no table is written)",
    )
    return made


def _check_place(given: argparse.Namespace) -> None:
    """Refuses a place inside the model for measures of answers, which have none."""
    place = {"--modality": given.modality, "--span": given.span, "--layer": given.layer}
    if given.measure != PROBES and (
        idle := [flag for flag, value in place.items() if value not in ("", None)]
    ):
        raise ValueError(
            f"{idle[0]} {place[idle[0]]} was asked for, and --measure {given.measure} is one of answers; give "
            f"--measure {PROBES}, or leave it out"
        )


def _table(pilot: Pilot, given: argparse.Namespace) -> pd.DataFrame:
    of = _components(pilot, given)
    designs = _designs(of, given)
    table = detectable_table(of, designs, given.power)
    if given.effect is None:
        return table
    return pd.concat([table, required_table(of, designs, given.effect, given.power)], ignore_index=True)


def _components(pilot: Pilot, given: argparse.Namespace) -> Components:
    return pilot.components if given.seed_sd is None else pilot.components.with_seed_sd(given.seed_sd)


def _designs(of: Components, given: argparse.Namespace) -> list[Design]:
    if of.hypernyms == 1 and given.hypernyms:
        raise ValueError(
            "--hypernyms was given, and this measure has no variance between hypernyms; leave it out"
        )
    several = {max(2, round(share * of.hypernyms)) for share in SHARES[1:]} if of.hypernyms > 1 else {1}
    leaves = given.leaves or sorted({max(2, round(share * of.leaves)) for share in SHARES})
    seeds = given.seeds or (SEEDS if of.knows_seeds else (1,))
    return grid(leaves, given.hypernyms or sorted(several), seeds)


def _lines(pilot: Pilot, table: pd.DataFrame, effect: float | None) -> list[str]:
    """The pilot, its components as standard deviations, and the tables of a contrast."""
    of, power = pilot.components, float(table["power"].iloc[0])
    known = "" if np.isnan(pilot.estimate.value) else f": {pilot.estimate}"
    sizes = Design(of.leaves, of.hypernyms, of.seeds)
    lines = [f"{pilot.name}{known}", f"  pilot: {sizes}"]
    several = ("leaf", "leaf_seed", "hypernym", "hypernym_seed") if of.seeds > 1 else ("leaf", "hypernym")
    names = (*several, "seed") if of.knows_seeds else several
    deviations = ", ".join(f"{name.replace('_', ' × ')} {np.sqrt(getattr(of, name)):.4f}" for name in names)
    lines.append(f"  standard deviations of the contrast: {deviations}")
    detectable = table[table["measure"] == "detectable"]
    if of.seeds == 1 and detectable["seeds"].max() > 1:
        lines.append("  between seeds: as stated with --seed-sd")
    if (detectable["seeds"] == 1).any():
        lines.append(f"  1 seed: {ONE_SEED}")
    lines.append(
        f"  detected in {power:.0%} of studies, two-sided .05 [95 % limits: the pilot is a sample too]:"
    )
    lines += _grid(detectable)
    if effect is not None:
        lines.append(f"  {effect:g} is detected in {power:.0%} of studies with")
        lines += [_required(row) for row in table[table["measure"] != "detectable"].to_dict("records")]
    return lines


def _grid(rows: pd.DataFrame) -> list[str]:
    lines = [
        f"    {'leaves':>7}{'hypernyms':>11}"
        + "".join(f"{counted(s, 'seeds'):>22}" for s in rows["seeds"].unique())
    ]
    for (leaves, hypernyms), own in rows.groupby(["leaves", "hypernyms"], sort=False):
        cells = [estimate_text(row, ".3f") for row in own.to_dict("records")]
        lines.append(f"    {leaves:>7g}{hypernyms:>11g}" + "".join(f"{cell:>22}" for cell in cells))
    return lines


def _required(row: dict) -> str:
    kind = row["measure"].removeprefix("required ")
    others = ", ".join(counted(row[name], name) for name in SINGULAR if name != kind)
    number = (
        f"at least {counted(row['value'], kind)}"
        if np.isfinite(row["value"])
        else f"no number of {kind} is enough"
    )
    return f"    {others}: {number}"
