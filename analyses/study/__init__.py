"""The study of a plan file: results of finished runs as small tables, and figures and answers from these.

    python -m analyses.study --plan PLAN.toml --runs DIR --out docs/results      collect what is finished
    python -m analyses.study --tables docs/results [--out DIR]                   redraw, and answer
    python -m analyses.study --published DIR --out docs/results                  the published curves, drawn beside

Reads: a plan, and of its finished runs scores, baselines, layer probes and cohesion; or the tables alone.
Writes: plan, runs, pictures, readouts, taxonomies, numbers and draws (parquet), beside what is there; or a figure for
each group of the plan that is finished, and those of every table of another analysis that lies beside.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analyses.figures import redraw
from analyses.frame import drawing
from analyses.frame.analysis import refusing
from analyses.frame.command_line import described_parser
from analyses.study import claims, collecting, contrasts, figures, published, transfer
from analyses.study.estimates import DRAWS, Study
from analyses.study.tables import COLUMNS, Tables, path_of
from probing.store import cache, records
from taxogen.stages.sweeping import plan_file

TABLES = Path("docs/results")
"""Where tables lie unless told otherwise."""


def main(argv: list[str] | None = None) -> None:
    """Collects the results of a plan's runs, or draws figures and prints answers from those that are collected.

    Raises:
        SystemExit: with code 2 and one line, where something cannot be done.
    """
    options = parser().parse_args(argv)
    with refusing("python -m analyses.study"), drawing.style(options.style, options.columns):
        if sum(one is not None for one in (options.plan, options.tables, options.published)) != 1:
            raise ValueError(
                "give --plan PLAN.toml with --runs DIR to collect results, --tables DIR to draw them, or --published "
                "DIR to put the published study's curves beside them"
            )
        if options.plan is not None:
            _collect(options)
        elif options.published is not None:
            print(published.collect(options.published, options.out or TABLES))
        else:
            _answer(options)


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = described_parser("python -m analyses.study", __doc__ or "")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="the plan whose runs are collected")
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="holds its runs (default: artifacts/NAME of the plan)"
    )
    parser.add_argument("--tables", type=Path, metavar="DIR", help="holds the tables that are drawn")
    parser.add_argument("--published", type=Path, metavar="DIR", help="holds the published study's files")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="of tables (default: docs/results), or of figures (default: artifacts/study-figures)",
    )
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
        help="as `taxoprobe sweep` was given it, such as train.steps=100",
    )  # fmt: skip
    drawing.add_style_flags(parser)
    return parser


def answers(
    tables: Tables, name: str, draws: int = DRAWS, published: pd.DataFrame | None = None
) -> tuple[dict[str, Figure], list[claims.Verdict], list[str]]:
    """The figures of a plan by name, what the tables say about each claim, and lines about the transfer.

    Args:
        tables: of one or several plans.
        name: of the plan.
        draws: of intervals.
        published: curves of the published study that are drawn beside (`analyses.study.published`).
    """
    study = Study.of(tables, name, draws)
    groups = {str(group): study.members(str(group)) for group in study.plan["group"].unique()}
    scores, pairs = study.scores(), contrasts.table(study, tables)
    sizes = transfer.size_rows(transfer.sizes(tables, study.plan)).assign(measure="size")
    rows = pd.concat([transfer.curves(tables, study.plan), sizes], ignore_index=True)
    full, bound = groups.get(contrasts.FULL, {}), float(study.plan["equivalence"].iloc[0])
    heights, cohesion = study.heights(list(full.values())), transfer.cohesion(tables, study.plan)
    none = pd.DataFrame() if published is None else published
    numbers = figures.Numbers(scores, heights, pairs, rows, cohesion, none)
    verdicts = claims.verdicts(scores, pairs, full, bound)
    return figures.draw(numbers, groups, bound), verdicts, transfer.lines(rows)


def _collect(options: argparse.Namespace) -> None:
    plan = plan_file.read(options.plan, options.settings)
    out, runs = options.out or TABLES, options.runs or Path("artifacts") / plan.name
    if not runs.is_dir():
        raise FileNotFoundError(
            f"--runs {runs} is no folder; `taxoprobe sweep {options.plan}` makes the runs"
        )
    out.mkdir(parents=True, exist_ok=True)
    with cache.locked(out.resolve()):
        tables, names, faults = collecting.collect(Tables.read_whole(out), plan, runs)
        tables.write(out)
    there = int(tables.runs["run"].isin(list(plan.runs)).sum())
    size = sum((out / f"{name}.parquet").stat().st_size for name in COLUMNS)
    print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr)
    print(
        f"{plan.name}: {there} of {len(plan.runs)} runs in {out} ({len(names)} read now), {size / 1e6:.1f} MB"
    )


def _answer(options: argparse.Namespace) -> None:
    tables = Tables.read(options.tables)
    out = options.out or Path("artifacts/study-figures")
    paths = [path_of(options.tables, name) for name in COLUMNS] + [options.tables / published.FILE]
    made_from = {path.stem: records.sha256(path) for path in paths if path.is_file()}
    for name in tables.plan["plan"].unique():
        own = tables.plan[tables.plan["plan"] == name]
        finished = own["run"].isin(tables.runs["run"]).groupby(own["run"]).first()
        print(f"{name}: {int(finished.sum())} of {len(finished)} runs")
        if not finished.any():
            continue
        versions = tables.runs.loc[tables.runs["run"].isin(own["run"]), "code"].value_counts().sort_index()
        if len(versions) > 1:
            each = ", ".join(f"{version} ({count})" for version, count in versions.items())
            print(f"runs of several versions of taxoprobe: {each}")
        drawn, verdicts, lines = answers(tables, name, published=published.read(options.tables))
        for figure_name, figure in drawn.items():
            drawing.save(figure, out, f"{name}-{figure_name}", made_from)
        print(*(f"- {verdict}" for verdict in verdicts), *lines, sep="\n")
        print(f"figures in {out}: {', '.join(f'{name}-{figure}' for figure in drawn) or 'none'}")
    for path in sorted(options.tables.glob("*.parquet")):
        if path not in paths:
            print(f"figures of {path}: {', '.join(redraw(path, out))}")
