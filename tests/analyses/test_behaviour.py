import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from analyses import behaviour
from analyses.behaviour.figures import fractions
from analyses.behaviour.rows import behaviour_table
from analyses.inputs import conditions
from analyses.inputs.answers import Answers, Part
from analyses.inputs.conditions import Condition, contrasted
from analyses.inputs.measures import Frame, measured, prevalence_matched
from probing.stats import expanded, few_clusters, interval
from probing.stats.hierarchical import leaf_weights, mean_over, t_interval
from probing.store import MismatchError
from taxogen.answers.evaluate import Scores
from taxogen.answers.yes_no import YesNo
from taxogen.questions import ablation
from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

LEAVES = [f"leaf{number:02}" for number in range(60)]
TAXONOMY = Taxonomy(tuple((leaf, f"kind{number % 3}") for number, leaf in enumerate(LEAVES)))
FULL = ablation.plan(TAXONOMY, "full")


def scores(strength: float, seed: int, pictures: int = 2, correct=0.25) -> Scores:
    """Read-outs in which a true hypernym stands `strength` standard deviations above a false one."""
    rng = np.random.default_rng(seed)
    leaves = np.repeat(LEAVES, pictures)
    names = [f"{leaf}/{number}" for number, leaf in enumerate(leaves)]
    table = pd.DataFrame({"item_id": names, "picture": names, "leaf": leaves, "shown_leaf": leaves})
    labels = TAXONOMY.labels(leaves.tolist())
    values = rng.normal(size=labels.shape) + strength * labels
    text = TAXONOMY.labels(LEAVES) + 0.1 * rng.normal(size=(60, 3))
    right = rng.random(len(leaves)) < correct
    return Scores(table, pd.DataFrame({"leaf": LEAVES}), TAXONOMY.hypernyms, values, text, right, 4)


def condition(name, strength, seeds=(0, 1, 2), removal=FULL, draw=0, **about):
    about = {
        **{"series": name, "lm": "lm", "encoder": "a", "init": "pretrained", "shuffle": "none"},
        **{
            "evidence": "ablation full",
            "fraction": 1.0,
            "effective": removal.effective,
            "other": "",
            **about,
        },
    }
    answers = [
        Answers(seed, scores(strength, 10 * draw + seed), TAXONOMY, removal, removal.effective)
        for seed in seeds
    ]
    return Condition(name, about, tuple(answers))


FOUND = (
    condition("pretrained", 1.5),
    condition("random_init", 0.0, draw=1, init="random_init"),
    condition("within", 1.5, draw=2, shuffle="within"),
    condition("across", 1.5, draw=3, shuffle="across"),
)


@pytest.fixture(scope="module")
def table():
    return behaviour_table(FOUND, draws=300)


def mean(table, **where):
    rows = behaviour.headline(table)
    rows = rows[(rows["target"] == "mean") & (rows["modality"] == "image") & (rows["measure"] == "auroc")]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_planted_effect_has_its_size(table):
    found = mean(table, condition="pretrained", contrast="")
    expected = 0.8556  # Φ(1.5 / √2), two normals 1.5 standard deviations apart
    assert found["lower"] < expected < found["upper"]
    assert found["value"] == pytest.approx(expected, abs=0.03)
    assert found["n"] == 60


def test_planted_nothing_is_at_chance(table):
    found = mean(table, condition="random_init", contrast="")
    assert found["lower"] < 0.5 < found["upper"]


def test_a_contrast_is_the_difference_of_its_two_means(table):
    found = mean(table, contrast="pretrained_minus_random_init")
    values = [mean(table, condition=name, contrast="")["value"] for name in ("pretrained", "random_init")]
    assert found["value"] == pytest.approx(values[0] - values[1], abs=1e-12)
    assert found["lower"] > 0.2


def test_a_contrast_without_effect_contains_zero(table):
    found = mean(table, contrast="within_minus_across")
    assert found["lower"] < 0 < found["upper"]


