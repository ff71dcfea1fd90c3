"""Sweep: many runs, of a grid or of a plan file, each trained, scored and asked, with a table of their progress."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from probing.store import files
from taxogen.runs import config
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from taxogen.stages.side_by_side import Tell, side_by_side, usual_jobs
from taxogen.stages.sweeping import plan_file, plan_runs
from taxogen.stages.sweeping.clock import Clock, News, words
from taxogen.stages.sweeping.main_scores import NAMES, main_scores
from taxogen.stages.sweeping.plan_file import STAGES, PlanFile
from taxogen.stages.sweeping.run_stages import Questions, evaluated, remaining, stages_of, work
from taxogen.stages.sweeping.sweep_table import TABLE

log = logging.getLogger("taxogen")
SECONDS = "sweep-seconds.json"
STORED = "in the tables"
"""The state of a run whose results are stored already, and which is not made again."""
_EXPECTED = {"train": 120.0, "evaluate": 27.0}
_OF_A_QUESTION = 20.0
"""Seconds of a stage where the plan states none; only their ratios count, and only until one of its kind has ended."""


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
        raise ValueError(
            "a sweep varies something: give --vary KEY=A,B, for example --vary seed=0,1,2, or a plan file"
        )
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
    for chosen in plan_file.grid(axes):
        own = [plan_runs.unplain(f"{key.rpartition('.')[2]}-{value}") for key, value in chosen.items()]
        name = "_".join([str(base.get("name", "sweep")), *own])
        if name in configs:
            raise ValueError(f"two runs of the sweep would be called {name}; give every value once")
        configs[name] = config.from_flat({**base, **chosen, "name": name})
    return configs


def sweep(
    plan: PlanFile,
    out: Path,
    cluster: bool = False,
    jobs: int | None = None,
    stored: Collection[str] = (),
) -> pd.DataFrame:
    """The table of a plan's runs, all made below `out`; stages that are finished are left as they are.

    Runs are worked on side by side, each with one thread; with `cluster` they are given to Ray, as many at once as it
    has room for. A run that is refused or fails leaves its message in the table, and the others go on.

    Args:
        plan: the runs, and what each is asked.
        out: holds a directory for each run, the seconds of every stage, and the table `sweep.csv`, written anew after
            each run.
        cluster: whether to use Ray.
        jobs: how many at once here; None: as many as this machine has cores and memory for.
        stored: names of runs whose results are kept elsewhere; they are not made again.

    Raises:
        ModuleNotFoundError: Ray was asked for and is not installed.
        MismatchError: a directory holds a run of another config; nothing was started.
    """
    remote = _ray() if cluster else None
    opened = _opened(plan, out)
    waiting = {name: run for name, run in opened.items() if name not in stored}
    left = {name: remaining(run, plan.questions) for name, run in waiting.items()}
    keys = varied_keys(plan)
    lines = {name: _line(run, keys, left.get(name)) for name, run in opened.items()}
    work_left = [(name, waiting[name], dict(plan.questions)) for name in left if left[name]]
    number = itertools.count(1)

    def enter(name: str, message: str) -> None:
        run = opened[name]
        lines[name] = _line(run, keys, remaining(run, plan.questions))
        lines[name]["state"] = message or lines[name]["state"]
        log.info("%d/%d %s: %s", next(number), len(work_left), run.name, lines[name]["state"])
        _write(lines, out)

    _write(lines, out)
    if remote is None:
        jobs = jobs or usual_jobs([run for _, run, _ in work_left])
        side_by_side(_finish, work_left, jobs, partial(_hear, enter, _clock(plan, out, jobs, left)))
    else:
        for (name, *_), message in zip(work_left, remote(work_left), strict=True):
            enter(name, message)
    return pd.DataFrame(list(lines.values()))


def listing(plan: PlanFile, out: Path, jobs: int | None = None, stored: Collection[str] = ()) -> str:
    """How many runs each group has, how many are done, and how long the rest will take; nothing is written."""
    opened = _opened(plan, out)
    left = {name: () if name in stored else remaining(run, plan.questions) for name, run in opened.items()}
    width = max(len("group"), *map(len, plan.groups)) + 2
    lines = [f"{'group':<{width}}{'runs':>6}{'done':>6}{'left':>6}  about"]
    listed: set[str] = set()
    for name, group in plan.groups.items():
        done = sum(not left[run] for run in group.runs)
        shared = len(listed & set(group.runs))
        listed |= set(group.runs)
        about = group.about + (f" ({shared} of them are in a group above)" if shared else "")
        lines.append(
            f"{name:<{width}}{len(group.runs):>6}{done:>6}{len(group.runs) - done:>6}  {about}".rstrip()
        )
    stages, ahead = len(opened) * len(plan.stages), sum(map(len, left.values()))
    jobs = jobs or usual_jobs(list(opened.values()))
    text = _clock(plan, out, jobs, left).left([f"{stage} {run}" for run in left for stage in left[run]])
    source = "as the stages that have ended took"
    if not text and ahead and plan.seconds:
        total = sum(_expected(plan, stage) for of_run in left.values() for stage in of_run)
        text, source = words(total / jobs), "as the plan expects"
    lines.append(
        f"{plan.name}: {len(opened)} runs of {len(plan.stages)} stages ({', '.join(plan.stages)}): "
        f"{stages - ahead} of {stages} stages done, {ahead} left"
        + (f", about {text} with {jobs} at once, {source}" if text else "")
    )
    return "\n".join(lines) + "\n"


def varied_keys(plan: PlanFile) -> list[str]:
    """The settings in which the runs of a plan differ."""
    flat = [dict(config.flatten(run.to_dict())) for run in plan.runs.values()]
    return [key for key in flat[0] if key != "name" and any(one[key] != flat[0][key] for one in flat)]


def _opened(plan: PlanFile, out: Path) -> dict[str, Run]:
    return {name: Run.create(out / name, wanted) for name, wanted in plan.runs.items()}


def _clock(plan: PlanFile, out: Path, jobs: int, left: Mapping[str, Sequence[str]]) -> Clock:
    """A clock of all stages of all runs, those that are to be done again without their old seconds."""
    stages = {f"{stage} {run}": _expected(plan, stage) for run in plan.runs for stage in plan.stages}
    clock = Clock(out / SECONDS, stages, jobs, log.info)
    again = {f"{stage} {run}" for run in left for stage in left[run]}
    clock.seconds = {stage: seconds for stage, seconds in clock.seconds.items() if stage not in again}
    return clock


def _expected(plan: PlanFile, stage: str) -> float:
    return plan.seconds.get(stage, _EXPECTED.get(stage, _OF_A_QUESTION))


def _line(run: Run, keys: Sequence[str], left: Sequence[str] | None) -> dict[str, Any]:
    """A run's line of the table; `left` are its stages that are not done, None where its results are stored."""
    flat = dict(config.flatten(run.config.to_dict()))
    varied = {key: ",".join(flat[key]) if isinstance(flat[key], tuple) else flat[key] for key in keys}
    state = STORED if left is None else _state(left)
    numbers = main_scores(run) if evaluated(run) else dict.fromkeys(NAMES, float("nan"))
    return {"run": run.name, "state": state, **varied} | numbers


