"""Work side by side: everything is done and said, and a failure is raised with its own type."""

import os
import time

import pytest
import torch

from probing.store import MismatchError
from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.stages import side_by_side as module
from taxogen.stages.side_by_side import side_by_side, usual_jobs


def work(item, tell):
    tell((item, os.getpid(), torch.get_num_threads(), os.environ.get("TQDM_DISABLE")))
    if item == "refused":
        raise MismatchError("this is refused")
    if item == "killed":
        os.kill(os.getpid(), 9)
    if item == "slow":
        time.sleep(60)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_is_worked_on_with_one_thread(jobs):
    said = []
    side_by_side(work, ["a", "b", "c"], jobs, said.append)
    assert sorted(item for item, *_ in said) == ["a", "b", "c"]
    assert {count for _, _, count, _ in said} == {1}
    others = {process for _, process, *_ in said} - {os.getpid()}
    assert len(others) <= (2 if jobs == 2 else 0)
    assert bool(others) == (jobs == 2)
    assert {quiet for *_, quiet in said} == ({"1"} if jobs == 2 else {None})
    assert "TQDM_DISABLE" not in os.environ


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_first_failure_ends_all_at_once(jobs):
    start = time.monotonic()
    with pytest.raises(MismatchError, match="this is refused"):
        side_by_side(work, ["refused", "slow"], jobs, lambda word: None)
    assert time.monotonic() - start < 50


def test_a_process_that_the_system_kills_is_told_of():
    with pytest.raises(ChildProcessError, match=r"exit code -9.*--jobs 1"):
        side_by_side(work, ["killed", "slow"], 2, lambda word: None)


def test_no_job_is_refused():
    with pytest.raises(ValueError, match="--jobs 0: runs are worked on at least one at a time"):
        side_by_side(work, ["a"], 0, lambda word: None)


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
