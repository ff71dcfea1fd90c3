"""The figures of a table again, from the table alone: `python -m analyses.figures TABLE.parquet --style paper`.

    python -m analyses.figures artifacts/runs/demo-pretrained/analyses/layer_probes/layer_probes.parquet --style paper
    python -m analyses.figures TABLE.parquet --style talk --width one --out slides

Reads: a table that an analysis wrote, and the record beside it, where there is one.
Writes: its figures, in --out or in figures-STYLE/ beside it: png and svg; for paper and talk pdf as well, without the
caption, which stands in NAME.txt.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analyses.frame import drawing, registry
from analyses.frame.analysis import Analysis, refusing
from analyses.frame.command_line import described_parser
from analyses.frame.console import say
from probing.store import records

_UNFIT = (KeyError, IndexError, ValueError, TypeError, AttributeError)
"""What drawing raises where a table lacks columns or rows."""
_WANTED = "give NAME.parquet, which an analysis wrote"


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the figures of a table.

    Raises:
        SystemExit: with code 2 and one line, where something cannot be done.
    """
    command = parser()
    given = command.parse_args(argv)
    with refusing(command.prog), drawing.style(given.style, given.columns):
        words = filter(None, ("figures", given.style or "screen", given.columns))
        folder = given.out or given.table.parent / "-".join(words)
        names = redraw(given.table, folder)
        say(f"{', '.join(names)}: {folder}")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = described_parser("python -m analyses.figures", __doc__ or "")
    parser.add_argument("table", type=Path, metavar="TABLE", help="NAME.parquet that an analysis wrote")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of the figures (default: beside the table)")
    drawing.add_style_flags(parser)
    return parser


def redraw(path: Path, folder: Path) -> list[str]:
    """Writes the figures of a table in the style of this context, and gives their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table of an analysis, or one without figures.
        DamagedError: it is not as it was written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; {_WANTED}")
    record = records.made_from(path) or {}
    table = _read(path)
    analysis = _analysis_of(path, table, str(record.get("analysis", "")))
    try:
        figures = analysis.figures(table)
    except _UNFIT as fault:
        raise _undrawn(path, analysis) from fault
    if not figures:
        raise _undrawn(path, analysis)
    made_from = {"analysis": analysis.name, **record, "table": {path.name: records.sha256(path)}}
    before = "" if path.stem == analysis.name else f"{path.stem}-"
    for name, figure in figures.items():
        drawing.save(figure, folder, before + name, made_from)
    return [before + name for name in figures]


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (ValueError, OSError):
        raise ValueError(f"{path} is no parquet file; {_WANTED}") from None
    if "analysis" not in table or table.empty:
        what = f"its columns are {', '.join(map(str, table.columns[:6]))} …" if len(table) else "it is empty"
        raise ValueError(f"{path} is no table of an analysis: {what}; {_WANTED}")
    return table


def _analysis_of(path: Path, table: pd.DataFrame, recorded: str) -> Analysis:
    """The analysis that made a table: by its record, else by its name, else by its column `analysis`."""
    known, column = registry.questions(), str(table["analysis"].iloc[0])
    for name in (recorded, path.stem, column):
        if name in known:
            return registry.load(name)
    for name in known:
        if column in (analysis := registry.load(name)).also:
            return analysis
    raise ValueError(f"{path} is a table of {column!r}, which is no analysis here; known: {', '.join(known)}")


def _undrawn(path: Path, analysis: Analysis) -> ValueError:
    return ValueError(
        f"{path} is of {analysis.name}, but has not the rows that its figures are drawn from; give its main table"
    )
