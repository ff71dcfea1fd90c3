"""The graph of a plan: what waits for what, what is left, and what a task takes on a cluster."""

from types import SimpleNamespace

import pytest

from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.stages.scheduling.task import Room
from taxogen.stages.sweeping import rooms as module
from taxogen.stages.sweeping import run_stages
from taxogen.stages.sweeping.plan_file import PlanFile
from taxogen.stages.sweeping.plan_tasks import plan_tasks
from taxogen.stages.sweeping.rooms import rooms

QUESTIONS = {"probes": {}, "pools": {}}


class Asker:
    """Knows which answers are there, and that `pools` reads `probes`."""

    def __init__(self, there):
        self.there = there

    def needs(self, question):
        return ("probes", "not in the plan") if question == "pools" else ()

    def asked(self, runs, question, options, out=None):
        return question in self.there


@pytest.fixture
def tasks_of(tmp_path, monkeypatch):
    """The tasks of a plan of four runs, of which some stages are left."""

    def made(left, there=(), drawn=0, together=("over", "report")):
        configs = [
            config.read(
                None, [f"name=p-{init}-{seed}", f"seed={seed}", f"model.init={init}", f"data.leaves={drawn}"]
            )
            for init in ("pretrained", "random")
            for seed in (0, 1)
        ]
        runs = {one.name: one for one in configs}
        plan = PlanFile("p", runs, {}, QUESTIONS, together={one: {} for one in together})
        monkeypatch.setattr(run_stages, "asking", lambda: Asker(there))
        monkeypatch.setattr(run_stages, "remaining", lambda run, questions: left.get(run.name, ()))
        opened = {name: Run.create(tmp_path / name, one) for name, one in runs.items()}
        return plan_tasks(plan, opened, tmp_path, {"p-random-1": Room(1, 0.5)})

    return made


ALL = ("train", "evaluate", *QUESTIONS)


def test_stages_wait_for_those_that_they_read(tasks_of):
    tasks = tasks_of({name: ALL for name in ("p-pretrained-0", "p-random-1")}).tasks
    assert tasks["train p-random-1"].needs == ()
    assert tasks["train p-random-1"].after == ("features p-pretrained-0",), "all read the same pictures"
    assert tasks["evaluate p-random-1"].needs == ("train p-random-1",)
    assert tasks["probes p-random-1"].needs == ("evaluate p-random-1",)
    assert tasks["pools p-random-1"].needs == ("evaluate p-random-1", "probes p-random-1")
    assert {tasks[f"{stage} p-random-1"].room for stage in ALL} == {Room(1, 0.5)}
    of_runs = {
        f"{stage} p-{init}-{seed}" for stage in ALL for init in ("pretrained", "random") for seed in (0, 1)
    }
    assert set(tasks["over p"].needs) == set(tasks["report p"].needs) == of_runs
    assert (tasks["over p"].after, tasks["report p"].after) == ((), ("over p",))


def test_runs_that_draw_pictures_share_features_within_a_seed(tasks_of):
    tasks = tasks_of({}, drawn=5).tasks
    assert [name for name in tasks if name.startswith("features")] == [
        f"features p-pretrained-{seed}" for seed in (0, 1)
    ]
    assert tasks["train p-random-1"].after == ("features p-pretrained-1",)


@pytest.mark.parametrize(
    ("left", "there", "names"),
    [
        ({}, ("over", "report"), set()),
        ({}, ("over",), {"report p"}),
        ({}, ("report",), {"over p", "report p"}),
        ({"p-random-0": ("pools",)}, ("over", "report"), {"pools p-random-0", "over p", "report p"}),
        (
            {"p-pretrained-0": ("train", "evaluate")},
            ("over", "report"),
            {"features p-pretrained-0", "train p-pretrained-0", "evaluate p-pretrained-0", "over p", "report p"},
        ),
    ],
)  # fmt: skip
def test_a_question_to_all_is_left_where_anything_is(tasks_of, left, there, names):
    tasks = tasks_of(left, there)
    assert tasks.left == names
    assert [task.name for task in tasks.ahead()] == [name for name in tasks.tasks if name in names]


def plan_of(resources=None, **settings):
    runs = {
        f"r{seed}": config.read(
            None, [f"name=r{seed}", f"seed={seed}", *(f"{key}={one}" for key, one in settings.items())]
        )
        for seed in (0, 1)
    }
    return PlanFile("p", runs, {}, resources=resources or {})


CPU = {"model.device": "cpu"}


@pytest.mark.parametrize(
    ("resources", "settings", "gpus_there", "room"),
    [
        ({}, CPU, 4, Room(1, 0, 7e9 + module.BESIDE)),
        ({}, {}, 0, Room(1, 0, 7e9 + module.BESIDE)),
        ({}, {}, 4, Room(1, 1, 0)),
        ({"gpus": 0.25}, {}, 4, Room(1, 0.25, 0)),
        ({"gpus": 0.25}, CPU, 4, Room(1, 0, 7e9 + module.BESIDE)),
        ({"memory": 2e9}, CPU, 0, Room(1, 0, 2e9)),
        ({"memory": 2e9, "gpus": 2.0}, {}, 4, Room(1, 2, 2e9)),
    ],
)  # fmt: skip
def test_a_task_takes_what_its_cost_plan_or_the_plan_file_says(
    monkeypatch, resources, settings, gpus_there, room
):
    counted = []

    def cost(config, card):
        counted.append(config.name)
        return SimpleNamespace(bytes={"weights": 4e9, "activations": 3e9})

    monkeypatch.setattr(module, "cost", cost)
    plan = plan_of(resources, **settings)
    assert set(rooms(plan, Room(8, gpus_there, 64e9)).values()) == {room}
    assert counted == (["r0"] if room.memory > 7e9 else []), (
        "seeds cost the same, and what is given is not counted"
    )


def test_a_run_that_no_machine_can_hold_is_refused_before_anything_starts():
    with pytest.raises(
        ValueError, match=r"r0 takes 1 CPU, 1 GPU, 1.0 GB; the largest machine .* has 8 CPU, 64.0 GB: add"
    ):
        rooms(plan_of({"memory": 1e9}, **{"model.device": "cuda"}), Room(8, 0, 64e9))


def test_a_cost_that_cannot_be_planned_asks_for_no_memory_and_says_so(monkeypatch, caplog):
    def refuse(config, card):
        raise ValueError("its cost is not planned")

    monkeypatch.setattr(module, "cost", refuse)
    assert set(rooms(plan_of(**CPU), Room(8, 0, 64e9)).values()) == {Room(1, 0, 0)}
    assert [one.getMessage() for one in caplog.records] == [
        "r0: no memory is asked for: its cost is not planned"
    ]