def test_chance_stands_beside_what_has_one(table):
    naming = table[(table["measure"] == "leaf_naming") & (table["contrast"] == "")]
    assert (naming["chance"] == 0.25).all()
    assert ((naming["lower"] < 0.25) & (naming["upper"] > 0.25)).all()
    assert mean(table, condition="within", contrast="")["chance"] == 0.5
    of_top1 = table.loc[(table["measure"] == "top1") & (table["contrast"] == ""), "chance"]
    np.testing.assert_allclose(of_top1, 1 / 3)


def test_numbers_of_one_run_are_those_of_resampled_leaves():
    """Oracle: scikit-learn's AUROC, each row weighted as often as its leaf was drawn."""
    one = condition("pretrained", 1.0, seeds=(4,))
    found = behaviour_table([one], draws=200)
    found = found[(found["modality"] == "image") & (found["baseline"] == "") & (found["leaves"] == "all")]
    found = found.set_index(["measure", "target"])
    scores, weights = one.answers[0].scores, leaf_weights(60, 200, 0)
    labels = TAXONOMY.labels(scores.image["leaf"].tolist())
    times = weights[:, np.searchsorted(LEAVES, scores.image["leaf"])]
    drawn = np.array([
        [roc_auc_score(labels[:, k], scores.image_scores[:, k], sample_weight=row) for k in range(3)]
        for row in times
    ])  # fmt: skip
    value = np.array([roc_auc_score(labels[:, k], scores.image_scores[:, k]) for k in range(3)])
    for k, name in enumerate(TAXONOMY.hypernyms):
        line = found.loc[("auroc", name)]
        assert line["value"] == pytest.approx(value[k], abs=1e-9)
        # Twenty leaves have it: a percentile interval over so few is too narrow.
        about = drawn[:, k] - drawn[:, k].mean() + value[k]
        limits = expanded(value[k], *interval(about), few_clusters(np.array(20)))
        assert (line["lower"], line["upper"]) == pytest.approx(np.clip(limits, 0, 1), abs=1e-9)
        assert line["n"] == 60
    line, wanted = found.loc[("auroc", "mean")], mean_over(value[None], drawn[:, None], 60)
    assert (line["value"], line["lower"], line["upper"], line["n"]) == pytest.approx(
        (wanted.value, wanted.lower, wanted.upper, 60), abs=1e-9
    )
    best = scores.image_scores.argmax(1)
    assert found.loc[("top1", "mean"), "value"] == pytest.approx(labels[np.arange(120), best].mean())


def test_the_interval_over_seeds_is_wider_where_seeds_differ():
    alike = dataclasses.replace(FOUND[0], answers=tuple(
        dataclasses.replace(FOUND[0].answers[0], seed=seed) for seed in (0, 1, 2)
    ))  # fmt: skip
    unlike = dataclasses.replace(FOUND[0], answers=(*FOUND[0].answers[:2], *condition("", 0.0, (2,)).answers))
    widths = []
    for found in (alike, unlike):
        line = mean(behaviour_table([found], draws=300))
        widths.append(line["upper"] - line["lower"])
    assert widths[1] > 1.5 * widths[0]


def test_the_interval_of_the_study_is_its_t_interval():
    found = mean(behaviour_table(FOUND[:1], interval="study"))
    frame = Frame.of(FOUND[:1])
    made = measured(FOUND[0], Part(scored="held_out"), "auroc", frame)
    wanted = t_interval(np.stack([one.value for one in made.statistics]))
    assert (found["value"], found["lower"], found["upper"]) == (wanted.value, wanted.lower, wanted.upper)
    assert found["n"] == 9
    with pytest.raises(KeyError, match=r"interval 'wald' was asked for; known: hierarchical, study"):
        behaviour_table(FOUND[:1], interval="wald")


