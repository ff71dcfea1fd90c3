"""What scores and contrasts rest on: the pairs of both sides, each run once, and the seeds of every group."""

from dataclasses import replace

import numpy as np
import pytest

from analyses.study.estimates import Study
from taxogen.stages.sweeping import plan_file
from tests.analyses.study.planted import planted

DRAWS = 40


def study_of(folder, text, change=lambda tables: tables, strength=lambda config: 1.0):
    (folder / "plan.toml").write_text(f'name = "toy"\n{text}')
    return Study.of(change(planted(plan_file.read(folder / "plan.toml"), strength)), "toy", DRAWS)


@pytest.mark.parametrize(("level", "removed"), [(0.2, "random"), (0.5, "random"), (0.6, "systematic")])
def test_equal_readouts_at_two_levels_differ_by_nothing(tmp_path, level, removed):
    text = 'seeds = [0, 1]\n[groups.random.cases]\none = { data.ablation = "full" }\n'
    text += f'part = {{ data.ablation = "{removed}", data.fraction = {level} }}\n'

    def equal(tables):
        pictures = tables.pictures.set_index(["run", "picture"])["ranks"]
        source = tables.pictures["run"].str.replace("part", "one")
        ranks = [pictures[run, picture] for run, picture in zip(source, tables.pictures["picture"])]
        return replace(tables, pictures=tables.pictures.assign(ranks=ranks))

    study = study_of(tmp_path, text, equal)
    for pair in (("toy-random-one", "toy-random-part"), ("toy-random-part", "toy-random-one")):
        found = study.contrast(*pair, "auroc")
        assert found is not None
        assert (found["value"], found["lower"], found["upper"]) == (0, 0, 0)
    scored = [one.removal.scored for one in study.conditions["toy-random-part"].answers]
    assert found["n"] == np.logical_or.reduce(scored).any(axis=1).sum()


def test_seeds_that_two_groups_share_out_are_one_condition(tmp_path):
    text = """seeds = [0, 1, 2]
[groups.full]
seeds = [0]
vary.model.init = ["pretrained"]
[groups.encoder]
seeds = [0, 1]
cases.one = {}
[groups.shuffle.cases]
none = {}
across = { data.shuffle = "across" }
"""
    study = study_of(tmp_path, text)
    members = study.members("shuffle")
    found = study.contrast(members["none"], members["across"], "auroc")
    assert found is not None
    assert found["seeds"] == "0,1,2"
    assert study.members("full")["pretrained"] == study.members("encoder")["one"] == members["none"]


def test_a_run_in_two_groups_counts_once_in_the_share_that_was_removed(tmp_path):
    text = (
        'seeds = [0, 1, 2]\n[groups.full]\nvary.model.init = ["pretrained"]\n[groups.shuffle]\nseeds = [0]\n'
    )

    def lost(tables):
        share = np.where(tables.runs["run"].str.endswith("-0"), 0.0, 1.0)
        return replace(tables, runs=tables.runs.assign(effective=share, coherence=share))

    scores = study_of(tmp_path, text + "cases.none = {}\n", lost).scores()
    np.testing.assert_allclose(scores[["effective", "coherence"]], 2 / 3)
