"""Conditions of shuffles: how they are named, and which of them are contrasted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analyses.inputs.conditions import Condition, condition_of, contrasted, shuffle_of
from taxogen.runs import config
from taxogen.runs.run import Run

SETTINGS = (
    (),
    ("data.shuffle=within",),
    ("data.shuffle=category",),
    ("data.shuffle=across",),
    ("data.shuffle=across-plain",),
    ("data.shuffle=across-matched",),
    ("data.shuffle=graded", "data.coherence=.75"),
    ("data.shuffle=graded",),
    ("data.shuffle=graded", "data.coherence=.125", "model.init=random"),
)
RUNS = [Run(Path(str(place)), config.read(None, own)) for place, own in enumerate(SETTINGS)]


def conditions():
    """A condition of one seed for each run, without its scores."""
    common = {"encoder": "e", "lm": "l", "evidence": "", "other": ""}
    stub: Any = (SimpleNamespace(seed=0),)
    return [
        Condition(
            condition_of(run, RUNS),
            {**common, "init": run.config.model.init, "shuffle": shuffle_of(run)},
            stub,
        )
        for run in RUNS
    ]


def test_a_shuffle_is_named_with_its_dose():
    assert [one.name for one in conditions()] == [
        *("pretrained", "within", "category", "across", "across-plain", "across-matched"),
        *("graded .75", "graded .5", "random_init graded .125"),
    ]


def test_shuffles_are_contrasted_with_what_keeps_less():
    assert {f"{first.name} − {second.name}" for first, second in contrasted(conditions())} == {
        "pretrained − category",
        "within − category",
        "within − across",
        "within − across-plain",
        "within − across-matched",
        "category − across",
        "graded .75 − across",
        "graded .5 − across",
    }


@pytest.mark.parametrize(
    ("settings", "value", "close"),
    [(("data.shuffle=graded", "data.coherence={}"), 1 / 3, 0.33333334),
     (("data.ablation=random", "data.fraction={}"), 0.2, 0.20000001)],
)  # fmt: skip
def test_shares_that_differ_in_a_late_digit_are_two_conditions(settings, value, close):
    runs = [
        Run(Path("a"), config.read(None, [one.format(share) for one in settings])) for share in (value, close)
    ]
    assert len({condition_of(run, runs) for run in runs}) == len({run.config.hash for run in runs}) == 2


def test_a_gguf_file_is_one_model_at_every_path_and_two_files_are_two():
    def run(path, revision):
        stub: Any = SimpleNamespace(
            config=config.read(None, [f"model.lm={path}"]), record={"lm": {"revision": revision}}
        )
        return stub

    runs = [run("a/x.gguf", "gguf 1"), run("b/y.GGUF", "gguf 1"), run("a/x.gguf", "gguf 2")]
    assert len({condition_of(one, runs[:2]) for one in runs[:2]}) == 1
    assert [condition_of(one, runs) for one in runs] == [f"pretrained · gguf {n}" for n in (1, 1, 2)]
