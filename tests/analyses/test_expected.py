"""Hypotheses: what a file may say, when it was registered, and verdicts of intervals with known limits."""

import json
import os
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from analyses import expected
from analyses.expected import judged, registration
from analyses.expected.hypotheses import EXAMPLE, parse, read
from analyses.expected.judged import FAILS, HOLDS, UNDECIDED, Judged, cells, judge
from analyses.report.page import template
from taxogen.runs.config import Config
from taxogen.runs.run import Run

ONE = """
[helps]
says = "Pretraining helps"
analysis = "behaviour"
measure = "auroc"
contrast = "a_minus_b"
above = 0.1
"""


def hypothesis(bound="above = 0.1", where='contrast = "a_minus_b"', analysis="behaviour"):
    text = f'[h]\nsays = "s"\nanalysis = "{analysis}"\nmeasure = "auroc"\n{where}\n{bound}\n'
    (one,) = parse(text, "expected.toml")
    return one


def row(lower, upper, **labels):
    value = (lower + upper) / 2
    usual = {"contrast": "a_minus_b", "target": "mean", "measure": "auroc", "headline": True, "run": "r"}
    return {**usual, **labels, "value": value, "lower": lower, "upper": upper, "n": 30}


def outcome(bound, *rows, where='contrast = "a_minus_b"'):
    (one,) = judge([hypothesis(bound, where)], [], computed={"behaviour": pd.DataFrame(rows)})
    return one.outcome


@pytest.mark.parametrize(
    ("bound", "lower", "upper", "verdict"),
    [
        ("above = 0.1", 0.11, 0.3, HOLDS),
        ("above = 0.1", -0.2, 0.09, FAILS),
        ("above = 0.1", 0.05, 0.3, UNDECIDED),
        ("below = 0.1", -0.2, 0.09, HOLDS),
        ("below = 0.1", 0.11, 0.3, FAILS),
        ("below = 0.1", 0.05, 0.3, UNDECIDED),
        ("within = [-0.03, 0.03]", -0.02, 0.02, HOLDS),
        ("within = [-0.03, 0.03]", 0.04, 0.1, FAILS),
        ("within = [-0.03, 0.03]", -0.09, -0.04, FAILS),
        ("within = [-0.03, 0.03]", -0.01, 0.04, UNDECIDED),
        ("above = 0.1", float("nan"), float("nan"), UNDECIDED),
        ("within = [-0.03, 0.03]", float("nan"), float("nan"), UNDECIDED),
    ],
)
def test_a_verdict_is_what_the_whole_interval_says(bound, lower, upper, verdict):
    assert outcome(bound, row(lower, upper)) == verdict


def test_a_hypothesis_about_several_runs_or_values_holds_where_it_holds_for_all():
    assert outcome("above = 0", row(0.1, 0.2, run="a"), row(0.1, 0.3, run="b")) == HOLDS
    assert outcome("above = 0", row(0.1, 0.2, run="a"), row(-0.1, 0.3, run="b")) == UNDECIDED
    assert outcome("above = 0", row(0.1, 0.2, run="a"), row(-0.3, -0.1, run="b")) == FAILS
    layers = [row(0.1, 0.2, layer=float(layer)) for layer in (1, 2, 3)]
    where = 'contrast = "a_minus_b"\nlayer = [1, 3]'
    assert outcome("above = 0", *layers, where=where) == HOLDS
    layers[1] |= {"lower": -0.3, "upper": -0.1}
    assert outcome("above = 0", *layers, where=where) == HOLDS
    assert outcome("above = 0", *layers, where='contrast = "a_minus_b"\nlayer = 2') == FAILS


