"""The plans that travel with the project: they are read, as large as they say, and their lists are nested."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analyses.study import asking
from taxogen.questions import ablation
from taxogen.runs.prepare import taxonomy_of
from taxogen.stages.sweeping import plan_file

EXAMPLES = Path(__file__).parents[4] / "examples"


def read(name):
    return plan_file.read(EXAMPLES / f"{name}.toml", check=asking.check)


@pytest.fixture(scope="module")
def taxonomy():
    return taxonomy_of(next(iter(read("study-embedded").runs.values())).data)


@pytest.mark.parametrize(("name", "least", "hours"), [("study-embedded", 90, 6), ("study-yes-no", 24, 3)])
def test_a_plan_is_as_large_as_it_says_on_two_cores(name, least, hours):
    plan = read(name)
    assert len(plan.runs) >= least
    assert set(plan.seconds) == set(plan.stages)
    assert len(plan.runs) * sum(plan.seconds.values()) / 2 <= hours * 3600
    assert plan.equivalence == {"auroc": 0.03}
    assert {run.seed for run in plan.runs.values()} == {0, 1, 2}


def test_lists_of_the_systematic_ablation_are_nested_and_of_the_stated_lengths(taxonomy):
    plan = read("study-embedded")
    for seed in (0, 1, 2):
        lists = [
            set(ablation.plan(taxonomy, "systematic", fraction=run.data.fraction, seed=seed).hypernyms)
            for run in plan.runs.values()
            if run.data.ablation == "systematic" and run.seed == seed and run.model.init == "pretrained"
        ]
        assert [len(one) for one in lists] == [3, 10, 17, 24, 31]
        assert all(shorter < longer for shorter, longer in itertools.pairwise(lists))


def test_random_at_one_removes_what_full_does(taxonomy):
    for seed in (0, 1):
        full = ablation.plan(taxonomy, "full", seed=seed)
        random = ablation.plan(taxonomy, "random", fraction=1.0, seed=seed)
        np.testing.assert_array_equal(full.pairs & full.true, random.pairs & random.true)
        assert full.hypernyms == random.hypernyms


def test_the_second_family_has_the_main_contrasts_of_the_study_with_another_language_model():
    second, study = read("second-family").runs, read("study-embedded").runs
    assert len(second) == 4
    for run in second.values():
        assert run.model.lm.endswith(".gguf")
        lm, name = study["study-full-pretrained-0"].model.lm, run.name.replace("gemma", "study")
        same = replace(run, name=name, model=replace(run.model, lm=lm))
        assert same in study.values()
