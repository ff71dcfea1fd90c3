"""Thresholds fit on validation rows: the best balanced accuracy by trying every cut, and what is done without one."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from taxogen.answers.calibration import thresholds


def cuts(scores, labels):
    """The midpoints between neighbouring scores, and the balanced accuracy of each."""
    values = np.unique(scores)
    middles = (values[:-1] + values[1:]) / 2
    return middles, np.array([balanced_accuracy_score(labels, scores > cut) for cut in middles])


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_middle_one_of_the_best_cuts(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random((40, 4)) < 0.3
    scores = np.round(rng.normal(size=(40, 4)) + 1.5 * labels - 3, 1)  # with ties, and far from 0
    for column, (one, truth) in enumerate(zip(scores.T, labels.T)):
        middles, accuracy = cuts(one, truth)
        best = middles[accuracy > accuracy.max() - 1e-9]
        assert thresholds(scores, labels)[column] == pytest.approx(best[len(best) // 2])


def test_the_middle_of_equally_good_cuts_is_taken():
    scores = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    labels = np.array([[False], [True], [False], [True], [False], [True]])
    middles, accuracy = cuts(scores[:, 0], labels[:, 0])
    assert (accuracy > accuracy.max() - 1e-9).tolist() == [True, False, True, False, True]
    assert thresholds(scores, labels).tolist() == [middles[2]] == [2.5]


def test_rows_that_were_not_asked_do_not_count():
    scores = np.array([[0.0], [np.nan], [4.0], [np.nan], [6.0]])
    labels = np.array([[False], [True], [True], [False], [True]])
    assert thresholds(scores, labels).tolist() == [2.0]


def test_scores_without_any_difference_all_mean_yes():
    assert thresholds(np.full((4, 1), 3.0), np.array([[True], [False]] * 2)).tolist() == [2.0]


def test_no_cut_is_made_above_the_highest_score():
    scores, labels = np.array([[0.0], [1.0]]), np.array([[True], [False]])
    assert thresholds(scores, labels).tolist() == [0.5]


def test_a_column_without_both_classes_takes_the_median_of_the_others():
    scores = np.array([[0.0, 0.0, 0.0, 5.0, 5.0], [2.0, 4.0, 20.0, 7.0, 7.0]])
    labels = np.array([[False, False, False, True, False], [True, True, True, True, False]])
    assert thresholds(scores, labels).tolist() == [1.0, 2.0, 10.0, 2.0, 2.0]
    assert thresholds(scores[:, 3:], labels[:, 3:]).tolist() == [0.0, 0.0]
