"""A whole plan: its work is the sum over its runs, features once; time and losses are those of simulated machines."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taxogen.__main__ import main
from taxogen.stages import cards
from taxogen.stages.plan import plan as cost
from taxogen.stages.planning import counts, machines
from taxogen.stages.planning.census import Census
from taxogen.stages.planning.counts import Counts
from taxogen.stages.planning.machines import LOADED, SAVED, Machines
from taxogen.stages.planning.text import text
from taxogen.stages.planning.whole import whole
from taxogen.stages.sweeping import plan_file

THINGS = Path(__file__).parents[4] / "examples" / "study-things.toml"
PLAN = """
name = "small"
seeds = [0, 1]
[world]
leaves = 20
hypernyms = 4
pairs = 30
pictures = 200
[common]
data.pictures = "nowhere"
data.taxonomy = "nowhere.csv"
train.steps = 200
train.checkpoint_seconds = 5.0
[questions]
layer-probes = { span = ["cue"] }
[seconds]
layer-probes = 50
[groups.full]
vary.model.init = ["pretrained", "random"]
vary.model.lm = ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B"]
"""
WORLD = Counts(20, 4, 30, 200)


def fleet(count=1, each=2, between=math.inf, card="h100", price=None, start=None):
    return Machines(count, each, cards.card(card), between, 600.0, start, price)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(PLAN, encoding="utf-8")
    return path


@pytest.fixture
def file(path):
    return plan_file.read(path)


def test_work_and_disk_are_sums_over_runs_with_features_once(file):
    planned = whole(file, fleet(), Census(WORLD))
    each = {name: cost(run, cards.card("h100"), Census(WORLD)) for name, run in file.runs.items()}
    assert len(each) == 8
    kinds = planned.of_kind
    for stage in ("train", "evaluate"):
        assert kinds[stage] == pytest.approx(sum(run.seconds[stage] for run in each.values()), rel=1e-3)
    assert kinds["features"] == pytest.approx(next(iter(each.values())).seconds["features"])
    assert kinds["layer-probes"] == 8 * 50
    assert kinds["starts"] == pytest.approx(
        25 * np.mean([run.bytes["weights"] for run in each.values()]) / LOADED
    )
    assert planned.disk["captures"] == sum(run.disk["captures"] for run in each.values())
    assert planned.disk["features"] == next(iter(each.values())).disk["features"]
    assert "8b" in planned.largest
    assert planned.best_interval == math.inf or planned.best_interval > 0


def test_a_share_of_a_card_takes_as_many_times_longer_and_more_fit(file):
    shared = replace(file, resources={"gpus": 0.25})
    alone, quarter = (whole(one, fleet(each=1), Census(WORLD)) for one in (file, shared))
    name = "train small-full-pretrained-qwen_qwen3-8b-0"
    assert quarter.work[name] == pytest.approx(4 * alone.work[name])
    assert quarter.of_kind["layer-probes"] == alone.of_kind["layer-probes"], "on cores"
    assert (fleet(each=1).slots(0.25), fleet(each=8).slots(2.0)) == (4, 4)
    with pytest.raises(ValueError, match=r"a task takes 4 cards .* a machine has 2"):
        whole(replace(file, resources={"gpus": 4.0}), fleet(), Census(WORLD))


def test_one_slot_works_through_all_tasks_one_after_another(file):
    planned = whole(file, fleet(each=1, start=7.0), Census(WORLD))
    saved = sum(
        (math.ceil(seconds / planned.interval) - 1) * planned.checkpoint
        for task, seconds in planned.work.items()
        if task.startswith("train ")
    )
    hours, busy = planned.hours()
    assert hours * 3600 == pytest.approx(sum(planned.work.values()) + 7 * len(planned.tasks) + saved)
    assert busy == pytest.approx(1)
    learned = [run.learned for run in planned.costs.values()]
    assert min(learned) * 12 / SAVED < planned.checkpoint < max(learned) * 12 / SAVED


def test_what_waits_is_not_begun_before(file):
    """Many slots do not help a run whose stages wait for each other."""
    planned = whole(file, fleet(each=64, start=0.0), Census(WORLD))
    longest = max(
        sum(planned.work[f"{stage} {name}"] for stage in ("train", "evaluate", "layer-probes"))
        for name in file.runs
    )
    features = next(seconds for task, seconds in planned.work.items() if task.startswith("features"))
    assert planned.hours()[0] * 3600 >= features + longest - 1e-6
    assert planned.hours()[1] < 0.5


def test_deaths_lose_more_without_checkpoints_and_least_near_dalys_interval(file):
    long = {name: replace(run, train=replace(run.train, steps=400_000)) for name, run in file.runs.items()}
    planned = whole(replace(file, runs=long), fleet(each=1, between=3600.0), Census(WORLD))
    lost = {
        interval: planned.with_deaths(interval)[1]
        for interval in (planned.best_interval / 30, planned.best_interval, 30 * planned.best_interval)
    }
    assert min(lost, key=lambda interval: lost[interval]) == planned.best_interval
    calm = whole(replace(file, runs=long), fleet(each=1, between=3.6e8), Census(WORLD))
    assert calm.with_deaths(600.0)[1] < lost[planned.best_interval]


def test_the_command_prints_the_whole_plan(path, capsys):
    words = ["plan", str(path), "--machines", "2x4xh100", "--price", "2.5", "--between", "6"]
    assert main(words) == 0
    said = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in said.splitlines() if line and line[0] != " ")
    assert lines["plan"] == "small: 8 runs of 4 conditions, 25 tasks"
    assert lines["machines"].startswith("2 × 4 h100, 8 tasks at once")
    assert lines["world"] == "20 leaves under 4 hypernyms (30 pairs), 200 pictures, as stated"
    assert "of a machine every 6 h" in lines["deaths"]
    paid, price = (
        float(word.replace(",", "")) for word in (lines["cost"].split()[0], lines["cost"].split()[-4])
    )
    assert price == pytest.approx(2.5 * paid, abs=1)
    assert main([*words, "--world", "leaves=10,hypernyms=2,pairs=10,pictures=40"]) == 0
    assert "10 leaves under 2 hypernyms" in capsys.readouterr().out


def test_memory_that_a_card_lacks_is_said(file):
    small = replace(fleet(), card=replace(cards.card("t4"), memory=1e9))
    assert "too many of 1 for a task" in text(whole(file, small, Census(WORLD)))
    assert fleet(each=2, card="cpu").memory(1.0) == cards.card("cpu").memory / 2


def test_the_published_study_can_be_planned_without_its_pictures():
    file = plan_file.read(THINGS)
    world = counts.from_numbers(file.world, "[world]")
    assert len(file.runs) == 5 * 2 * 11 * 3 * 3 == 990
    assert len(set(file.conditions.values())) == 330
    few = [name for name in file.runs if name.endswith("none-7") and "-full-" in name]
    assert len(few) == 10
    planned = whole(replace(file, runs={name: file.runs[name] for name in few}), fleet(), Census(world))
    assert len({run.counted.items for run in planned.costs.values()}) == 1
    assert planned.disk["features"] == pytest.approx(17208 * 4 * (256 * 1024 + 729 * 1152))
    assert "qwen3-8b" in planned.largest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--machines", "8 h100"), "--machines '8 h100': write 8xh100"),
        (("--machines", "0xh100"), "--machines '0xh100'"),
        (("--machines", "8xb300"), "card 'b300' was asked for; known: h100"),
        (("--card", "h100"), "--card was given beside the plan"),
        (("--vary", "seed=0,1"), "--vary was given beside the plan"),
        (("--between", "0"), "--between 0: give a number above 0"),
        (("--price", "-1"), "--price -1: give a number above 0"),
        (("--world", "leaves=ten"), "--world 'leaves=ten' states leaves, hypernyms"),
        (
            ("--set", "model.encoder=nobody/knows"),
            "small-full-pretrained-qwen_qwen3-0.6b-0: the image encoder",
        ),
    ],
)
def test_what_cannot_be_planned_is_one_line(path, words, message, caplog):
    assert main(["plan", str(path), *words]) == 2
    (refusal,) = [record.getMessage() for record in caplog.records if record.name == "taxogen"]
    assert message in refusal
    assert "\n" not in refusal


def test_flags_of_a_plan_without_one_are_refused(caplog):
    assert main(["plan", "--machines", "8xh100"]) == 2
    assert "--machines was given without a plan file" in caplog.text


def test_machines_are_read_as_they_are_spelled():
    assert machines.parse("8xH100")[:2] == (1, 8)
    assert machines.parse("4x8xh100")[:2] == (4, 8)
    assert machines.parse("t4")[:2] == (1, 1)
    assert machines.parse("3xcpu")[:2] == (1, 3)


def test_growth_has_a_row_for_each_value(capsys):
    world = "leaves=20,hypernyms=4,pairs=30,pictures=200"
    words = ["plan", "--preset", "study-qwen3-0.6b", "--card", "h100", "--world", world]
    varied = ["--vary", "world.pictures=200,400", "--vary", "model.lm=Qwen/Qwen3-0.6B,Qwen/Qwen3-8B"]
    assert main([*words, *varied]) == 0
    first, second = capsys.readouterr().out.strip().split("\n\n")
    rows = [line.split() for line in first.splitlines()]
    assert [row[0] for row in rows] == ["world.pictures", "200", "400"]
    assert int(rows[2][1]) == pytest.approx(2 * int(rows[1][1]), rel=0.1)
    assert [line.split()[0] for line in second.splitlines()] == [
        "model.lm",
        "Qwen/Qwen3-0.6B",
        "Qwen/Qwen3-8B",
    ]


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        ("world.leafs=3,4", "world.leaves, world.hypernyms"),
        ("world.pictures=3,a", "found 'a'"),
        ("seed", "KEY=A,B"),
    ],
)
def test_growth_along_nothing_is_refused(varied, message, caplog):
    world = "leaves=20,hypernyms=4,pairs=30,pictures=200"
    assert main(["plan", "--card", "h100", "--world", world, "--vary", varied]) == 2
    assert message in caplog.text
