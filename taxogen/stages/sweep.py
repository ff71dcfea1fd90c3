"""Sweep: many runs, of a grid or of a plan file, each trained, scored and asked, with a table of their progress."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from taxogen.models import encoders
from taxogen.models.features import bins
from taxogen.runs import config, prepare
from taxogen.runs.bench import require_named
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from taxogen.stages.scheduling.cluster import Cluster
from taxogen.stages.scheduling.folders import mark_in
from taxogen.stages.scheduling.processes import local, usual_jobs
from taxogen.stages.scheduling.schedule import schedule
from taxogen.stages.scheduling.task import Room, Workers
from taxogen.stages.sweeping import plan_file, plan_runs
from taxogen.stages.sweeping.clock import OF_A_QUESTION, Clock, words
from taxogen.stages.sweeping.copying import COPY, copy_results, require_writable
from taxogen.stages.sweeping.plan_file import PlanFile
from taxogen.stages.sweeping.plan_tasks import FEATURES, PlanTasks, plan_tasks
from taxogen.stages.sweeping.progress import STORED, Progress
from taxogen.stages.sweeping.rooms import rooms
from taxogen.world import pictures

__all__ = ["SECONDS", "STORED", "Swept", "grid", "listing", "sweep", "varied_keys"]

log = logging.getLogger("taxogen")
SECONDS = "sweep-seconds.json"
_EXPECTED = {FEATURES: 0.0, COPY: 0.0, "train": 120.0, "evaluate": 27.0}
"""Seconds of a stage where the plan states none; only their ratios count, and only until one of its kind has ended."""


@dataclass(frozen=True)
class Swept:
    """What became of a sweep: its table, a line for each run, and why each task that is not done is not."""

    table: pd.DataFrame
    failed: Mapping[str, str]


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
    jobs: int | None = None,
    stored: Collection[str] = (),
    ray: str | None = None,
    copy_to: str = "",
) -> Swept:
    """What became of a plan's runs, all made below `out`; what is finished is left as it is.

    Stages are worked on side by side, each with one thread, where those that they need are done. One that
    fails leaves its message in the table, and the others go on; one whose process or machine is lost is begun
    again, and goes on from what it had stored.

    Args:
        plan: the runs, and what each is asked.
        out: holds a directory for each run, the seconds of every stage, and the table `sweep.csv`, written anew after
            each stage.
        jobs: how many at once here; None: as many as this machine has cores and memory for.
        stored: names of runs whose results are kept elsewhere; they are not made again, and with any of them nothing is
            asked of all together.
        ray: the address of a Ray cluster that does the work, or `here` for one that is started on this machine; None:
            processes of this machine.
        copy_to: a URL to which finished runs are copied, and the table and the report at the end; none by default.

    Raises:
        ModuleNotFoundError: Ray was asked for and is not installed.
        MismatchError: a directory holds a run of another config; nothing was started.
        ValueError: a run could not be prepared; nothing was started.
        OSError: a run needs what is not here, the folder or the URL cannot be written to, or a machine of the cluster
            does not see the folder.
    """
    mark_in(out).unlink()
    if copy_to:
        require_writable(copy_to)
    opened = _opened(plan, out)
    waiting = {name: run for name, run in opened.items() if name not in stored}
    require_preparable(waiting, here=ray in (None, "here"))
    workers, takes = _workers(plan, waiting, out, jobs, ray)
    tasks = plan_tasks(plan, waiting, out, takes, copy_to)
    progress = _progress(plan, opened, tasks, stored, out, max(1, int(workers.room().cpus)))

    def tick() -> None:
        progress.clock.jobs = max(1, int(workers.room().cpus))  # machines come and go
        progress.tick()

    failed = schedule(tasks.ahead(), workers, progress.hear, tick)
    if copy_to:
        copy_results(out, copy_to)
    return Swept(progress.table(), failed)


def require_preparable(runs: Mapping[str, Run], here: bool = True) -> None:
    """Refuses what the preparation of one of these runs would refuse, so that no other run is trained before it.

    Asked of each world and model once, and of no run that is prepared.

    Args:
        runs: by name.
        here: whether this machine is to do the work; what it lacks where it is not may be on those that do.

    Raises:
        ValueError: a run's settings cannot be; the run is named.
        OSError: it needs something that is not on this machine.
    """
    asked: set[object] = set()
    table = functools.cache(lambda name: pictures.load(name).table)
    grid = functools.cache(lambda name: encoders.load(name).grid)
    for name, run in runs.items():
        config = run.config
        if run.closed or run.older:
            continue
        world = config.data, config.seed, config.evaluate.leaf_choices
        try:
            prepare.refuse_late(config, config.train.steps)
            if here and config.model not in asked:
                asked.add(config.model)
                require_named(config.model, declared=True)
                if not config.model.vlm:
                    bins(grid(config.model.encoder), config.model.encoder_tokens)
            if world not in asked:
                asked.add(world)
                prepare.trained_on(config, table(config.data.pictures))
        except (OSError, ModuleNotFoundError) as error:
            if here:
                raise OSError(f"run {name}: {error}") from error
        except (ValueError, KeyError) as error:
            raise ValueError(f"run {name}: {error.args[0]}") from error


def _workers(
    plan: PlanFile, waiting: Mapping[str, Run], out: Path, jobs: int | None, ray: str | None
) -> tuple[Workers, dict[str, Room]]:
    """What works on the tasks, and what a task of each run takes of it where that counts."""
    if ray is None:
        return local(jobs or usual_jobs(list(waiting.values()))), {}
    cluster = Cluster(None if ray == "here" else ray, jobs, out)
    return cluster, rooms(plan, cluster.largest())


def _progress(
    plan: PlanFile, opened: Mapping[str, Run], tasks: PlanTasks, stored: Collection[str], out: Path, jobs: int
) -> Progress:
    """What hears how tasks go; it draws a live table in a terminal where several are worked on at once."""
    keys, live = varied_keys(plan), sys.stderr.isatty() and jobs > 1
    varied = {name: _varied(run, keys) for name, run in opened.items()}
    clock = _clock(plan, out, jobs, tasks, (lambda line: None) if live else log.info)
    return Progress(opened, varied, plan.stages, set(tasks.left), stored, clock, out, live)


def listing(plan: PlanFile, out: Path, jobs: int | None = None, stored: Collection[str] = ()) -> str:
    """How many runs each group has, how many are done, and how long the rest will take; nothing is written."""
    opened = _opened(plan, out)
    tasks = plan_tasks(plan, {name: run for name, run in opened.items() if name not in stored}, out)
    left = {name: [stage for stage in plan.stages if f"{stage} {name}" in tasks.left] for name in opened}
    width = max(map(len, ("group", *plan.groups))) + 2
    lines = [f"{'group':<{width}}{'runs':>6}{'done':>6}{'left':>6}  about"] if plan.groups else []
    listed: set[str] = set()
    for name, group in plan.groups.items():
        done = sum(not left[run] for run in group.runs)
        shared = len(listed & set(group.runs))
        listed |= set(group.runs)
        about = group.about + (f" ({shared} of them are in a group above)" if shared else "")
        lines.append(
            f"{name:<{width}}{len(group.runs):>6}{done:>6}{len(group.runs) - done:>6}  {about}".rstrip()
        )
    together = [one for one in plan.together if f"{one} {plan.name}" in tasks.tasks]
    if together:
        states = [f"{one} ({'left' if f'{one} {plan.name}' in tasks.left else 'done'})" for one in together]
        lines.append(f"of all runs together: {', '.join(states)}")
    stages, ahead = len(opened) * len(plan.stages), sum(map(len, left.values()))
    jobs = jobs or usual_jobs(list(opened.values()))
    text = _clock(plan, out, jobs, tasks).left()
    source = "as the stages that have ended took"
    if not text and ahead and plan.seconds:
        text, source = words(sum(_expected(plan, name) for name in tasks.left) / jobs), "as the plan expects"
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


def _varied(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    flat = dict(config.flatten(run.config.to_dict()))
    return {key: ",".join(flat[key]) if isinstance(flat[key], tuple) else flat[key] for key in keys}


def _opened(plan: PlanFile, out: Path) -> dict[str, Run]:
    return {name: Run.create(out / name, wanted) for name, wanted in plan.runs.items()}


def _clock(
    plan: PlanFile, out: Path, jobs: int, tasks: PlanTasks, say: Callable[[str], object] = log.info
) -> Clock:
    """A clock of all tasks, those that are to be done again without their old seconds."""
    expected = {name: _expected(plan, name) for name in tasks.tasks}
    clock = Clock(out / SECONDS, expected, jobs, say, without=set(tasks.tasks) - tasks.left)
    clock.seconds = {name: seconds for name, seconds in clock.seconds.items() if name not in tasks.left}
    return clock


def _expected(plan: PlanFile, task: str) -> float:
    stage = task.partition(" ")[0]
    return plan.seconds.get(stage, _EXPECTED.get(stage, OF_A_QUESTION))