def test_only_the_pairs_without_evidence_are_the_headline_of_a_random_ablation():
    removal = ablation.plan(TAXONOMY, "random", fraction=0.5, seed=3)
    found = condition("pretrained", 0.0, seeds=(0,), removal=removal)
    kept = found.answers[0].scores
    labels = TAXONOMY.labels(kept.image["leaf"].tolist())
    gone = removal.pairs[[TAXONOMY.leaves.index(leaf) for leaf in kept.image["leaf"]]]
    kept.image_scores[:] = np.where(labels & ~gone, 9.0, kept.image_scores)  # what was seen is known
    table = behaviour_table([found], draws=50)
    rows = table[(table["measure"] == "auroc") & (table["target"] == "mean") & (table["baseline"] == "")]
    rows = rows[(rows["modality"] == "image") & (rows["leaves"] == "all")].set_index("scored")
    assert set(rows.index) == {"held_out", "seen", "all"}
    assert rows["headline"].to_dict() == {"held_out": True, "seen": False, "all": False}
    assert rows.loc["seen", "value"] > 0.99
    assert rows.loc["held_out", "lower"] < 0.5 < rows.loc["held_out", "upper"]


def test_held_out_hypernyms_of_a_systematic_ablation_are_scored_alone():
    removal = ablation.plan(TAXONOMY, "systematic", held_out=["kind1"])
    table = behaviour_table([condition("pretrained", 1.0, removal=removal)], draws=50)
    rows = behaviour.headline(table)
    rows = rows[(rows["measure"] == "auroc") & (rows["modality"] == "image")].set_index("target")
    assert rows["value"].notna().to_dict() == {"mean": True, "kind0": False, "kind1": True, "kind2": False}
    assert rows.loc["mean", "value"] == pytest.approx(rows.loc["kind1", "value"])


def test_nothing_removed_leaves_nothing_held_out():
    table = behaviour_table([condition("pretrained", 1.0, removal=ablation.plan(TAXONOMY))], draws=50)
    assert set(table["scored"]) == {"seen"}


def test_leaves_that_are_not_named_do_not_count_in_a_matched_condition():
    found = condition("across-matched", 0.0, seeds=(0,), shuffle="across-matched")
    kept = found.answers[0].scores
    named = kept.image["leaf"].isin(LEAVES[:30]).to_numpy()
    kept.leaf_correct[:] = named
    kept.image_scores[:] += 9.0 * (TAXONOMY.labels(kept.image["leaf"].tolist()) & named[:, None])
    line = mean(behaviour_table([found], draws=50), condition="across-matched")
    assert (line["value"], line["n"], line["leaves"]) == (1.0, 30, "named")


def test_a_matched_contrast_scores_the_leaves_that_both_name():
    sides = [condition(name, 1.0, seeds=(0,), shuffle=name) for name in ("within", "across-matched")]
    for side, leaves in zip(sides, (LEAVES[:40], LEAVES[20:]), strict=True):
        side.answers[0].scores.leaf_correct[:] = side.answers[0].scores.image["leaf"].isin(leaves)
    line = mean(behaviour_table(sides, draws=50), contrast="within_minus_across-matched")
    assert (line["n"], line["leaves"]) == (20, "both_named")


def test_baselines_stand_beside_the_score():
    found = FOUND[0]
    rng = np.random.default_rng(5)
    answers = [
        dataclasses.replace(
            one,
            baselines={
                "gold": 9.0 * TAXONOMY.labels(one.leaves.tolist()),
                "blind": rng.normal(size=(120, 3)),
            },
            naming=one.leaves.tolist(),
        )
        for one in found.answers
    ]
    table = behaviour_table([dataclasses.replace(found, answers=tuple(answers))], draws=100)
    rows = table[(table["target"] == "mean") & (table["measure"] == "auroc")].set_index("baseline")
    assert rows.loc["gold", "value"] == 1.0
    assert rows.loc["blind", "lower"] < 0.5 < rows.loc["blind", "upper"]
    assert rows.loc["majority", "value"] == 0.5
    majority = table[(table["measure"] == "macro_f1") & (table["baseline"] == "majority")]["value"].iloc[0]
    assert majority == pytest.approx(80 / (2 * 80 + 40))  # No to all: majority / (2 · majority + minority)
    assert not rows.drop("")["headline"].any()
    leaf = table[table["measure"].isin(["leaf_top1", "leaf_macro_f1"])]
    assert (leaf["value"] == 1.0).all()
    assert len(leaf) == 2


