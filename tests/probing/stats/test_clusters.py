import numpy as np
import pytest
from sklearn import metrics

from probing.stats import ClusterAUROC, ClusterMean, ClusterRates, draw_weights, log_loss, nan_mean
from tests.probing.stats.scored_rows import scored


def test_statistics_do_not_depend_on_the_order_of_rows():
    scores, labels, names = scored(7)
    order = np.random.default_rng(0).permutation(len(names))
    weights = draw_weights(12, 30, 1)
    for first, second in (
        (ClusterAUROC(scores, labels, names), ClusterAUROC(scores[order], labels[order], names[order])),
        (
            ClusterRates(scores > 0, labels, names),
            ClusterRates(scores[order] > 0, labels[order], names[order]),
        ),
        (ClusterMean(scores, names), ClusterMean(scores[order], names[order])),
    ):
        np.testing.assert_allclose(first.at(weights), second.at(weights), rtol=1e-12)


def test_log_loss_equals_scikit_learn():
    rng = np.random.default_rng(0)
    labels, chance = rng.random(50) < 0.3, rng.random(50)
    nats = ClusterMean(log_loss(chance, labels), np.arange(50) // 5)
    assert nats.value[0] == pytest.approx(metrics.log_loss(labels, chance))
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([True, False]))).all()


def test_means_leave_undefined_rows_out():
    values = np.array([1.0, 2.0, np.nan, 10.0])
    statistic = ClusterMean(values, np.array(["a", "a", "b", "c"]))
    assert statistic.value[0] == pytest.approx(13 / 3)
    assert np.isnan(statistic.at(np.array([[0.0, 5.0, 0.0]]))[0, 0])
    assert nan_mean(np.array([[1.0, np.nan, 3.0]]))[0] == 2.0
    assert np.isnan(nan_mean(np.array([np.nan, np.nan])))
