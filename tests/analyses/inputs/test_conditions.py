"""Conditions of shuffles: how they are named, and which of them are contrasted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
        "within − category",
        "within − across",
        "within − across-plain",
        "within − across-matched",
        "category − across",
        "graded .75 − across",
        "graded .5 − across",
    }
