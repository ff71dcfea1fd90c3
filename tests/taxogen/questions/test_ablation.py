import itertools

import numpy as np
import pandas as pd
import pytest

from taxogen.questions import ablation, items
from taxogen.questions.leaks import check_no_leak, check_no_pair
from taxogen.questions.manifest import Item, Manifest
from taxogen.world.taxonomy import Taxonomy

FRACTIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
YES_NO = {"leaf": ("is_there_leaf",), "hypernym": ("is_there",)}


def a_world(leaves_each=20):
    """Three levels: four kinds of 20 leaves, two by two under animal and food; every fifth bird is also food."""
    edges = []
    for kind, above in (("bird", "animal"), ("beast", "animal"), ("fruit", "food"), ("dish", "food")):
        for number in range(leaves_each):
            edges += [(f"{kind}{number}x", kind), (f"{kind}{number}x", above)]
            if kind == "bird" and number % 5 == 0:
                edges.append((f"{kind}{number}x", "food"))
    return Taxonomy(tuple(edges))


def a_train(taxonomy, prompts=items.PROMPTS, per_leaf=3, negatives="random"):
    rows = [(f"{leaf}/{number}.png", leaf, "train") for leaf in taxonomy.leaves for number in range(per_leaf)]
    table = pd.DataFrame(rows, columns=["picture", "leaf", "split"])
    return items.training_items(table, taxonomy, prompts=prompts, negatives=negatives)


def counts(manifest):
    frame = manifest.where(task="hypernym").frame.astype(str)
    return frame.groupby(["hypernym", "answer"]).size().unstack(fill_value=0)


WORLD = a_world()
TRUE = WORLD.labels(WORLD.leaves)


def test_none_and_full_are_the_ends():
    train = a_train(WORLD)
    assert ablation.ablate(train, WORLD).hash == train.hash
    full = ablation.ablate(train, WORLD, "full")
    assert set(full.frame["task"]) == {"leaf"}
    assert len(full) == len(train.where(task="leaf"))
    assert full.provenance[-1]["effective"] == 1.0
    assert ablation.plan(WORLD, "full").hypernyms == WORLD.hypernyms
    for rule in ("pair", "leaf"):
        nothing, everything = (
            ablation.plan(WORLD, "random", rule=rule, fraction=end).effective for end in (0, 1)
        )
        assert (nothing, everything) == (0.0, 1.0)


@pytest.mark.parametrize("rule", ["pair", "leaf"])
@pytest.mark.parametrize("seed", range(3))
def test_fractions_are_nested(rule, seed):
    plans = [
        ablation.plan(WORLD, "random", rule=rule, fraction=fraction, seed=seed) for fraction in FRACTIONS
    ]
    for smaller, larger in itertools.pairwise(plans):
        assert not (smaller.pairs & ~larger.pairs).any()


@pytest.mark.parametrize("prompts", [items.PROMPTS, YES_NO])
@pytest.mark.parametrize("rule", ["pair", "leaf"])
def test_training_items_are_nested_too(prompts, rule):
    train = a_train(WORLD, prompts)
    kept = [
        set(ablation.ablate(train, WORLD, "random", fraction=f, rule=rule).frame["item_id"])
        for f in FRACTIONS
    ]
    for more, less in itertools.pairwise(kept):
        assert less <= more


def test_rule_pair_takes_its_share_of_every_hypernym_and_nothing_else():
    plan = ablation.plan(WORLD, "random", fraction=0.3)
    drawn = (plan.pairs & TRUE).sum(0) / TRUE.sum(0)
    assert drawn == pytest.approx(0.3, abs=0.02)
    assert not (plan.pairs & ~TRUE).any()
    assert plan.effective == pytest.approx(0.3, abs=0.01)


def test_rule_leaf_is_the_study_code_and_removes_more_than_it_says():
    plan = ablation.plan(WORLD, "random", rule="leaf", fraction=0.3)
    assert plan.effective > 0.4
    rows = plan.pairs.any(1)
    assert (plan.pairs.all(1) == rows).all()
    tiny = Taxonomy((("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y")))
    assert len(ablation.plan(tiny, "random", rule="leaf", fraction=0.1).leaves) == 2


