"""How much runs of one condition differ beyond what their units explain: Cochran's Q, tau and I² with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats as distributions

from analyses.pooling.crossed import error_over_clusters


@dataclass(frozen=True)
class Heterogeneity:
    """Differences between runs, cell by cell; NaN of a single run.

    Attributes:
        spread: standard deviation of the runs' means.
        q: Cochran's Q; runs − 1 where runs do not differ.
        p: of Q / (runs − 1), by the F distribution.
        tau: standard deviation of the runs' true means, with its 95 % limits.
        i2: its share of the variance of the runs' means, with its limits.
    """

    spread: Float[np.ndarray, " cells"]
    q: Float[np.ndarray, " cells"]
    p: Float[np.ndarray, " cells"]
    tau: Float[np.ndarray, "3 cells"]
    i2: Float[np.ndarray, "3 cells"]


def heterogeneity(
    values: Float[np.ndarray, "runs cells units"], ends: Shaped[np.ndarray, "units *two"]
) -> Heterogeneity:
    """How much the runs differ, of the same units in every run.

    Units are hard or easy for all runs alike: a run's mean is compared with the mean of all runs, unit by unit, and
    the standard error is that of these deviations over clusters, the mean of those of all runs. It is estimated from m
    clusters, so that Q / (k − 1) of k runs is compared with F of k − 1 and (k − 1)(m − 1) degrees of freedom.

    >>> rng = np.random.default_rng(0)
    >>> alike = heterogeneity(rng.normal(size=(3, 1, 200)), np.arange(200))
    >>> apart = heterogeneity(rng.normal([[[0.0]], [[1.0]], [[2.0]]], 1.0, (3, 1, 200)), np.arange(200))
    >>> alike.tau[0].round(1), apart.tau[0].round(1), apart.p < 0.001
    (array([0.]), array([1.]), array([ True]))

    Source: Cochran 1954, Biometrics 10(1); Viechtbauer 2007, Stat. Med. 26(1) (limits by Q, here of equal weights);
    Higgins & Thompson 2002, Stat. Med. 21(11) (I²).
    """
    runs, freedom = len(values), len(values) - 1
    if runs < 2:
        empty = np.full(values.shape[1], np.nan)
        return Heterogeneity(empty, empty, empty, np.stack([empty] * 3), np.stack([empty] * 3))
    away = values - values.mean(axis=0)
    of_runs = [error_over_clusters(one, ends) for one in away]
    deviation = np.stack([mean for mean, _, _ in of_runs])
    rest = np.maximum(of_runs[0][2] - 1, 1)  # of the clusters: squares are over m, not m − 1
    error = np.mean([error**2 for _, error, _ in of_runs], axis=0) * runs / freedom * (rest + 1) / rest
    null = distributions.f(freedom, freedom * rest)
    squares = (deviation**2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = squares / error
        # What Q exceeds, at its expectation and at the quantiles between which it lies in 95 % of studies.
        divisors = freedom * np.stack([np.ones_like(squares), null.ppf(0.975), null.ppf(0.025)])
        tau2 = np.maximum(squares / divisors - error, 0)
        i2 = tau2 / (tau2 + error)
    return Heterogeneity(np.sqrt(squares / freedom), q, null.sf(q / freedom), np.sqrt(tau2), i2)
