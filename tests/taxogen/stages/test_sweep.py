"""The grid of a sweep: every combination is a config with a name of its own, or nothing starts."""

import pytest

from taxogen.__main__ import main
from taxogen.runs import prepare
from taxogen.runs.config import from_flat
from taxogen.runs.names import plain_name
from taxogen.runs.run import Run
from taxogen.stages import sweep
from taxogen.stages.sweeping.plan_file import PlanFile
from tests.taxogen.runs.refusals import refusal


def test_every_combination_has_a_plain_name_and_its_settings():
    base = {"name": "f", "data.ablation": "random"}
    configs = sweep.grid(base, ["seed=0,1", "data.fraction=0,.5,1", "data.pictures=/some where/ö"])
    assert list(configs)[:2] == [f"f_seed-0_fraction-{part}_pictures-_some_where__" for part in ("0", ".5")]
    assert [one.data.fraction for one in configs.values()] == [0, 0.5, 1] * 2
    assert all(plain_name(name, "name") == one.name for name, one in configs.items())


@pytest.mark.parametrize(
    ("base", "varied", "message"),
    [
        (
            {},
            ["data.fraction=0,.5,1"],
            "'data.fraction' counts only with data.ablation=random, or systematic",
        ),
        ({}, ["data.shuffle=none,sideways"], "data.shuffle 'sideways' was asked for; known: none, within"),
        ({}, ["seed=0,-1"], "'seed' takes a whole number of at least 0, found -1"),
        ({}, ["seed=0,one"], "'seed' takes a whole number of at least 0, found 'one'"),
        ({}, ["seeds=0,1"], "config key 'seeds' is not known; did you mean 'seed'?"),
        ({}, ["evaluate.draws=5,6"], "config key 'evaluate.draws' is retired"),
        ({}, ["seed=0,1", "seed=2"], "--vary 'seed=2': it is varied twice; give every other key once"),
        ({}, ["name=a,b"], "--vary 'name=a,b': a run's name follows from what is varied"),
        ({}, ["data.pictures=a b,a_b"], "two runs of the sweep would be called sweep_pictures-a_b"),
        ({}, [f"data.pictures={'x' * 200}"], "'name' takes a name of at most 128 of the characters"),
        ({"name": "../up"}, ["seed=0,1"], "'name' takes a name of at most 128 of the characters"),
    ],
)
def test_a_sweep_without_sense_is_refused_before_anything_starts(base, varied, message):
    assert message in refusal(sweep.grid, base, varied)


def test_a_dry_run_without_a_plan_says_how_much_there_is_to_do_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "runs"
    assert main(["sweep", "--vary", "seed=0,1", "--dry-run", "--out", str(out), "--set", "name=f"]) == 0
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("f: 2 runs of 2 stages (train, evaluate): 0 of 4 stages done, 4 left")
    assert not out.exists()


NEVER = {
    "data.shuffle=graded data.coherence=.0001": (2, "run f_seed-1: data.coherence=0.0001 leaves 0 of 40"),
    "data.ablation=random data.fraction=.0001": (
        2,
        "run f_seed-1: a random ablation of a fraction of 0.0001 removes nothing",
    ),
    "data.ablation=systematic data.fraction=.001": (
        2,
        "run f_seed-1: a systematic ablation of a fraction of 0.001 removes nothing",
    ),
    "data.held_out=no-such data.ablation=systematic": (2, "run f_seed-1: data.held_out names unknown"),
    "model.projector=spline": (2, "run f_seed-1: model.projector 'spline'"),
    "capture.at=0,900": (2, "run f_seed-1: capture.at names step 900"),
    "evaluate.leaf_choices=50": (2, "run f_seed-1: evaluate.leaf_choices=50"),
    "model.encoder_tokens=7": (2, "run f_seed-1: "),
    "model.encoder=./nowhere": (
        0,
        "this machine lacks something: run f_seed-1: The image encoder './nowhere'",
    ),
    "model.lm=nowhere.gguf": (
        0,
        "this machine lacks something: run f_seed-1: The language model 'nowhere.gguf'",
    ),
    "data.pictures=nowhere": (0, "this machine lacks something: run f_seed-1: No pictures called 'nowhere'"),
}


def _two(tmp_path, settings: str) -> dict[str, Run]:
    second = dict(one.split("=") for one in settings.split())
    base = {"data.leaves": "40", "data.pictures_per_leaf": "4"}
    flat = {"f_seed-0": base, "f_seed-1": {**base, **second, "seed": "1"}}
    return {name: Run.create(tmp_path / name, from_flat({**one, "name": name})) for name, one in flat.items()}


@pytest.mark.parametrize("settings", NEVER)
def test_what_one_run_is_refused_for_starts_no_other(settings, tmp_path, capsys, monkeypatch):
    code, message = NEVER[settings]
    runs = _two(tmp_path, settings)
    plan = PlanFile("f", {name: run.config for name, run in runs.items()}, {})
    with pytest.raises((ValueError, OSError)) as caught:
        sweep.sweep(plan, tmp_path)
    assert message.removeprefix("this machine lacks something: ") in str(caught.value)
    assert not list(tmp_path.iterdir())
    if not code:
        sweep.require_preparable(runs, here=False)  # other machines may have it


def test_worlds_are_made_once_for_all_runs_that_share_them_and_never_for_prepared_ones(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(prepare, "shown", lambda *given: made.append(given) or pytest.fail("a second world"))
    runs = _two(tmp_path, "")
    monkeypatch.setattr(Run, "closed", property(lambda run: True))
    sweep.require_preparable(runs)
    assert not made