@pytest.mark.parametrize("negatives", ["random", "hard"])
def test_rule_pair_keeps_yes_and_no_balanced_per_hypernym(negatives):
    train = a_train(WORLD, YES_NO, negatives=negatives)
    for fraction in FRACTIONS[:-1]:
        kept = counts(ablation.ablate(train, WORLD, "random", fraction=fraction))
        assert (kept["Yes"] == kept["No"]).all()
    assert len(ablation.ablate(train, WORLD, "random", fraction=1.0).where(task="hypernym")) == 0


def test_effective_fractions_are_logged_and_true():
    train = a_train(WORLD, YES_NO)
    kept = ablation.ablate(train, WORLD, "random", fraction=0.5, rule="leaf", seed=4)
    step = kept.provenance[-1]
    before, after = (counts(manifest).sum(axis=1) for manifest in (train, kept))
    for name, share in step["effective_per_hypernym"].items():
        assert share == pytest.approx(1 - after[name] / before[name])
    assert step["effective"] == pytest.approx(1 - after.sum() / before.sum())
    assert {key: step[key] for key in ("operation", "kind", "rule", "fraction", "seed", "held_out")} == {
        "operation": "ablate",
        "kind": "random",
        "rule": "leaf",
        "fraction": 0.5,
        "seed": 4,
        "held_out": [],
    }


def test_holdout_removes_every_question_that_names_the_hypernym():
    train = a_train(WORLD, YES_NO)
    kept = ablation.ablate(train, WORLD, "systematic", held_out=["bird", "food"])
    assert set(kept.where(task="hypernym").frame["hypernym"]) == {"animal", "beast", "dish", "fruit"}
    others = train.where(hypernym=("animal", "beast", "dish", "fruit"))
    assert len(kept.where(task="hypernym")) == len(others)
    plan = ablation.plan(WORLD, "systematic", held_out=["bird", "food"])
    assert plan.hypernyms == ("bird", "food")
    assert plan.scored.any(0).tolist() == [name in ("bird", "food") for name in WORLD.hypernyms]
    assert plan.scored[:, WORLD.hypernyms.index("bird")].all()


def test_the_published_systematic_rule_leaves_the_listed_hypernyms_as_no_only():
    train = a_train(WORLD, YES_NO)
    kept = ablation.ablate(train, WORLD, "systematic", rule="leaf", held_out=["bird"])
    left = counts(kept)
    assert left.loc["bird", "Yes"] == 0
    assert left.loc["bird", "No"] > 0
    removed = ablation.plan(WORLD, "systematic", rule="leaf", held_out=["bird"]).leaves
    assert removed == WORLD.leaves_of("bird")
    assert not set(removed) & set(kept.where(task="hypernym").frame["leaf"])


def test_a_drawn_systematic_ablation_is_nested():
    held = [set(ablation.plan(WORLD, "systematic", fraction=f, seed=1).hypernyms) for f in FRACTIONS]
    assert [len(names) for names in held] == [0, 1, 2, 3, 5, 5, 6]
    assert all(smaller <= larger for smaller, larger in itertools.pairwise(held))


def test_what_is_scored_as_held_out_are_removed_pairs_against_all_false_ones():
    plan = ablation.plan(WORLD, "random", fraction=0.3)
    assert (plan.scored & TRUE == plan.pairs).all()
    assert (plan.scored & ~TRUE).sum() == (~TRUE).sum()
    assert not ablation.plan(WORLD).scored.any()
    assert ablation.plan(WORLD, "full").scored.all()


NAMED = Taxonomy((("bird (leaf)", "bird"), ("crow", "bird"), ("oak", "plant"), ("water_plant", "plant")))


