"""What do the published study's data say? Its tables re-computed, with their faults beside the values.

    python -m analyses.published --data FOLDER [--out artifacts/published]

Reads: the released CSV and JSON files (docs/published.md says which); no run is needed.
Writes: published.json (every number, unrounded), published.parquet and .csv (the same, long), published.md (a
table to read), published.png and .svg (macro-F1 against the share of questions that was really removed).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyses.frame.analysis import Analysis, Extras, Result, Takes
from analyses.frame.command_line import EXTENT, option
from analyses.frame.results import one_or_several
from analyses.inputs.published.released import Released
from analyses.published.figures import draw
from analyses.published.table import nested, published_table
from analyses.published.text import faults, summary, to_markdown
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "nested", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where the released data are.

    Attributes:
        data: folder of the released files
    """

    data: Path | None = option(None, metavar="FOLDER", required=True, role=EXTENT)


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses a folder that does not hold the released files."""
    Released(options.data or Path())


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """A row per number: section, key (a condition, run or file), target, measure, value, lower, upper, n, sd."""
    table = published_table(Released(options.data or Path()))
    errors = faults(table)
    numbers = (
        json.dumps({**nested(table), "faults": errors}, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    )
    texts = {"published.json": numbers, "published.md": to_markdown(table, errors)}
    files = {
        name: lambda part, text=text: part.write_text(text, encoding="utf-8") for name, text in texts.items()
    }
    return Result(table, Extras(files=files))


ANALYSIS = Analysis(
    "published",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.published --data released",
    takes=Takes.NO_RUN,
    of_stores="it reads answers that were published, which --data names",
    check=check,
)
main = ANALYSIS.main