def _state(left: Sequence[str]) -> str:
    if not left:
        return "done"
    return f"to {left[0]}" if left[0] in STAGES else f"to be asked {left[0]}"


def _finish(item: tuple[str, Run, Questions], tell: Tell) -> None:
    """Does what is left of one run; tells its name and the message where it was refused or failed, else nothing."""
    tell((item[0], _message(item, tell)))


def _message(item: tuple[str, Run, Questions], tell: Tell = lambda news: None) -> str:
    name, run, questions = item
    try:
        with run.alone():
            work(name, stages_of(run, questions), tell)
    except (ValueError, KeyError, OSError, FloatingPointError) as refusal:
        return f"failed: {refusal}"
    except Exception as failure:  # whatever it is, such as a full accelerator: the other runs go on
        log.exception("%s failed", name)
        return f"failed: {type(failure).__name__}: {failure}"
    return ""


def _hear(enter: Callable[[str, str], None], clock: Clock, news: tuple[str, str] | News) -> None:
    """What a process tells: of a stage, its seconds or nothing; of a run, a text."""
    name, told = news
    if isinstance(told, str):
        enter(name, told)
    else:
        clock.hear((name, told))


def _ray() -> Callable[[Sequence[tuple[str, Run, Questions]]], list[str]]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a sweep on Ray was asked for, but ray is not installed: `pip install 'taxoprobe[cluster]'`, "
            "or leave --ray out and this machine works on them"
        ) from None
    task = ray.remote(_message)
    return lambda items: ray.get([task.remote(item) for item in items])


def _write(lines: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    table = pd.DataFrame(list(lines.values()))
    files.write_whole(out / TABLE, lambda part: table.to_csv(part, index=False))