def test_a_leaf_named_like_a_held_out_hypernym_goes_with_it():
    train = a_train(NAMED)
    kept = ablation.ablate(train, NAMED, "full")
    assert set(kept.frame["leaf"]) == {"crow", "oak"}
    assert kept.provenance[-1]["leaf_items_removed"] == 6
    study = ablation.ablate(train, NAMED, "full", rule="study")
    assert "bird (leaf)" in set(study.frame["leaf"])
    assert study.provenance[-1]["held_out"] == []
    with pytest.raises(ValueError, match="name a held-out hypernym"):
        check_no_leak(study, ["bird"])
    kept = ablation.ablate(train, NAMED, "systematic", held_out=["plant"])
    assert "bird (leaf)" in set(kept.frame["leaf"])


@pytest.mark.parametrize(
    "leak",
    [
        Item("hypernym", "oak/1.png", "oak", "oak", "bird", "No", "is_there", "image", "train"),
        Item(
            "leaf",
            "oak/1.png",
            "oak",
            "oak",
            "",
            "No",
            "is_there_leaf",
            "image",
            "train",
            asked="bird (leaf)",
        ),
        Item("leaf", "oak/1.png", "oak", "bird (leaf)", "", "bird (leaf)", "called", "image", "train"),
        Item("hypernym", "", "", "bird (leaf)", "plant", "plant", "kind", "text", "train"),
        Item("leaf", "oak/1.png", "oak", "Bird_feeder2", "", "Bird_feeder2", "called", "image", "train"),
    ],
)
def test_a_planted_leak_is_found(leak):
    clean = ablation.ablate(a_train(NAMED), NAMED, "systematic", held_out=["bird"])
    check_no_leak(clean, ["bird"])
    dirty = Manifest.from_items([*clean.items, leak])
    with pytest.raises(ValueError, match=f"1 training items name a held-out hypernym.*{leak.item_id}"):
        check_no_leak(dirty, ["bird"])
    check_no_leak(dirty, [])


def test_a_planted_pair_is_found():
    plan = ablation.plan(WORLD, "random", fraction=0.5, seed=2)
    clean = ablation.ablate(a_train(WORLD), WORLD, "random", fraction=0.5, seed=2)
    row, column = np.argwhere(plan.pairs)[7]
    pair = (WORLD.leaves[row], WORLD.hypernyms[column])
    check_no_pair(clean, [pair])
    leak = Item("hypernym", "new.png", pair[0], pair[0], pair[1], pair[1], "kind", "image", "train")
    with pytest.raises(ValueError, match=f"1 training items ask about a pair .*{leak.item_id}"):
        check_no_pair(Manifest.from_items([*clean.items, leak]), [pair])


def test_ablate_itself_refuses_what_its_plan_misses(monkeypatch):
    train = a_train(WORLD)
    keep_all = lambda self, frame: np.ones(len(frame), bool)  # noqa: E731
    monkeypatch.setattr(ablation.Removal, "keeps", keep_all)
    with pytest.raises(ValueError, match="name a held-out hypernym"):
        ablation.ablate(train, WORLD, "full")
    with pytest.raises(ValueError, match="pair whose evidence was removed"):
        ablation.ablate(train, WORLD, "random", fraction=0.5)


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("some", {}, KeyError, "ablation 'some' was asked for; known: none, full, random, systematic"),
        ("random", {"rule": "holdout"}, KeyError, "ablation 'random' has: pair, leaf"),
        ("random", {"fraction": 30}, ValueError, "a fraction between 0 and 1, found 30"),
        ("random", {"held_out": ["bird"]}, ValueError, "only 'systematic' takes a list"),
        ("systematic", {"held_out": ["brid"]}, KeyError, r"hypernyms \['brid'\] are not in the taxonomy"),
    ],
)
def test_bad_requests_are_refused(kind, options, error, message):
    with pytest.raises(error, match=message):
        ablation.plan(WORLD, kind, **options)


def test_items_of_another_taxonomy_are_refused():
    with pytest.raises(KeyError, match=r"names of the manifest \(leaf\) are not in the taxonomy"):
        ablation.ablate(a_train(WORLD), NAMED, "random", fraction=0.5)
