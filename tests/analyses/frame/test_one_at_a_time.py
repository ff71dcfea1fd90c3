"""Two processes that ask the same question of the same runs: one waits, both end, and every file is whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from probing.store import records
from tests.analyses.frame.planted_runs import COUNT, FILES, planted_run

ROOT = Path(__file__).parents[3]
READY = """
import os, sys, time
from pathlib import Path

def wait_for_both(ready):
    Path(ready, str(os.getpid())).touch()
    while len(os.listdir(ready)) < 2:
        time.sleep(0.01)

"""
ASKING = (
    READY
    + """
from contextlib import contextmanager
from dataclasses import replace
from analyses.frame.analysis import Extras, Takes
from taxogen.runs.run import Run
from tests.analyses.frame import planted_runs

@contextmanager
def alone(run):
    mark = run.path / "working"
    mark.mkdir()  # is refused where the other process works
    time.sleep(0.4)
    yield
    mark.rmdir()

def compute(runs, options):
    with alone(runs[0]):
        return planted_runs.compute(runs, options)

def conclude(runs, results, options):
    with alone(runs[0]):
        return Extras(files={"conclusion.txt": lambda part: part.write_text("n")})

ready, takes, out, *paths = sys.argv[1:]
wait_for_both(ready)
count = replace(planted_runs.COUNT, compute=compute, conclude=conclude, takes=Takes[takes])
count.ask([Run.open(path) for path in paths], planted_runs.Options(), Path(out) if out else None)
"""
)


def both(ready, script, *given):
    """What each of two processes says, which run a script when both are ready and must end well."""
    ready.mkdir()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([sys.executable, "-c", script, ready, *words], cwd=ROOT, **pipes) for words in given
    ]
    said = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    return said


def one_waits(said):
    """Whether one of two processes says for whom it waits; a holder that has only just begun has no name yet."""
    named = re.compile(
        r"waiting for (`.*` \(process \d+ on .*\)|another process), which works on ", re.DOTALL
    )
    return any(named.search(err) for _, err in said)


@pytest.mark.parametrize("out", ["", "results"])
@pytest.mark.parametrize(("takes", "runs"), [("EACH_RUN", "a"), ("EACH_RUN", "ab"), ("RUNS_TOGETHER", "ab")])
def test_the_second_waits_and_says_for_whom(tmp_path, takes, runs, out):
    paths = [str(planted_run(tmp_path / name, seed).path) for seed, name in enumerate(runs)]
    out = str(tmp_path / out) if out else ""
    said = both(tmp_path / "ready", ASKING, *[[takes, out, *paths]] * 2)
    assert one_waits(said)
    folder = Path(out) if out else Path(paths[0]) / "analyses" / "count"
    assert {*FILES, "conclusion.txt"} == set(records.recorded(folder))
    for name in records.recorded(folder):
        records.made_from(folder / name)
    beside = {path.name for path in folder.parent.iterdir()} - {"a", "b", "ready"}
    assert beside == {folder.name, f"{folder.name}.lock"}


def test_commands_that_name_runs_in_opposite_orders_both_end(tmp_path):
    paths = [str(planted_run(tmp_path / name, seed).path) for seed, name in enumerate("ab")]
    both(tmp_path / "ready", ASKING, ["EACH_RUN", "", *paths], ["EACH_RUN", "", *paths[::-1]])
    for path in paths:
        folder = Path(path) / "analyses" / COUNT.name
        assert {*FILES, "conclusion.txt"} == set(records.recorded(folder))
