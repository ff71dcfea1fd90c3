import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from probing.probes.controls import control_task, shuffled_labels
from probing.probes.splits import grouped_folds, ungrouped_folds


def _world(seed, leaves=24, hypernyms=4, rows=3):
    rng = np.random.default_rng(seed)
    of_leaf = np.eye(hypernyms, dtype=bool)[rng.permutation(np.arange(leaves) % hypernyms)]
    leaf = np.repeat(np.arange(leaves), rows)
    return np.array([f"leaf{k:02d}" for k in range(leaves)])[leaf], of_leaf[leaf]


@settings(max_examples=30, deadline=None)
@given(some.integers(0, 10_000), some.integers(2, 6))
def test_no_leaf_is_on_both_sides(seed, n_folds):
    names, labels = _world(seed)
    folds = grouped_folds(names, labels, n_folds, seed)
    assert set(folds) == set(range(n_folds))
    for name in np.unique(names):
        assert len(set(folds[names == name])) == 1


def test_leaves_of_each_target_are_spread_evenly():
    names, labels = _world(0)
    folds = grouped_folds(names, labels, 3)
    counts = np.array([[len(set(names[(folds == f) & labels[:, t]])) for t in range(4)] for f in range(3)])
    assert (counts == 2).all()


def test_folds_do_not_depend_on_the_order_of_rows():
    names, labels = _world(1)
    order = np.random.default_rng(0).permutation(len(names))
    np.testing.assert_array_equal(
        grouped_folds(names[order], labels[order], 4, 7), grouped_folds(names, labels, 4, 7)[order]
    )


def test_another_seed_gives_other_folds():
    names, labels = _world(1)
    assert (grouped_folds(names, labels, 4, 0) != grouped_folds(names, labels, 4, 1)).any()


def test_ungrouped_folds_part_the_rows_of_leaves():
    names, _ = _world(0)
    folds = ungrouped_folds(len(names), 3)
    assert np.bincount(folds).tolist() == [24, 24, 24]
    assert any(len(set(folds[names == name])) > 1 for name in np.unique(names))


def test_a_control_task_gives_a_leaf_one_label_and_keeps_the_counts_of_each_fold():
    names, labels = _world(2)
    folds = grouped_folds(names, labels, 4)
    drawn = control_task(labels, names, folds, repeats=6, seed=0)
    for repeat in drawn:
        for name in np.unique(names):
            assert (repeat[names == name] == repeat[names == name][0]).all()
        for fold in range(4):
            np.testing.assert_array_equal(
                repeat[folds == fold].sum(axis=0), labels[folds == fold].sum(axis=0)
            )
    assert (drawn[0] != labels).any()
    assert (drawn[0] != drawn[1]).any()


def test_text_and_picture_rows_of_a_leaf_get_the_same_control_label():
    names, labels = _world(2)
    folds = grouped_folds(names, labels, 4)
    once = np.arange(0, len(names), 3)
    pictures = control_task(labels, names, folds, seed=5)
    texts = control_task(labels[once], names[once], folds[once], seed=5)
    np.testing.assert_array_equal(pictures[:, once], texts)


def test_shuffled_labels_keep_the_counts_and_nothing_else():
    _, labels = _world(0)
    drawn = shuffled_labels(labels, repeats=3, seed=1)
    assert (drawn.sum(axis=1) == labels.sum(axis=0)).all()
    assert (drawn[0] != labels).any()


@pytest.mark.parametrize("n_folds", [1, 25])
def test_too_many_or_too_few_folds_are_refused(n_folds):
    names, labels = _world(0)
    with pytest.raises(ValueError, match=f"asked for {n_folds} folds over 24 groups; ask for 2 to 24"):
        grouped_folds(names, labels, n_folds)
    with pytest.raises(ValueError, match="asked for 9 folds over 8 rows"):
        ungrouped_folds(8, 9)


def test_a_control_task_for_leaves_with_several_labels_is_refused():
    names, labels = _world(0)
    labels[0] = ~labels[0]
    with pytest.raises(ValueError, match="rows of group 'leaf00' have different labels"):
        control_task(labels, names, np.zeros(len(names), dtype=int))
