"""Statements that questions about stores share: refusals before anything is read, options handed to the table."""

import re
import shutil
from dataclasses import replace

import pytest

from taxogen.runs.run import Run
from taxogen.stages import pipeline


def run_of_another_seed(run, path):
    """A trained run that differs from another in its seed."""
    other = Run.create(path, replace(run.config, seed=run.config.seed + 1))
    pipeline.train_run(other)
    return other


def assert_refused(analysis, table, run, more, message, folder, capsys, monkeypatch):
    """A command line is refused in one line before the function `table` of the analysis is called.

    `{twin}` in `more` is a copy of the run, `{empty}` a run without captures, which is then the only one.
    """
    twin = shutil.copytree(run.path, folder / "run")
    empty = shutil.copytree(run.path, folder / "empty", ignore=shutil.ignore_patterns("captures"))
    monkeypatch.setattr(analysis, table, lambda *_: pytest.fail("something was measured"))
    runs = () if "{empty}" in more else ("--run", str(run.path))
    with pytest.raises(SystemExit) as refused:
        analysis.main([*runs, *(one.format(twin=twin, empty=empty) for one in more)])
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert said.count("\n") == 1


def assert_held_out_reach(analysis, table, run, monkeypatch):
    """The held-out hypernyms that the function `table` is given are the run's, or those of the options."""
    given = []

    def stop(images, text, taxonomy, options, *more):
        given.append(options.held_out)
        raise ValueError("enough")

    monkeypatch.setattr(analysis, table, stop)
    monkeypatch.setattr(analysis, "held_out_hypernyms", lambda run, asked: asked or ("bird",))
    for options in (analysis.Options(), analysis.Options(held_out=("fruit",))):
        with pytest.raises(ValueError, match="enough"):
            analysis.compute([run], options)
    assert given == [("bird",), ("fruit",)]
