"""Local workers: one thread each, failures that are told, and processes that are killed, or whose parent is."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from probing.store import MismatchError
from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.stages.scheduling import processes as module
from taxogen.stages.scheduling.processes import local, usual_jobs
from taxogen.stages.scheduling.schedule import schedule
from taxogen.stages.scheduling.task import Task

ROOT = Path(__file__).parents[4]


def note(folder, name):
    threads = torch.get_num_threads()
    (folder / name).write_text(f"{os.getpid()} {threads} {os.environ.get('TQDM_DISABLE', '')}")


def refuse(folder):
    raise MismatchError("this is refused")


def fail(folder):
    raise RuntimeError("out of memory")


def miss(folder):
    return {}["not there"]


class Unreadable:
    """Something that no other process can read, as where its module is not there."""

    def __reduce__(self):
        return refuse, (Path("."),)


def die_once(folder):
    """Is killed at its first try, as by a system without memory, and ends at its second."""
    if not (folder / "tried").exists():
        (folder / "tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    note(folder, "again")


def work(folder, jobs):
    """All kinds of tasks at once: one start of processes for all that is asserted."""
    said = []
    does = {"refuse": refuse, "fail": fail, "miss": miss} | ({"die": die_once} if jobs > 1 else {})
    said_by_itself = [Task("read a", partial(note, Unreadable(), "a"))] if jobs > 1 else []
    tasks = [Task(f"{name} a", partial(do, folder)) for name, do in does.items()]
    tasks += [Task(f"note {name}", partial(note, folder, name)) for name in "abcd"]
    return schedule(tasks + said_by_itself, local(jobs), said.append), said


@pytest.mark.parametrize("jobs", [1, 2])
def test_tasks_have_one_thread_and_what_they_raise_is_told(jobs, tmp_path):
    faults, said = work(tmp_path, jobs)
    assert ("ended with exit code 1: it says why" in faults.pop("read a", "")) == (jobs == 2)
    assert faults == {
        "refuse a": "this is refused",
        "fail a": "RuntimeError: out of memory",
        "miss a": "not there",
    }
    notes = [(tmp_path / name).read_text().split(" ") for name in "abcd"]
    assert {threads for _, threads, _ in notes} == {"1"}
    assert {quiet for *_, quiet in notes} == ({"1"} if jobs == 2 else {""})
    processes = {int(process) for process, *_ in notes}
    places = {news.task: news.text for news in said if news.kind == "begun"}
    assert {int(places[f"note {name}"].rpartition(":")[2]) for name in "abcd"} == processes
    assert (processes == {os.getpid()}) == (jobs == 1)
    assert "TQDM_DISABLE" not in os.environ
    if jobs == 2:
        (loss,) = [news.text for news in said if news.kind == "lost"]
        assert "ended with exit code -9" in loss
        assert (tmp_path / "again").exists()


PARENT = """
import sys, time
from functools import partial
from pathlib import Path
from taxogen.stages.scheduling.processes import local
from taxogen.stages.scheduling.schedule import schedule
from taxogen.stages.scheduling.task import Task
if __name__ == "__main__":
    schedule([Task("sleep a", partial(time.sleep, 60))], local(2), lambda news: print(news.text, flush=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_processes_end_with_the_one_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    with subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline().rpartition(":")[2])
        parent.kill()
    deadline = time.monotonic() + 50
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_no_job_is_refused():
    with pytest.raises(ValueError, match="--jobs 0: runs are worked on at least one at a time"):
        local(0)


def test_jobs_are_no_more_than_runs_cores_and_memory(runs, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(module, "MEMORY", 1)
    assert usual_jobs(runs[:2]) == 2
    assert usual_jobs(runs[:1] * 20) == 8
    monkeypatch.setattr(module, "MEMORY", 10**15)
    assert usual_jobs(runs) == 1


@pytest.fixture
def runs(tmp_path):
    configs = [config.read(None, [f"seed={seed}", "model.device=cpu"]) for seed in (0, 1)]
    return [Run.create(tmp_path / str(one.seed), one) for one in configs]


BARS = """
from taxogen.stages.scheduling.processes import local
from taxogen.stages.scheduling.schedule import schedule
from taxogen.stages.scheduling.task import Task
from tests.taxogen.stages.scheduling.test_processes import bar
assert schedule([Task(name, bar) for name in "ab"], local(2), print) == {}
"""


def bar():
    list(tqdm(range(3)))


def test_processes_with_bars_leave_no_semaphore_to_the_system():
    process = subprocess.run(
        [sys.executable, "-c", BARS], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert process.stdout.count("'done'") == 2
    assert "leaked" not in process.stderr
