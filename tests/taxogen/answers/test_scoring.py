import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from taxogen.answers.rows import MEAN, labels_of, named_leaves, only_leaves, only_scored, score_table
from taxogen.questions import ablation
from taxogen.world.taxonomy import Taxonomy

WORLD = Taxonomy(
    tuple((f"{kind}{number}x", kind) for kind in ("bird", "beast", "fruit") for number in range(12))
)


def a_test(seed=0, signal=1.0, per_leaf=4):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"leaf": np.repeat(WORLD.leaves, per_leaf)})
    return rng.normal(size=(len(table), 3)) + signal * labels_of(table, WORLD), table


def pick(found, target, measure):
    return found[(found["target"] == target) & (found["measure"] == measure)].iloc[0]


def test_the_table_has_every_hypernym_and_measure_and_their_mean():
    scores, table = a_test()
    found = score_table(scores, table, WORLD, draws=100)
    assert list(found.columns) == ["target", "measure", "value", "lower", "upper", "n"]
    assert len(found) == 7 * 4 + 1
    for column, name in enumerate(WORLD.hypernyms):
        expected = roc_auc_score(labels_of(table, WORLD)[:, column], scores[:, column])
        assert pick(found, name, "auroc")["value"] == pytest.approx(expected)
    each = [pick(found, name, "auroc")["value"] for name in WORLD.hypernyms]
    assert pick(found, MEAN, "auroc")["value"] == pytest.approx(np.mean(each))
    assert (found["lower"] <= found["value"]).all()
    assert (found["value"] <= found["upper"]).all()
    assert set(found["n"]) == {36}


def test_signal_is_found_and_noise_is_not():
    """Twenty worlds each: with a signal no interval reaches chance, without one 95 % of them do."""
    for signal, least, most in ((1.5, 0, 0), (0.0, 16, 20)):
        tables = [score_table(*a_test(seed, signal), WORLD, draws=200) for seed in range(20)]
        for measure, chance in (("auroc", 1 / 2), ("top1", 1 / 3)):
            found = [pick(table, MEAN, measure) for table in tables]
            assert least <= sum(line["lower"] <= chance <= line["upper"] for line in found) <= most


def test_majority_stands_beside_macro_f1():
    scores, table = a_test()
    always_no = score_table(np.full_like(scores, -1.0), table, WORLD, draws=20)
    for name in (*WORLD.hypernyms, MEAN):
        assert pick(always_no, name, "macro_f1")["value"] == pytest.approx(
            pick(always_no, name, "majority_macro_f1")["value"]
        )
        assert pick(always_no, name, "majority_macro_f1")["value"] == pytest.approx(24 / (48 + 12))


def test_top1_takes_any_hypernym_of_the_leaf():
    world = Taxonomy((("crow", "bird"), ("bird", "animal"), ("oak", "plant")))
    table = pd.DataFrame({"leaf": ["crow", "crow", "oak", "oak"]})
    scores = np.zeros((4, 3))
    scores[0, 0], scores[1, 1], scores[2, 2], scores[3, 0] = 1, 1, 1, 1
    assert world.hypernyms == ("animal", "bird", "plant")
    assert pick(score_table(scores, table, world, draws=20), MEAN, "top1")["value"] == 0.75
    scores[3] = np.nan
    assert pick(score_table(scores, table, world, draws=20), MEAN, "top1")["value"] == 1.0


def test_held_out_pairs_only():
    scores, table = a_test()
    plan = ablation.plan(WORLD, "random", fraction=0.5)
    held = only_scored(scores, table, WORLD, plan.scored)
    truth = labels_of(table, WORLD)
    assert (~np.isnan(held)).sum() == (~truth).sum() + truth.sum() / 2
    plan = ablation.plan(WORLD, "systematic", held_out=["bird"])
    found = score_table(only_scored(scores, table, WORLD, plan.scored), table, WORLD, draws=20)
    assert pick(found, MEAN, "auroc")["value"] == pick(found, "bird", "auroc")["value"]
    assert np.isnan(pick(found, "fruit", "auroc")["value"])
    assert pick(found, "fruit", "auroc")["n"] == 0


def test_leaves_that_the_model_cannot_name_are_left_out_but_stay_clusters():
    scores, table = a_test()
    correct = table["leaf"].str.endswith(("0x", "1x", "2x")) & (np.arange(len(table)) % 4 != 0)
    named = named_leaves(table["leaf"].tolist(), correct.to_numpy())
    assert named == tuple(leaf for leaf in WORLD.leaves if leaf[-2] in "012")
    assert named_leaves(table["leaf"].tolist(), correct.to_numpy(), at_least=0.8) == ()
    kept = only_leaves(scores, table, named)
    rows = table["leaf"].isin(named).to_numpy()
    expected = score_table(scores[rows], table[rows], WORLD, draws=20)
    found = score_table(kept, table, WORLD, draws=20)
    assert pick(found, MEAN, "auroc")["value"] == pytest.approx(pick(expected, MEAN, "auroc")["value"])
    assert pick(found, "bird", "auroc")["n"] == len(named) == 15


def test_a_threshold_per_column_and_a_choice_of_columns():
    scores, table = a_test()
    chosen = score_table(
        scores[:, [2, 0]],
        table,
        WORLD,
        hypernyms=("fruit", "beast"),
        threshold=np.array([9.0, -9.0]),
        draws=20,
    )
    assert pick(chosen, "fruit", "tpr")["value"] == 0.0
    assert pick(chosen, "beast", "tpr")["value"] == 1.0


def test_rows_in_any_order_give_the_same_table():
    scores, table = a_test()
    order = np.random.default_rng(0).permutation(len(table))
    again = score_table(scores[order], table.iloc[order], WORLD, draws=50)
    pd.testing.assert_frame_equal(again, score_table(scores, table, WORLD, draws=50), rtol=1e-12)


def test_what_does_not_match_is_refused():
    scores, table = a_test()
    with pytest.raises(ValueError, match=r"scores are \(144, 2\), but there are 144 rows and 3 hypernyms"):
        score_table(scores[:, :2], table, WORLD)
    with pytest.raises(KeyError, match=r"hypernyms \['tree'\] are not in the taxonomy"):
        score_table(scores, table, WORLD, hypernyms=("bird", "beast", "tree"))
