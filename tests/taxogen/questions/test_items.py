import pandas as pd
import pytest

from taxogen.questions import items
from taxogen.questions.negatives import RULES
from taxogen.world import shuffle
from taxogen.world.taxonomy import Taxonomy

YES_NO = {"leaf": ("is_there_leaf",), "hypernym": ("is_there",)}
KINDS = {
    "bird": ("crow", "duck", "owl", "robin"),
    "beast": ("cat", "cow", "dog", "fox"),
    "fruit": ("apple", "fig", "lime", "pear"),
}
ABOVE = (("bird", "animal"), ("beast", "animal"), ("fruit", "food"))
ZOO = Taxonomy((*ABOVE, *((leaf, kind) for kind, leaves in KINDS.items() for leaf in leaves)))


def pictures(taxonomy, per_leaf=5, split="train"):
    rows = [(f"{leaf}/{number}.png", leaf, split) for leaf in taxonomy.leaves for number in range(per_leaf)]
    return pd.DataFrame(rows, columns=["picture", "leaf", "split"])


def frame(manifest, **equals):
    return manifest.where(**equals).frame.astype(str)


def test_completions_ask_each_picture_for_its_leaf_and_all_its_hypernyms(toy_taxonomy):
    made = items.training_items(pictures(toy_taxonomy), toy_taxonomy)
    leaf, hypernym = (frame(made, task=task) for task in ("leaf", "hypernym"))
    assert len(leaf) == 5 * 11
    assert (leaf["answer"] == leaf["leaf"]).all()
    assert len(hypernym) == 5 * 12
    assert set(hypernym.loc[hypernym["leaf"] == "tomato", "answer"]) == {"fruit", "vegetable"}
    assert set(made.frame["modality"]) == {"image"}


def test_every_chosen_template_is_asked(toy_taxonomy):
    made = items.training_items(
        pictures(toy_taxonomy), toy_taxonomy, tasks=("leaf",), prompts={"leaf": ("called", "known_as")}
    )
    assert made.frame["prompt"].value_counts().to_dict() == {"called": 55, "known_as": 55}


def test_only_the_pictures_of_the_split_are_asked(toy_taxonomy):
    table = pd.concat(
        [
            pictures(toy_taxonomy),
            pictures(toy_taxonomy, 2, "test").assign(picture=lambda t: "t" + t["picture"]),
        ]
    )
    assert set(frame(items.training_items(table, toy_taxonomy))["picture"].str[0]) >= {"c", "d"}
    tested = frame(items.evaluation_items(table, toy_taxonomy), modality="image")
    assert tested["picture"].str.startswith("t").all()


def test_a_shuffled_world_answers_by_the_name_not_by_the_sight():
    table = shuffle.relabel(pictures(ZOO), shuffle.leaf_map(ZOO, "across-plain", seed=3))
    made = frame(items.training_items(table, ZOO))
    assert (made["shown_leaf"] != made["leaf"]).all()
    told = made[made["task"] == "hypernym"]
    assert all(name in ZOO.hypernyms_of(leaf) for leaf, name in zip(told["leaf"], told["answer"]))


@pytest.mark.parametrize("rule", RULES)
def test_negatives_are_false_and_positives_are_true(rule):
    made = items.training_items(pictures(ZOO), ZOO, prompts=YES_NO, negatives=rule)
    asked = frame(made, task="hypernym")
    truth = [name in ZOO.hypernyms_of(leaf) for leaf, name in zip(asked["leaf"], asked["hypernym"])]
    assert (asked["answer"] == pd.Series(truth, index=asked.index).map({True: "Yes", False: "No"})).all()
    leaf = frame(made, task="leaf")
    assert ((leaf["asked"] == leaf["leaf"]) == (leaf["answer"] == "Yes")).all()
    assert (leaf["answer"].value_counts() == 60).all()


@pytest.mark.parametrize("rule", ["random", "hard"])
def test_yes_and_no_are_balanced_per_hypernym(rule):
    asked = frame(items.training_items(pictures(ZOO), ZOO, prompts=YES_NO, negatives=rule), task="hypernym")
    table = asked.groupby(["hypernym", "answer"]).size().unstack()
    assert (table["Yes"] == table["No"]).all()
    assert table["Yes"].to_dict() == {"animal": 20, "beast": 20, "bird": 20, "food": 20, "fruit": 20}