def test_the_usual_cell_is_meant_and_more_than_one_is_refused_by_the_columns_that_differ():
    table = pd.DataFrame([row(0.1, 0.2), row(0.5, 0.6, target="bird"), row(0.7, 0.8, headline=False)])
    assert [one["lower"] for one in cells(hypothesis(), table)] == [0.1]
    table = pd.DataFrame([row(0.1, 0.2, layer=1.0), row(0.1, 0.2, layer=2.0)])
    with pytest.raises(ValueError, match=r"h means 2 rows of behaviour; name layer \(1.0, 2.0 …\)"):
        cells(hypothesis(), table)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ('contrast = "a_minus_c"', "did you mean 'a_minus_b'"),
        ('contrast = "a_minus_b"\ntraget = "mean"', "did you mean 'target'"),
        ('contrast = "a_minus_b"\ntarget = ["mean", "brid"]', "did you mean 'bird'"),
    ],
)
def test_a_typo_in_a_cell_is_refused_with_the_nearest(where, message):
    table = pd.DataFrame([row(0.1, 0.2), row(0.5, 0.6, target="bird")])
    with pytest.raises(KeyError, match=message):
        cells(hypothesis(where=where), table)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"auroc"', '"aurok"', "line 2: helps: .*did you mean 'auroc'"),
        ('"behaviour"', '"behavior"', "did you mean 'behaviour'"),
        ("above = 0.1", "abov = 0.1", "needs one bound, above, below or within = .*; found none"),
        ("above = 0.1", "above = 0.1\nbelow = 0.3", "found above; below"),
        ("above = 0.1", 'above = "much"', "above is a number, found 'much'"),
        ("above = 0.1", "above = true", "above is a number"),
        ("above = 0.1", "above = -inf", "above is a number"),
        ("above = 0.1", "within = [nan, 0.1]", "two numbers"),
        ("above = 0.1", "within = 0.1", "two numbers"),
        ("above = 0.1", "within = [0.2, 0.1]", "low below high"),
        ('says = "Pretraining helps"\n', "", "needs a text `says`"),
        (ONE, "", "has none; give a table"),
        (ONE, "helps = 3\n", "it is a table"),
    ],
)
def test_a_file_that_says_nothing_that_can_be_judged_is_refused(before, after, message):
    with pytest.raises((ValueError, KeyError), match=message):
        parse(ONE.replace(before, after), "expected.toml")


def test_the_example_can_be_read():
    assert len(read(EXAMPLE)) == 4


@pytest.fixture
def run(tmp_path):
    """A run with a config, and neither world nor training."""
    run = Run(tmp_path / "plan" / "one", Config())
    run.folder()
    run.save_config()
    return run


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "expected.toml"
    path.write_text(ONE, encoding="utf-8")
    return path


def test_a_file_registered_before_training_says_so_and_later_ones_do_not(run, file):
    assert registration.register(file, run.path).standing(run).endswith("before training")
    run.file("checkpoint.pt").write_bytes(b"")
    assert registration.register(file, run.path).standing(run).endswith("after training had begun")
    run.file("run.json").write_text("{}", encoding="utf-8")
    late = registration.register(file, run.path.parent)
    assert "after the run ended at 20" in late.standing(run)
    first, second = registration.registered(run.path)
    assert first.sha256 == second.sha256 == late.sha256
    assert registration.current(registration.registered_for(run), file, ONE) == first


@pytest.mark.parametrize("ended", [True, False])
def test_a_trained_run_under_another_name_or_from_elsewhere_was_not_registered_before(
    run, file, tmp_path, ended
):
    trace = run.file("run.json") if ended else run.folder("projector") / "step-000025.safetensors"
    trace.write_text("{}", encoding="utf-8")
    os.utime(trace, (1e9, 1e9))
    said = "after the run ended at 2001-09-09" if ended else "after training had begun"
    moved = Run(tmp_path / "plan" / "two", run.config)
    (tmp_path / "empty").mkdir()
    empty = registration.register(file, tmp_path / "empty")
    known = registration.register(file, tmp_path / "plan")
    run.path.rename(moved.path)
    assert said in known.standing(moved)
    assert said in empty.standing(moved)  # from a folder that did not hold it
    os.utime(moved.path / trace.relative_to(run.path), (4e9, 4e9))  # as a copy has it
    assert "a run with the same settings" in known.standing(moved)
    assert empty.standing(moved).endswith("before training")
    assert known == registration.registered(tmp_path / "plan")[-1]


@pytest.mark.parametrize("copied", [False, True])
def test_a_run_that_says_when_it_was_trained_is_judged_by_that_wherever_it_lies(run, file, tmp_path, copied):
    when = {"began": "2001-01-01 00:00:00 UTC", "ended": "2001-01-01 02:00:00 UTC"}
    run.file("run.json").write_text(json.dumps(when), encoding="utf-8")
    late = registration.register(file, run.path.parent)
    moved = Run(tmp_path / "elsewhere" / "two", run.config)
    (shutil.copytree if copied else shutil.move)(run.path, moved.path)
    os.utime(moved.file("run.json"), (4e9, 4e9))  # as a copy has it
    said = "after the run ended at 2001-01-01 02:00:00 UTC"
    assert late.standing(moved).endswith(said)
    early = replace(late, registered="2000-01-01 00:00:00 UTC", began=(), ended={}, trained=())
    assert early.standing(moved).endswith("before training")
    between = replace(early, registered="2001-01-01 01:00:00 UTC")
    assert between.standing(moved).endswith("after training had begun")
    assert registration.registered_for(moved) == []
    (found,) = registration.registered_for(moved, [run.path.parent])
    assert found.standing(moved).endswith(said)


