"""What is done of a sweep's runs: what their files answer now; and one run that fails leaves the others alone."""

from dataclasses import replace

import pytest

from taxogen.answers.scores import Scores
from taxogen.runs.run import Run
from taxogen.stages import pipeline, sweep
from taxogen.stages.sweeping.plan_file import Group, PlanFile
from taxogen.stages.sweeping.run_stages import remaining
from taxogen.stages.sweeping.sweep_table import TABLE
from tests.world import toy_config, toy_folder

NAMES = ("one", "other")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, toy_lm):
    """A plan of two runs, and the folder that has them."""
    folder = tmp_path_factory.mktemp("swept")
    more = ("train.steps=1", "capture.at=last", "capture.sites=hook_embed", "capture.spans=cue")
    with toy_folder(folder, toy_lm) as settings:
        runs = {name: toy_config(settings, *more, f"name={name}") for name in NAMES}
        plan = PlanFile("toy", runs, {"all": Group("", {name: name for name in NAMES})})
        assert states(plan, folder / "runs") == ["done", "done"]
        yield plan, folder / "runs"


def states(plan, out):
    return sweep.sweep(plan, out, jobs=1).table["state"].tolist()


def stages_left(plan, out):
    return [remaining(Run.create(out / name, run), plan.questions) for name, run in plan.runs.items()]


def test_a_run_is_scored_anew_where_another_evaluation_is_asked_for(swept):
    plan, out = swept
    run = plan.runs["one"]
    changed = replace(run, evaluate=replace(run.evaluate, leaf_choices=2))
    other = replace(plan, runs={**plan.runs, "one": changed})
    assert changed.hash == run.hash
    assert stages_left(other, out) == [("evaluate",), ()]
    assert states(other, out) == ["done", "done"]
    assert stages_left(other, out) == [(), ()]
    assert Scores.read(Run.open(out / "one")).leaf_choices == 2
    assert states(plan, out) == ["done", "done"]


@pytest.mark.parametrize("file", ["scores.h5", "baselines.h5"])
def test_a_damaged_file_of_scores_is_made_again(swept, file):
    plan, out = swept
    path = out / "one" / file
    path.write_bytes(path.read_bytes()[:100])
    assert stages_left(plan, out) == [("evaluate",), ()]
    assert "toy: 2 runs of 2 stages (train, evaluate): 3 of 4 stages done" in sweep.listing(plan, out, 1)
    assert states(plan, out) == ["done", "done"]


def test_a_run_without_its_projector_says_so_and_the_other_goes_on(swept):
    plan, out = swept
    (path,) = (out / "one" / "projector").glob("*-000001.safetensors")
    projector = path.read_bytes()
    (out / "other" / "scores.h5").unlink()
    path.unlink()
    try:
        first, second = states(plan, out)
    finally:
        path.write_bytes(projector)
    assert first.startswith("failed: ")
    assert "no projector of step 1" in first
    assert second == "done"


def test_a_run_that_ends_by_any_error_says_so_and_the_other_goes_on(swept, monkeypatch):
    plan, out = swept
    evaluate, worked = pipeline.evaluate_run, []

    def failing(run):
        worked.append(run.name)
        if run.name == "one":
            raise RuntimeError("out of memory")
        return evaluate(run)

    for name in NAMES:
        (out / name / "baselines.h5").unlink()
    monkeypatch.setattr(pipeline, "evaluate_run", failing)
    assert states(plan, out) == ["failed: RuntimeError: out of memory", "done"]
    assert worked == list(NAMES)
    assert "failed: RuntimeError: out of memory" in (out / TABLE).read_text()