@pytest.mark.parametrize("named", [0, 1])
def test_a_contrast_leaves_out_what_one_of_its_sides_lacks(named):
    sides = list(FOUND[:2])
    answers = tuple(dataclasses.replace(one, naming=one.leaves.tolist()) for one in sides[named].answers)
    sides[named] = dataclasses.replace(sides[named], answers=answers)
    table = behaviour_table(sides, draws=20)
    of = table[table["measure"].isin(["leaf_top1", "leaf_macro_f1"])]
    assert set(of["contrast"]) == {""}
    assert set(of["condition"]) == {sides[named].name}
    assert "leaf_naming" in set(table.loc[table["contrast"] != "", "measure"])


def test_yes_no_answers_are_cut_at_the_calibrated_threshold_and_beside_it_at_zero():
    found = condition("pretrained", 3.0, seeds=(0,))
    kept = dataclasses.replace(
        found.answers[0].scores, about=YesNo.about, thresholds=np.full(3, -8.5),
        image_scores=found.answers[0].scores.image_scores - 10.0,
    )  # fmt: skip
    answers = dataclasses.replace(found.answers[0], scores=kept)
    table = behaviour_table([dataclasses.replace(found, answers=(answers,))], draws=30)
    rows = table[(table["target"] == "mean") & (table["modality"] == "image") & (table["baseline"] == "")]
    tpr = rows[rows["measure"] == "tpr"].set_index("decision")
    assert tpr["headline"].to_dict() == {"calibrated": True, "zero": False}
    assert tpr.loc["zero", "value"] == 0.0
    assert tpr.loc["calibrated", "value"] == pytest.approx(0.933, abs=0.04)  # Φ(1.5)
    assert mean(table)["value"] > 0.97


def test_runs_need_not_show_the_same_leaves():
    few = FOUND[0].answers[0]
    rows = few.scores.image["leaf"].isin(LEAVES[:45]).to_numpy()
    kept = dataclasses.replace(
        few.scores,
        image=few.scores.image[rows].reset_index(drop=True),
        image_scores=few.scores.image_scores[rows],
        leaf_correct=few.scores.leaf_correct[rows],
        text=few.scores.text[:45],
        text_scores=few.scores.text_scores[:45],
    )
    taxonomy = TAXONOMY.restrict(LEAVES[:45])
    small = dataclasses.replace(few, scores=kept, taxonomy=taxonomy, removal=ablation.plan(taxonomy, "full"))
    found = dataclasses.replace(FOUND[0], answers=(small, *FOUND[0].answers[1:]))
    line = mean(behaviour_table([found, FOUND[1]], draws=50), condition="pretrained", contrast="")
    assert line["n"] == 60
    assert line["lower"] < line["value"] < line["upper"]


@pytest.mark.parametrize(
    ("keys", "order"),
    [({"encoder": "b"}, "pretrained_minus_other"), ({"lm": "larger"}, "pretrained_minus_other")],
)
def test_other_models_are_contrasted_in_the_order_given(keys, order):
    found = [FOUND[0], condition("other", 1.0, draw=4, **keys)]
    assert [f"{a.name}_minus_{b.name}" for a, b in contrasted(found)] == [order]


def test_contrasts_need_one_difference_and_a_common_seed():
    names = [f"{a.name}_minus_{b.name}" for a, b in contrasted(FOUND)]
    assert sorted(names) == ["pretrained_minus_random_init", "within_minus_across"]
    elsewhere = condition("random_init", 0.0, (7, 8), init="random_init")
    assert contrasted([FOUND[0], elsewhere]) == []
    partly = condition("random_init", 0.0, (2, 7), init="random_init")
    assert [one.seeds for one in contrasted([FOUND[0], partly])[0]] == [(2,), (2,)]