def test_another_run_that_has_the_name_of_one_that_was_trained_then_is_judged_alone(run, file):
    run.file("run.json").write_text("{}", encoding="utf-8")
    entry = registration.register(file, run.path.parent)
    other = Run(run.path, replace(run.config, seed=7))
    run.file("run.json").unlink()
    assert entry.standing(other).endswith("before training")
    assert "after the run ended" in entry.standing(run)


def test_what_was_registered_in_a_plan_is_found_for_a_run_that_lies_elsewhere_since(
    run, file, tmp_path, capsys
):
    plan = run.path.parent
    registration.register(file, plan)
    moved = tmp_path / "elsewhere" / "two"
    shutil.copytree(run.path, moved)
    with pytest.raises(SystemExit):
        expected.main(["--run", str(moved)])
    assert "name the folder in which it was with --registered-in" in capsys.readouterr().err
    for given in ([], [str(file)]):
        expected.main([*given, "--run", str(moved), "--registered-in", str(plan)])
        assert "before training)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        expected.main(["--run", str(moved), "--registered-in", str(tmp_path)])
    assert "no hypotheses were registered there" in capsys.readouterr().err


def test_a_link_to_a_run_in_a_plan_is_judged_by_what_was_registered_there(run, file, tmp_path):
    plan = tmp_path / "other plan"
    plan.mkdir()
    (plan / "linked").symlink_to(run.path)
    registration.register(file, plan)
    (found,) = registration.registered_for(Run(plan / "linked", run.config))
    assert found.standing(run).endswith("before training")


def test_the_step_before_training_is_no_trace_of_it(run, file):
    start = run.folder("projector") / "step-000000.safetensors"
    start.write_bytes(b"")
    os.utime(start, (1e9, 1e9))
    entry = registration.register(file, run.path)
    assert (entry.began, entry.trained) == ((), ())
    assert entry.standing(run).endswith("before training")


def test_the_report_marks_what_holds_and_what_fails():
    verdicts = [Judged(hypothesis(), outcome, "because") for outcome in (HOLDS, FAILS, UNDECIDED)]
    page = template().render(expected=verdicts)
    classes = dict(re.findall(r'<td class="(\w*)">(holds|fails|undecided)<', page))
    assert classes == {"right": HOLDS, "wrong": FAILS, "": UNDECIDED}


def test_a_file_that_has_changed_is_refused_and_verdicts_are_of_what_was_registered(run, file, capsys):
    expected.main([str(file), "--register", str(run.path.parent)])
    assert "registered 20" in capsys.readouterr().out
    file.write_text(ONE.replace("0.1", "0.01"), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        expected.main([str(file), "--run", str(run.path)])
    assert end.value.code == 2
    assert "has changed at line 7 since it was registered" in capsys.readouterr().err
    table = pd.DataFrame([row(0.05, 0.3)])
    (one,) = judged.of_registered([run], {"behaviour": table})
    assert (one.outcome, one.hypothesis.bounds) == (UNDECIDED, (0.1,))
    assert one.standing.endswith("before training")
    (one,) = judged.of_registered([run], {"behaviour": table.assign(contrast="other")})
    assert (one.outcome, "no contrast 'a_minus_b'" in one.because) == (UNDECIDED, True)
    assert one.because.startswith("no contrast")
    (one,) = judged.of_registered([run])
    assert "has no table behaviour; `python -m analyses.behaviour" in one.because


def test_a_registration_that_was_edited_is_refused(run, file):
    registration.register(file, run.path)
    path = run.file(registration.FILE)
    path.write_text(path.read_text(encoding="utf-8").replace("0.1", "0.0"), encoding="utf-8")
    with pytest.raises(OSError, match="is damaged"):
        registration.registered(run.path)


def test_nothing_registered_and_nothing_given_are_refused(run, file, capsys):
    for words in (["--run", str(run.path)], [], [str(file)], ["--register", str(run.path)]):
        with pytest.raises(SystemExit):
            expected.main(words)
        assert len(capsys.readouterr().err.splitlines()) == 1
    expected.main([str(file), "--run", str(run.path)])
    assert "(never registered)" in capsys.readouterr().out
