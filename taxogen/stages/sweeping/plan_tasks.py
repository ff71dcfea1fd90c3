"""Tasks of a plan: features, train (and capture), evaluate and questions of each run; then questions of all runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from taxogen.runs.config import Config
from taxogen.runs.run import Run
from taxogen.stages.scheduling.task import Room, Task
from taxogen.stages.sweeping import run_stages
from taxogen.stages.sweeping.copying import COPY, copy_run, is_copied
from taxogen.stages.sweeping.plan_file import REPORT, STAGES, PlanFile

FEATURES = "features"
TRAIN, EVALUATE = STAGES


@dataclass(frozen=True)
class PlanTasks:
    """The tasks of a plan, run by run in its order, and then those of all runs.

    Attributes:
        tasks: all of them, by name.
        left: names of those that are to be done.
    """

    tasks: Mapping[str, Task]
    left: frozenset[str]

    def ahead(self) -> list[Task]:
        """Those that are to be done."""
        return [task for name, task in self.tasks.items() if name in self.left]


def plan_tasks(
    plan: PlanFile,
    runs: Mapping[str, Run],
    out: Path,
    rooms: Mapping[str, Room] | None = None,
    copy_to: str = "",
) -> PlanTasks:
    """The tasks of some runs of a plan, named by stage and run, and which of them are left, by what files say now.

    A question to all runs is left where its answer is not there or not of the runs as they are, and where a run is not
    done.

    Args:
        plan: the runs, and what they are asked.
        runs: those that are made, by name.
        out: holds the folder of a report.
        rooms: what a task of each run takes; a core by default.
        copy_to: a URL to which each run is copied once everything of it is done; none by default.
    """
    tasks = graph(plan, runs, out, rooms, copy_to)
    left: set[str] = set()
    for name, run in runs.items():
        stages = run_stages.remaining(run, plan.questions)
        left |= {f"{stage} {name}" for stage in stages}
        if f"{FEATURES} {name}" in tasks and TRAIN in stages and not run.closed:
            left.add(f"{FEATURES} {name}")
    for question, options in plan.together.items():
        task = tasks.get(f"{question} {plan.name}")
        if task is not None and (
            left.intersection((*task.needs, *task.after))
            or not run_stages.asked_together(list(runs.values()), question, options, out)
        ):
            left.add(task.name)
    for name, run in runs.items() if copy_to else ():
        task = tasks[f"{COPY} {name}"]
        if left.intersection((*task.needs, *task.after)) or not is_copied(run, copy_to):
            left.add(task.name)
    return PlanTasks(tasks, frozenset(left))


def graph(
    plan: PlanFile,
    runs: Mapping[str, Run],
    out: Path,
    rooms: Mapping[str, Room] | None = None,
    copy_to: str = "",
) -> dict[str, Task]:
    """The tasks of some runs of a plan, by name, done or not; no file is looked at.

    Runs that read the same features wait for one task that makes them, but train even where that has failed. A question
    to all runs is no task where some runs are not made. Arguments as of `plan_tasks`.
    """
    tasks: list[Task] = []
    firsts: dict[tuple[object, ...], str] = {}
    for name, run in runs.items():
        room = (rooms or {}).get(name, Room())
        first = firsts.setdefault(features_of(run.config), name)
        if first == name:
            tasks.append(Task(f"{FEATURES} {name}", partial(run_stages.prepare, run), room=room))
        do = {
            stage: partial(run_stages.do_stage, run, stage, plan.questions.get(stage, {}))
            for stage in plan.stages
        }
        tasks.append(Task(f"{TRAIN} {name}", do[TRAIN], after=(f"{FEATURES} {first}",), room=room))
        tasks.append(Task(f"{EVALUATE} {name}", do[EVALUATE], (f"{TRAIN} {name}",), room=room))
        for question in plan.questions:
            needs = (one for one in run_stages.asking().needs(question) if one in plan.questions)
            before = tuple(f"{one} {name}" for one in (EVALUATE, *needs))
            tasks.append(Task(f"{question} {name}", do[question], before, room=room))
    of_runs = tuple(task.name for task in tasks if not task.name.startswith(f"{FEATURES} "))
    together = plan.together if len(runs) == len(plan.runs) else {}
    for question, options in together.items():
        do_together = partial(run_stages.ask_together, list(runs.values()), question, options, out)
        others = tuple(f"{one} {plan.name}" for one in plan.together if one != REPORT and question == REPORT)
        tasks.append(Task(f"{question} {plan.name}", do_together, of_runs, others))
    answers = tuple(f"{question} {plan.name}" for question in together)  # they lie in the first run's folder
    for number, (name, run) in enumerate(runs.items() if copy_to else ()):
        own = tuple(f"{stage} {name}" for stage in plan.stages)
        tasks.append(
            Task(f"{COPY} {name}", partial(copy_run, run, copy_to), own, answers if number == 0 else ())
        )
    return {task.name: task for task in tasks}


def features_of(config: Config) -> tuple[object, ...]:
    """What decides which features a run reads; the seed where it draws pictures."""
    data, model = config.data, config.model
    drawn = config.seed if data.pictures_per_leaf or data.leaves else None
    read = (data.pictures, data.taxonomy, data.pictures_per_leaf, data.leaves, drawn)
    return (*read, model.vlm, model.encoder, model.encoder_tokens, model.feature_dtype)
