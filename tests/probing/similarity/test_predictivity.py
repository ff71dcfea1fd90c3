"""Held-out ridge prediction against scikit-learn; no leak over leaf concepts."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from probing.similarity.predictivity import PENALTIES, _folds, linear_predictivity


def pair(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5)) + 1
    return x, x @ rng.standard_normal((5, 3)) + 2 * rng.standard_normal((n, 3))


def test_equals_a_loop_over_scikit_learn():
    x, y = pair()
    error = total = 0.0
    for train, test in _folds(60, None, 5, 0):
        centred = x[train] - x[train].mean(0)
        scale = (centred**2).sum() / x.shape[1]
        errors = []
        for penalty in PENALTIES:
            # Leave-one-out by refitting, the intercept with it.
            predicted = [
                Ridge(alpha=penalty * scale)
                .fit(np.delete(x[train], i, 0), np.delete(y[train], i, 0))
                .predict(x[train][i : i + 1])[0]
                for i in range(len(train))
            ]
            errors.append(((y[train] - predicted) ** 2).sum())
        best = Ridge(alpha=PENALTIES[int(np.argmin(errors))] * scale).fit(x[train], y[train])
        error += ((y[test] - best.predict(x[test])) ** 2).sum()
        total += ((y[test] - y[train].mean(0)) ** 2).sum()
    assert float(linear_predictivity(x, y)) == pytest.approx(1 - error / total, abs=1e-9)


def test_leave_one_out_picks_the_penalty_scikit_learn_picks():
    x, y = pair(seed=3)
    train, test = next(_folds(60, None, 5, 0))
    scale = ((x[train] - x[train].mean(0)) ** 2).sum() / x.shape[1]
    reference = RidgeCV(alphas=np.array(PENALTIES) * scale, scoring="neg_mean_squared_error")
    assert reference.fit(x[train], y[train]).alpha_ in np.array(PENALTIES) * scale
    assert len(set(train) | set(test)) == 60


def test_whole_leaves_are_held_out():
    leaves = np.repeat(np.arange(12), 5)
    for train, test in _folds(60, leaves, 4, 1):
        assert not set(leaves[train]) & set(leaves[test])
        assert len(set(leaves[test])) == 3


def test_memorised_leaves_do_not_predict_new_ones():
    rng = np.random.default_rng(0)
    leaves = np.repeat(np.arange(30), 6)
    x = np.repeat(rng.standard_normal((30, 20)), 6, axis=0) + 0.1 * rng.standard_normal((180, 20))
    y = np.repeat(rng.standard_normal((30, 4)), 6, axis=0)
    assert float(linear_predictivity(x, y)) > 0.4
    assert float(linear_predictivity(x, y, groups=leaves)) < 0.1


def test_refusals():
    x, y = pair()
    with pytest.raises(ValueError, match="60 rows but groups of shape"):
        linear_predictivity(x, y, groups=np.arange(3))
    with pytest.raises(ValueError, match="5 folds asked for over 2 groups"):
        linear_predictivity(x, y, groups=np.arange(60) % 2)
