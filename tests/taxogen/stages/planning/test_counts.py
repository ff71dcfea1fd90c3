"""Stated worlds: as large as stated, the same counts as the world that they state, and refused where none can be."""

from dataclasses import replace

import pytest

from taxogen.runs import config
from taxogen.runs.prepare import taxonomy_of
from taxogen.stages import cards, plan
from taxogen.stages.planning.census import Census
from taxogen.stages.planning.counts import Counts, from_numbers
from tests.world import toy_config, toy_folder

THINGS = Counts(1222, 53, 2040, 17208)


@pytest.fixture(scope="module")
def settings(tmp_path_factory, toy_lm):
    with toy_folder(tmp_path_factory.mktemp("counts"), toy_lm) as made:
        yield made


@pytest.mark.parametrize("counts", [THINGS, Counts(3, 1, 3, 6), Counts(5, 4, 20, 11)])
def test_a_world_is_as_large_as_stated(counts):
    taxonomy, table = counts.taxonomy(), counts.table()
    assert (len(taxonomy.leaves), len(taxonomy.hypernyms)) == (counts.leaves, counts.hypernyms)
    assert taxonomy.labels(taxonomy.leaves).sum() == counts.pairs
    assert len(table) == counts.pictures == table["picture"].nunique()
    of_leaf = table["leaf"].value_counts()
    assert set(of_leaf.index) == set(taxonomy.leaves)
    assert of_leaf.max() - of_leaf.min() <= 1


@pytest.mark.parametrize("more", [(), ("data.task=yes_no", "data.ablation=none", "train.steps=0")])
def test_a_stated_world_asks_as_many_questions_as_the_real_one(settings, more):
    wanted = toy_config(settings, *more)
    real = plan.plan(wanted, cards.card("h100")).counted
    taxonomy = taxonomy_of(wanted.data)
    leaves, pairs = len(taxonomy.leaves), int(taxonomy.labels(taxonomy.leaves).sum())
    counts = Counts(leaves, len(taxonomy.hypernyms), pairs, real.pictures)
    stated = plan.plan(wanted, cards.card("h100"), Census(counts)).counted
    whole = {"abs": pairs}  # pictures of a leaf are cut to whole ones, and one leaf has twice as many
    assert stated.items == pytest.approx(real.items, **whole)
    assert stated.asked == pytest.approx(real.asked, **whole)
    assert stated.steps == pytest.approx(real.steps, abs=2)
    assert stated.scoring[1] == pytest.approx(real.scoring[1], abs=leaves)
    assert stated.text.rows == real.text.rows
    assert stated.estimated
    assert not real.estimated


def test_a_stated_world_needs_neither_pictures_nor_a_taxonomy():
    wanted = config.read(None, ["data.pictures=nowhere", "data.taxonomy=nowhere.csv"])
    counted = Census(Counts(40, 5, 60, 400)).count(wanted)
    assert counted.pictures == 400
    assert counted.items == 280, (
        "70 % of the pictures, asked for their leaf alone: no hypernym evidence is left"
    )


def test_runs_that_ask_the_same_are_counted_once():
    census = Census(Counts(40, 5, 60, 400))
    wanted = config.read(None, ["data.pictures=nowhere"])
    counted = census.count(wanted)
    other = replace(wanted, model=replace(wanted.model, lm="Qwen/Qwen3-0.6B"))
    assert census.count(other) is counted, "names are invented: no tokenizer reads them"
    assert census.count(replace(wanted, seed=1)) is not counted


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"leaves": 10, "hypernyms": 3, "pairs": 12}, "states leaves, hypernyms, pairs, pictures as whole"),
        (
            {"leaves": 10, "hypernyms": 3, "pairs": 12.5, "pictures": 30},
            "found leaves=10, hypernyms=3, pairs=12.5",
        ),
        ({"leaves": 10, "hypernyms": 11, "pairs": 12, "pictures": 30}, "a leaf for each"),
        ({"leaves": 10, "hypernyms": 3, "pairs": 9, "pictures": 30}, "pairs lie between 10 and 30"),
        ({"leaves": 10, "hypernyms": 3, "pairs": 31, "pictures": 30}, "pairs lie between 10 and 30"),
        ({"leaves": 10, "hypernyms": 3, "pairs": 12, "pictures": 19}, "at least 2 pictures"),
    ],
)
def test_a_world_that_cannot_be_is_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        from_numbers(numbers, "--world")
