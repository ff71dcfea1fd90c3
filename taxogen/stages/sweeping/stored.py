"""Which runs of a plan have their results in stored tables."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from taxogen.runs import config
from taxogen.stages.sweeping.plan_file import PlanFile

RUNS = "runs.parquet"
"""The table of finished runs, one a row: name, `Config.hash`, and the config as JSON."""
NUMBERS = "numbers.parquet"
"""The table of numbers, with the run and the analysis that each is of."""


def names(folder: Path, plan: PlanFile) -> frozenset[str]:
    """The runs of a plan of which tables in a folder have everything; none where nothing was stored there yet.

    That is scores under the run's name, of its config with the evaluation that the plan asks for, and numbers of each
    question of the plan.

    Raises:
        NotADirectoryError: the folder is none.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"--tables {folder} is no folder; name the one that analyses.study writes to"
        )
    if not all((folder / name).is_file() for name in (RUNS, NUMBERS)):
        return frozenset()
    runs = pd.read_parquet(folder / RUNS, columns=["run", "hash", "config"])
    numbers = pd.read_parquet(folder / NUMBERS, columns=["run", "analysis"]).drop_duplicates()
    answered = set(zip(numbers["run"], numbers["analysis"]))
    questions = [question.replace("-", "_") for question in plan.questions]
    return frozenset(
        name
        for name, digest, written in zip(runs["run"], runs["hash"], runs["config"])
        if (wanted := plan.runs.get(name)) is not None
        and wanted.hash == digest
        and wanted.evaluate == config.from_dict(json.loads(written)).evaluate
        and all((name, question) in answered for question in questions)
    )
