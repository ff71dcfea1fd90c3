"""The scheduler: order, room, failures that stay where they are, and workers that are lost, all from a script."""

import pytest

from taxogen.stages.scheduling import schedule as module
from taxogen.stages.scheduling.schedule import schedule
from taxogen.stages.scheduling.task import News, Room, Task


class Scripted:
    """Workers for which a script says how each try of a task ends; what was begun ends in rounds, the last first."""

    def __init__(self, room=None, ends=None):
        self.all, self.ends, self.begun, self.running, self.most, self.closed = room, ends or {}, [], [], 0, 0

    def room(self):
        return self.all or Room(2)

    def start(self, task):
        self.begun.append(task.name)
        self.running.append(task.name)
        self.most = max(self.most, len(self.running))

    def news(self, seconds):
        assert self.running, "nothing runs and nothing will"
        name = self.running.pop()
        kind = self.ends.get((name, self.begun.count(name)), self.ends.get(name, "done"))
        return [News(name, "begun", "here"), News(name, kind, f"{name} {kind}")]

    def close(self):
        self.closed += 1


def tasks(**needs):
    return [Task(name, print, tuple(needed)) for name, needed in needs.items()]


def kinds(said):
    return [(news.task, news.kind) for news in said if news.kind != "begun"]


def test_a_task_begins_once_those_that_it_needs_are_done_and_there_is_room():
    workers, said = Scripted(), []
    assert schedule(tasks(d="bc", c="a", b="a", a=""), workers, said.append) == {}
    assert workers.begun == ["a", "c", "b", "d"], "ready ones in the order that was given"
    assert workers.most == 2
    assert workers.closed == 1
    assert kinds(said) == [("a", "done"), ("b", "done"), ("c", "done"), ("d", "done")]


def test_what_is_not_among_the_tasks_is_done_already():
    assert schedule(tasks(b="a"), workers := Scripted(), print) == {}
    assert workers.begun == ["b"]


@pytest.mark.parametrize("gpus", [0.1, 0.2, 0.3, 0.5])
def test_tasks_that_share_a_gpu_are_begun_together_as_far_as_it_goes(gpus):
    shares = [Task(str(number), print, room=Room(0.1, gpus)) for number in range(24)]
    schedule(shares, workers := Scripted(Room(8, 1.0)), print)
    assert workers.most == int(1 / gpus + 1e-9)
    assert len(workers.begun) == 24


def test_a_small_task_goes_ahead_of_one_that_does_not_fit():
    large, small = Task("large", print, room=Room(1, 0, 9e9)), Task("small", print, room=Room(1, 0, 1e9))
    first = Task("first", print, room=Room(1, 0, 5e9))
    schedule([first, large, small], workers := Scripted(Room(4, 0, 10e9)), print)
    assert workers.begun == ["first", "small", "large"]


def test_a_failure_leaves_out_what_needs_it_and_nothing_else():
    all_tasks = [Task("e", print, after=("a",)), *tasks(a="", b="a", c="b", d="")]
    faults = schedule(all_tasks, workers := Scripted(ends={"a": "failed"}), (said := []).append)
    assert faults == {
        "a": "a failed",
        "b": "it needs `a`, which is not done",
        "c": "it needs `b`, which is not done",
    }
    assert workers.begun == ["a", "d", "e"], "e waits for a, however that ends"
    assert ("c", "left out") in kinds(said)


@pytest.mark.parametrize("losses", [1, module.TRIES - 1])
def test_a_task_whose_worker_is_lost_is_begun_again(losses):
    ends = {("a", number): "lost" for number in range(1, losses + 1)}
    assert schedule(tasks(a="", b="a"), workers := Scripted(ends=ends), (said := []).append) == {}
    assert workers.begun == ["a"] * (losses + 1) + ["b"]
    assert kinds(said).count(("a", "lost")) == losses


def test_a_task_that_kills_every_worker_is_given_up():
    faults = schedule(tasks(a="", b="a", c=""), workers := Scripted(ends={"a": "lost"}), (said := []).append)
    assert workers.begun.count("a") == module.TRIES
    assert faults["a"] == f"a lost, {module.TRIES} times: it is not begun again"
    assert kinds(said)[-2:] == [("a", "failed"), ("b", "left out")]
    assert "c" in workers.begun


def test_work_that_fits_nowhere_waits_and_says_so_once():
    class Growing(Scripted):
        rounds = 0

        def news(self, seconds):
            self.rounds += not self.running
            self.all = Room(1, 1) if self.rounds == 3 else self.all
            return super().news(seconds) if self.running else []

    workers, said = Growing(Room(1, 0)), []
    assert schedule([Task("a", print, room=Room(1, 1))], workers, said.append) == {}
    waits = [news.text for news in said if news.kind == "waits"]
    assert waits == ["it takes 1 CPU, 1 GPU, there is 1 CPU"]


def test_a_circle_is_refused_and_an_interrupt_closes_the_workers():
    with pytest.raises(ValueError, match="cycle"):
        schedule(tasks(a="b", b="a"), Scripted(), print)

    def interrupt(news):
        raise KeyboardInterrupt

    workers = Scripted()
    with pytest.raises(KeyboardInterrupt):
        schedule(tasks(a=""), workers, interrupt)
    assert workers.closed == 1
