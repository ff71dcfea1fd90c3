"""Sweep: many runs that differ in a few settings, each trained and scored, with a table of their progress."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from probing.store import files
from taxogen.runs import config
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from taxogen.stages.side_by_side import Tell, side_by_side, usual_jobs

log = logging.getLogger("taxogen")
TABLE = "sweep.csv"
_UNPLAIN = re.compile(r"[^A-Za-z0-9._+=-]")  # what no name has (`taxogen.runs.names.plain_name`)


def grid(base: Mapping[str, Any], varied: Sequence[str]) -> dict[str, Config]:
    """The config of each combination of values, by the run's name, the first setting varying slowest.

    Args:
        base: settings that all runs have, by dotted key.
        varied: such as `data.fraction=0,.5,1`; a comma in a value is not possible here.

    Raises:
        ValueError: nothing is varied, a setting is written wrongly, or two runs would be the same.
        KeyError: a key is not known.
    """
    if not varied:
        raise ValueError("a sweep varies something: give --vary KEY=A,B, for example --vary seed=0,1,2")
    axes: dict[str, list[str]] = {}
    for text in varied:
        key, separator, values = (part.strip() for part in text.partition("="))
        if key in axes or key == "name":
            why = "a run's name follows from what is varied" if key == "name" else "it is varied twice"
            raise ValueError(f"--vary {text!r}: {why}; give every other key once, with all its values")
        axes[key] = [value.strip() for value in values.split(",") if value.strip()]
        if not separator or not axes[key]:
            raise ValueError(f"--vary {text!r}: write it KEY=A,B, for example seed=0,1,2")
    configs: dict[str, Config] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        own = [_UNPLAIN.sub("_", f"{key.rpartition('.')[2]}-{value}") for key, value in chosen.items()]
        name = "_".join([str(base.get("name", "sweep")), *own])
        if name in configs:
            raise ValueError(f"two runs of the sweep would be called {name}; give every value once")
        configs[name] = config.from_flat({**base, **chosen, "name": name})
    return configs


def sweep(
    runs: Mapping[str, Config], out: Path, cluster: bool = False, jobs: int | None = None
) -> pd.DataFrame:
    """The table of the runs, all trained and scored below `out`; those that are finished are left as they are.

    Runs are worked on side by side, each with one thread; with `cluster` they are given to Ray, as many at once as it
    has room for. A run that is refused or fails leaves its message in the table, and the others go on.

    Args:
        runs: configs by name.
        out: holds a directory for each run, and the table `sweep.csv`, written anew after each.
        cluster: whether to use Ray.
        jobs: how many at once here; None: as many as this machine has cores and memory for.

    Raises:
        ModuleNotFoundError: Ray was asked for and is not installed.
        MismatchError: a directory holds a run of another config; nothing was started.
    """
    remote = _ray() if cluster else None
    opened = {name: Run.create(out / name, wanted) for name, wanted in runs.items()}
    table = pd.DataFrame([_line(run, _stage(run)) for run in opened.values()], index=list(opened))
    done = itertools.count(1)

    def enter(name_and_message: tuple[str, str]) -> None:
        name, message = name_and_message
        table.loc[name, "state"] = message or _stage(opened[name])
        _write(table, out)
        log.info("%d/%d %s: %s", next(done), len(table), opened[name].name, table.loc[name, "state"])

    _write(table, out)
    if remote is None:
        work = list(opened.items())
        side_by_side(_finish, work, jobs or usual_jobs(list(opened.values())), enter)
    else:
        for name, message in zip(opened, remote(list(opened.values())), strict=True):
            enter((name, message))
    return table.reset_index(drop=True)


def _line(run: Run, state: str) -> dict[str, Any]:
    default = dict(config.flatten(Config().to_dict()))
    own = {key: value for key, value in config.flatten(run.config.to_dict()) if value != default[key]}
    return {
        "run": run.name,
        "state": state,
        "settings": " ".join(f"{k}={v}" for k, v in own.items() if k != "name"),
    }


def _stage(run: Run) -> str:
    if not run.complete:
        return "to train"
    return "done" if run.file("scores.h5").exists() else "to evaluate"


def _finish(named: tuple[str, Run], tell: Tell) -> None:
    """Trains and scores one run; tells its name and the message where it was refused or failed, else nothing."""
    tell((named[0], _message(named[1])))


def _message(run: Run) -> str:
    try:
        with run.alone():
            pipeline.train_run(run)
            pipeline.evaluate_run(run)
    except (ValueError, KeyError, OSError, FloatingPointError) as refusal:
        return f"failed: {refusal}"
    return ""


def _ray() -> Callable[[list[Run]], list[str]]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a sweep on Ray was asked for, but ray is not installed: `pip install 'taxoprobe[cluster]'`, "
            "or leave --ray out and this machine works on them"
        ) from None
    task = ray.remote(_message)
    return lambda runs: ray.get([task.remote(run) for run in runs])


def _write(table: pd.DataFrame, out: Path) -> None:
    files.write_whole(out / TABLE, lambda part: table.to_csv(part, index=False))
