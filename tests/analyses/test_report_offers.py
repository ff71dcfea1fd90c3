"""What a report offers for a question that was not asked: a command for the runs that allow it, else the reason."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from analyses.frame import registry
from analyses.report import looks
from analyses.report.sections import Section


def flat_refused(runs, options):
    for run in runs:
        if run.path.name.startswith("flat"):
            raise ValueError(f"{run.path} has no grid")


def runs(*names):
    return [SimpleNamespace(path=Path(name)) for name in names]


def test_one_run_that_is_refused_leaves_the_command_of_the_others():
    section = Section(replace(registry.load("lens"), check=flat_refused))
    command = "python -m analyses.lens --run"
    assert section.offer(runs("A", "flat", "B")) == (f"{command} A --run B", "flat has no grid")
    assert section.offer(runs("flat", "flat-2")) == ("", "flat has no grid (and 1 more)")
    assert section.offer(runs("A")) == (f"{command} A", "")


def test_runs_that_are_asked_together_are_refused_together():
    section = Section(replace(registry.load("visual_coherence"), check=flat_refused))
    assert section.offer(runs("A", "flat")) == ("", "flat has no grid")


def test_a_word_to_be_filled_in_is_one_of_the_flags_not_a_path_in_capitals():
    assert Section(registry.load("sparse_features")).blanks == ["DIR"]
    assert Section(registry.load("lens")).blanks == []


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ValueError("no such thing")])
def test_a_look_that_fails_is_told_and_the_next_is_taken(error, monkeypatch, capsys):
    asked = []

    def ask(analysis, group, options):
        asked.append((analysis.name, analysis.hurried, [run.path.name for run in group]))
        raise error

    known = [registry.load(name) for name in ("lens", "visual_coherence", "behaviour")]
    monkeypatch.setattr(looks, "questions_about_runs", lambda: known)
    for name in ("distinguished", "designs", "grouped_by_condition"):
        monkeypatch.setattr(looks, name, lambda runs: runs)
    monkeypatch.setattr(looks, "_answered", lambda *_: False)
    monkeypatch.setattr("analyses.frame.analysis.Analysis.ask", ask)
    looks.look(runs("A", "B"))
    assert asked == [("lens", True, ["A"]), ("visual_coherence", True, ["A", "B"])]
    assert capsys.readouterr().err.splitlines() == [
        f"lens: no quick look: {error}",
        f"visual_coherence: no quick look: {error}",
    ]


def test_a_question_that_the_report_answers_and_that_lacks_what_it_reads_is_told(monkeypatch, capsys):
    monkeypatch.setattr(
        looks, "questions_about_runs", lambda: [replace(registry.load("emergence"), check=flat_refused)]
    )
    for name in ("distinguished", "designs", "grouped_by_condition"):
        monkeypatch.setattr(looks, name, lambda runs: runs)
    monkeypatch.setattr(looks, "_answered", lambda *_: False)
    monkeypatch.setattr("analyses.frame.analysis.Analysis.ask", lambda *_: pytest.fail("it was asked"))
    looks.look(runs("A", "B"))
    assert not capsys.readouterr().err
    looks.look(runs("A", "flat"))
    assert capsys.readouterr().err == "emergence: no quick look: flat has no grid\n"