def test_the_study_balances_over_all_but_not_per_hypernym():
    asked = frame(
        items.training_items(pictures(ZOO), ZOO, prompts=YES_NO, negatives="study"), task="hypernym"
    )
    assert asked["answer"].value_counts().to_dict() == {"Yes": 120, "No": 120}
    table = asked.groupby(["hypernym", "answer"]).size().unstack()
    assert table.loc["animal", "Yes"] > table.loc["animal", "No"]
    per_picture = asked.groupby(["picture", "answer"]).size().unstack()
    assert (per_picture["Yes"] == per_picture["No"]).all()


def test_hard_negatives_are_siblings_first():
    made = frame(items.training_items(pictures(ZOO), ZOO, prompts=YES_NO, negatives="hard"), task="hypernym")
    no = made[made["answer"] == "No"]
    assert set(no.loc[no["hypernym"] == "bird", "leaf"]) == set(ZOO.leaves_of("beast"))
    assert set(no.loc[no["hypernym"] == "beast", "leaf"]) == set(ZOO.leaves_of("bird"))
    leaf = frame(
        items.training_items(pictures(ZOO), ZOO, prompts=YES_NO, negatives="hard"),
        task="leaf",
        answer="No",
    )
    assert all(
        ZOO.hypernyms_of(one) == ZOO.hypernyms_of(two) for one, two in zip(leaf["leaf"], leaf["asked"])
    )


def test_evaluation_rows_are_open_for_completions_and_exhaustive_for_yes_no():
    table = pictures(ZOO, 2, "test")
    opened = items.evaluation_items(table, ZOO, tasks=("hypernym",))
    assert len(opened.where(modality="image")) == 24
    assert set(opened.frame["hypernym"]) == {""}
    twins = frame(opened, modality="text")
    assert twins["leaf"].tolist() == list(ZOO.leaves)
    assert set(twins["picture"]) == {""}
    every = items.evaluation_items(table, ZOO, tasks=("hypernym",), exhaustive=True)
    assert len(every.where(modality="image")) == 24 * 5
    asked = frame(items.evaluation_items(table, ZOO, prompts=YES_NO), task="hypernym", modality="image")
    assert len(asked) == 24 * 5
    yes = asked[asked["answer"] == "Yes"]
    assert len(yes) == 48
    assert all(name in ZOO.hypernyms_of(leaf) for leaf, name in zip(yes["leaf"], yes["hypernym"]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tasks": ("colour",)}, KeyError, "task 'colour' was asked for; known: leaf, hypernym"),
        ({"prompts": {"leaf": ("kind",)}}, KeyError, "prompt 'kind' asks for a hypernym, not for a leaf"),
        ({"prompts": {"leaf": ("name",)}}, KeyError, "prompt 'name' was asked for; known"),
        ({"split": "validation"}, ValueError, r"no picture is in split 'validation'; it holds \['train'\]"),
        ({"prompts": YES_NO, "negatives": "odd"}, KeyError, "known: random, hard, study"),
    ],
)
def test_bad_requests_are_refused(change, error, message, toy_taxonomy):
    with pytest.raises(error, match=message):
        items.training_items(pictures(toy_taxonomy), toy_taxonomy, **change)


def test_bad_tables_are_refused(toy_taxonomy):
    with pytest.raises(KeyError, match=r"no column \['split'\]; make it with split_pictures"):
        items.training_items(pictures(toy_taxonomy).drop(columns="split"), toy_taxonomy)
    strange = pictures(toy_taxonomy).replace({"leaf": {"crow": "dodo"}})
    with pytest.raises(KeyError, match=r"1 leaves have pictures but are not in the taxonomy: \['dodo'\]"):
        items.training_items(strange, toy_taxonomy)
    with pytest.raises(KeyError, match="modality 'sound' was asked for; known: image, text"):
        items.evaluation_items(pictures(toy_taxonomy, split="test"), toy_taxonomy, modalities=["sound"])