def test_a_prevalence_matched_yes_is_given_as_often_as_the_hypernym_is_there():
    rng = np.random.default_rng(0)
    labels = rng.random((50, 4)) < [0.1, 0.3, 0.5, 0.0]
    values = rng.normal(size=labels.shape)
    values[:10, 1] = np.nan
    given = prevalence_matched(values, labels)
    assert (np.isnan(given) == np.isnan(values)).all()
    assert ((given > 0).sum(0) == (labels & ~np.isnan(values)).sum(0)).all()
    assert values[given[:, 2] > 0, 2].min() > values[given[:, 2] < 0, 2].max()


def runs(*settings):
    return [Run(None, config.read(None, one)) for one in settings]  # pyright: ignore[reportArgumentType]


def test_runs_that_differ_in_the_seed_alone_are_one_condition():
    found = runs(["seed=1"], ["seed=2"], ["model.init=random"], ["data.shuffle=across"])
    names = [conditions.condition_of(run, found) for run in found]
    assert names == ["pretrained", "pretrained", "random_init", "across"]


def test_what_tells_runs_apart_is_in_their_names():
    found = runs(["model.encoder=a"], ["model.encoder=b"], ["model.encoder=b", "model.init=random"])
    names = [conditions.condition_of(run, found) for run in found]
    assert names == ["pretrained · a", "pretrained · b", "random_init · b"]
    assert [conditions.condition_of(run, found[1:]) for run in found[1:]] == ["pretrained", "random_init"]


def test_evidence_and_every_other_deciding_setting_is_in_the_name():
    found = runs(
        ["data.ablation=random", "data.fraction=0.3"],
        ["data.ablation=random", "data.fraction=0.3", "data.rule=leaf"],
        ["data.ablation=systematic", "data.held_out=bird,fruit", "train.steps=70"],
    )
    names = [conditions.condition_of(run, found) for run in found]
    assert names == [
        "pretrained · ablation random 0.3 · steps 300",
        "pretrained · ablation random 0.3 (rule leaf) · steps 300",
        "pretrained · ablation systematic bird, fruit · steps 70",
    ]


def test_one_seed_twice_is_refused(monkeypatch):
    monkeypatch.setattr(conditions.Answers, "of", lambda run: None)
    found = [Run(Path(name), config.Config()) for name in ("one", "other")]
    with pytest.raises(
        MismatchError, match=r"one, other are one condition \(pretrained\) with seeds \[0, 0\]"
    ):
        conditions.conditions(found)


def test_the_figure_shows_every_condition(table):
    axes = behaviour.draw(table)["behaviour"].axes
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert len(labels) == 4
    assert "random" in " ".join(labels)


def test_fractions_make_a_figure_with_the_published_curves_behind():
    found = [
        condition(
            f"{name} {fraction}", strength * (1 - fraction), (0,), ablation.plan(TAXONOMY, "random", fraction=fraction),
            series=name, fraction=fraction, evidence=f"ablation random {fraction}", init=name,
        )
        for (name, strength), fraction in itertools.product((("pretrained", 2.0), ("random_init", 0.5)), (0.2, 0.6))
    ]  # fmt: skip
    table = behaviour_table(found, draws=40)
    published = pd.DataFrame(
        {"lm": "q", "init": "pretrained", "shuffle": "original", "effective": [0.2, 0.9], "value": [0.8, 0.7]}
    )
    assert set(behaviour.draw(table)) == {"behaviour", "baselines", "fractions"}
    panels = fractions(table, published).axes
    assert len(panels) == 4
    line = next(line for line in panels[0].get_lines() if line.get_label() == "pretrained")
    assert line.get_xdata() == pytest.approx([one.about["effective"] for one in found[:2]])
    assert any(len(line.get_xdata()) and line.get_xdata()[-1] == 0.9 for line in panels[1].get_lines())
    assert sorted(table.loc[table["contrast"] != "", "contrast"].unique()) == [
        "pretrained 0.2_minus_random_init 0.2",
        "pretrained 0.6_minus_random_init 0.6",
    ]
