"""Runs of a plan that stored tables have: by name and config, as evaluated now, and with every answer."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from taxogen.runs import config
from taxogen.stages.sweeping import stored
from taxogen.stages.sweeping.plan_file import Group, PlanFile

RUN = config.from_flat({"name": "toy-full-0"})
PLAN = PlanFile("toy", {RUN.name: RUN}, {"full": Group("", {RUN.name: "full"})}, {"layer-probes": {}})


def write(folder, run=RUN, name=RUN.name, analyses=("layer_probes",)):
    written = json.dumps(run.to_dict())
    pd.DataFrame([{"run": name, "hash": run.hash, "config": written}]).to_parquet(folder / stored.RUNS)
    rows = [{"run": name, "analysis": analysis} for analysis in analyses]
    pd.DataFrame(rows, columns=["run", "analysis"]).to_parquet(folder / stored.NUMBERS)


def test_a_run_with_all_that_the_plan_asks_is_stored(tmp_path):
    assert stored.names(tmp_path, PLAN) == frozenset()
    write(tmp_path)
    assert stored.names(tmp_path, PLAN) == {RUN.name}
    assert stored.names(tmp_path, replace(PLAN, questions={})) == {RUN.name}


@pytest.mark.parametrize(
    "rows",
    [
        {"name": "zoo-full-0"},
        {"analyses": ()},
        {"analyses": ("cohesion",)},
        {"run": replace(RUN, seed=1)},
        {"run": replace(RUN, evaluate=replace(RUN.evaluate, leaf_choices=10))},
        {"run": replace(RUN, evaluate=replace(RUN.evaluate, pictures_per_leaf=1))},
    ],
)
def test_a_run_of_another_name_config_evaluation_or_without_an_answer_is_not(tmp_path, rows):
    write(tmp_path, **rows)
    assert stored.names(tmp_path, PLAN) == frozenset()
