import numpy as np
import pandas as pd
import pytest

from analyses import behaviour
from analyses.behaviour import Condition
from taxogen import config
from taxogen.evaluate import Scores
from taxogen.run import Run
from taxogen.taxonomy import Taxonomy

LEAVES = [f"leaf{number:02}" for number in range(60)]
TAXONOMY = Taxonomy(tuple((leaf, f"kind{number % 3}") for number, leaf in enumerate(LEAVES)))


def scores(strength: float, seed: int, pictures: int = 2) -> Scores:
    """Read-outs in which a true hypernym stands `strength` standard deviations above a false one."""
    rng = np.random.default_rng(seed)
    leaves = np.repeat(LEAVES, pictures)
    names = [f"{leaf}/{number}" for number, leaf in enumerate(leaves)]
    table = pd.DataFrame({"item_id": names, "picture": names, "leaf": leaves, "shown_leaf": leaves})
    labels = TAXONOMY.labels(leaves.tolist())
    values = rng.normal(size=labels.shape) + strength * labels
    text = TAXONOMY.labels(LEAVES) + 0.1 * rng.normal(size=(60, 3))
    correct = rng.random(len(leaves)) < 0.25
    return Scores(table, pd.DataFrame({"leaf": LEAVES}), TAXONOMY.hypernyms, values, text, correct, 4)


def condition(name, strength, seeds=(0, 1, 2)):
    runs = [Run(None, config.Config(seed=seed)) for seed in seeds]  # pyright: ignore[reportArgumentType]
    return Condition(name, runs, [scores(strength, seed) for seed in seeds], TAXONOMY.labels)


@pytest.fixture(scope="module")
def table():
    found = [condition("pretrained", 1.5), condition("random_init", 0.0), condition("within", 1.5)]
    return behaviour.compute([*found, condition("across", 1.5, (3, 4, 5))], draws=500)


def mean(table, **where):
    rows = table[(table["target"] == "mean") & (table["modality"] == "image") & (table["measure"] == "auroc")]
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


def test_a_prevalence_matched_yes_is_given_as_often_as_the_hypernym_is_there():
    rng = np.random.default_rng(0)
    labels = rng.random((50, 4)) < [0.1, 0.3, 0.5, 0.0]
    yes = behaviour._prevalence_matched(rng.normal(size=labels.shape), labels)
    assert (yes.sum(0) == labels.sum(0)).all()


def runs(*settings):
    return [Run(None, config.read(None, one)) for one in settings]  # pyright: ignore[reportArgumentType]


def test_runs_that_differ_in_the_seed_alone_are_one_condition():
    found = runs(["seed=1"], ["seed=2"], ["model.init=random"], ["data.shuffle=across"])
    names = [behaviour.condition_of(run, found) for run in found]
    assert names == ["pretrained", "pretrained", "random_init", "across"]


def test_what_tells_runs_apart_is_in_their_names():
    found = runs(["model.encoder=a"], ["model.encoder=b"], ["model.encoder=b", "model.init=random"])
    names = [behaviour.condition_of(run, found) for run in found]
    assert names == ["pretrained · a", "pretrained · b", "random_init · b"]
    assert [behaviour.condition_of(run, found[1:]) for run in found[1:]] == ["pretrained", "random_init"]


def test_the_figure_shows_every_condition(table):
    axes = behaviour.draw(table).axes
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert len(labels) == 4
    assert "random" in " ".join(labels)
