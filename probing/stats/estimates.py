"""Estimates with intervals: bootstrap over clusters, and corrected permutation p.

Make a statistic (`ClusterAUROC(scores, labels, clusters)`), draw weights once for all that shall be paired,
and summarise: `mean_estimate(statistic, draw_weights(len(statistic.clusters)))`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control

from probing.stats.clusters import ClusterStatistic
from probing.stats.undefined import nan_mean

DRAWS = 1_000


def bounds_text(lower: float, upper: float, form: str = ".3f") -> str:
    """An interval in brackets, or that there is none, where a limit is undefined.

    >>> bounds_text(float("-inf"), 0.933), bounds_text(float("nan"), float("nan"))
    ('[−∞, 0.933]', '(no interval)')
    """
    if math.isnan(lower) or math.isnan(upper):
        return "(no interval)"
    return f"[{lower:{form}}, {upper:{form}}]".replace("-inf", "−∞").replace("+inf", "∞").replace("inf", "∞")


def estimate_text(value: float, lower: float, upper: float, form: str = ".3f") -> str:
    """A number with its interval, each as far as it is defined.

    >>> estimate_text(0.39, float("nan"), float("nan"), "+.2f"), estimate_text(float("nan"), 0.1, 0.2)
    ('+0.39 (no interval)', 'undefined')
    """
    return "undefined" if math.isnan(value) else f"{value:{form}} {bounds_text(lower, upper, form)}"


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and the number of clusters it rests on; NaN where undefined.

    >>> str(Estimate(0.904, 0.871, 0.933, n=351))
    '0.904 [0.871, 0.933] (n = 351)'
    """

    value: float
    lower: float
    upper: float
    n: int

    def within(self, lowest: float, highest: float) -> Estimate:
        """The same number with limits inside what it can be: 0 and 1 for a share.

        >>> str(Estimate(0.01, -0.002, 0.022, n=80).within(0, 1))
        '0.010 [0.000, 0.022] (n = 80)'
        """
        lower, upper = (float(np.clip(limit, lowest, highest)) for limit in (self.lower, self.upper))
        return replace(self, lower=lower, upper=upper)

    def __str__(self):
        return f"{estimate_text(self.value, self.lower, self.upper)} (n = {self.n})"

    def _repr_html_(self) -> str:
        value, _, limits = estimate_text(self.value, self.lower, self.upper).partition(" ")
        return " ".join(filter(None, (f"<strong>{value}</strong>", limits, f"(n = {self.n})")))


def draw_weights(
    n_clusters: int, draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, "draws {n_clusters}"]:
    """How often each cluster is drawn in each bootstrap sample; every row sums to `n_clusters`.

    >>> draw_weights(4, draws=2, seed=0)
    array([[1., 0., 0., 3.],
           [0., 2., 2., 0.]])

    Source: Field & Welsh 2007, J. R. Statist. Soc. B 69(3), the cluster bootstrap.
    """
    if n_clusters < 1 or draws < 1:
        raise ValueError(f"asked for {draws} draws over {n_clusters} clusters; both must be at least 1")
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=draws).astype(np.float64)


def interval(
    draws: Float[np.ndarray, "draws *k"], level: float = 0.95
) -> tuple[Float[np.ndarray, "*k"], Float[np.ndarray, "*k"]]:
    """Lower and upper percentile limits along the first axis, undefined draws left out.

    >>> lower, upper = interval(np.arange(101) / 100)
    >>> round(float(lower), 3), round(float(upper), 3)
    (0.025, 0.975)
    """
    if not 0 < level < 1:
        raise ValueError(f"asked for an interval of level {level}; it must lie between 0 and 1, as .95")
    draws = np.asarray(draws, dtype=np.float64)
    limits = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    flat, limits_of = draws.reshape(len(draws), -1), limits.reshape(2, -1)
    for column in np.flatnonzero(np.isnan(limits_of[0])):
        defined = flat[~np.isnan(flat[:, column]), column]
        if len(defined):
            limits_of[:, column] = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return limits_of[0].reshape(draws.shape[1:]), limits_of[1].reshape(draws.shape[1:])


def estimate(
    value: float | np.ndarray, draws: Float[np.ndarray, " draws"], n: int, level: float = 0.95
) -> Estimate:
    """The estimate whose interval is the percentile interval of its bootstrap draws.

    >>> str(estimate(0.5, np.arange(101) / 100, n=12))
    '0.500 [0.025, 0.975] (n = 12)'
    """
    lower, upper = interval(np.asarray(draws), level)
    return Estimate(float(value), float(lower), float(upper), int(n))


def mean_estimate(
    statistic: ClusterStatistic,
    weights: Float[np.ndarray, "draws clusters"],
    columns: np.ndarray | slice = slice(None),
    level: float = 0.95,
) -> Estimate:
    """Estimate of the mean over the statistic's columns (targets), undefined ones left out.

    >>> from probing.stats import ClusterMean
    >>> right = ClusterMean(np.array([1.0, 0, 1, 1, 0, 1]), np.array(["crow", "crow", "owl", "owl", "pike", "pike"]))
    >>> str(mean_estimate(right, draw_weights(3)))
    '0.667 [0.500, 1.000] (n = 3)'
    """
    value, draws = nan_mean(statistic.value[columns]), nan_mean(statistic.at(weights)[:, columns])
    return estimate(value, draws, len(statistic.clusters), level)


def contrast(
    first: ClusterStatistic,
    second: ClusterStatistic,
    weights: Float[np.ndarray, "draws clusters"],
    level: float = 0.95,
) -> Estimate:
    """Estimate of the mean over columns of `first - second`: both see the same clusters in every draw.

    >>> from probing.stats import ClusterMean
    >>> leaves = np.array(["crow", "owl", "pike"])
    >>> first, second = ClusterMean(np.array([1.0, 0.8, 0.9]), leaves), ClusterMean(np.array([0.7, 0.5, 0.6]), leaves)
    >>> str(contrast(first, second, draw_weights(3)))  # the difference is the same in every draw
    '0.300 [0.300, 0.300] (n = 3)'

    Raises:
        ValueError: the two do not rest on the same clusters.
    """
    check_paired(first, second)
    value = nan_mean(first.value) - nan_mean(second.value)
    draws = nan_mean(first.at(weights)) - nan_mean(second.at(weights))
    return estimate(value, draws, len(first.clusters), level)


def check_paired(first: ClusterStatistic, second: ClusterStatistic) -> None:
    """Nothing, when the two statistics rest on the same clusters.

    >>> from probing.stats import ClusterMean
    >>> same = ClusterMean(np.ones(2), np.array(["crow", "owl"]))
    >>> check_paired(same, ClusterMean(np.zeros(2), np.array(["owl", "crow"])))

    Raises:
        ValueError: they do not; the message names clusters that only one of them has.
    """
    if not np.array_equal(first.clusters, second.clusters):
        only = sorted({str(c) for c in first.clusters} ^ {str(c) for c in second.clusters})
        raise ValueError(
            f"asked for a paired contrast, found {len(only)} clusters in one only, such as {only[:3]}; "
            "restrict both to the clusters they share"
        )


def permutation_p(
    observed: Float[np.ndarray, " m"], null: Float[np.ndarray, "permutations m"], corrected: bool = True
) -> Float[np.ndarray, " m"]:
    """One-sided p of each observed value; `corrected` compares with the largest value of each permutation.

    >>> null = np.array([[0.1, 0.2], [0.0, 0.3], [0.2, 0.1]])
    >>> permutation_p(np.array([0.5, 0.25]), null)
    array([0.25, 0.5 ])

    Source: Westfall & Young 1993, Resampling-Based Multiple Testing, ch. 2 (single-step maximum); Phipson &
    Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9(1), eq. 2 (the added one).
    """
    observed, null = np.atleast_1d(np.asarray(observed, float)), np.asarray(null, float)
    null = null[:, None] if null.ndim == 1 else null
    if null.shape[1] != len(observed):
        raise ValueError(
            f"{len(observed)} observed values but null draws of {null.shape[1]}; they must match"
        )
    null = np.where(np.isnan(null), -np.inf, null)
    reference = np.repeat(null.max(axis=1)[:, None], len(observed), 1) if corrected else null
    p = (1 + (reference >= observed).sum(axis=0)) / (1 + len(null))
    return np.where(np.isnan(observed), np.nan, p)


def q_values(p: Float[np.ndarray, "*k"], any_dependence: bool = False) -> Float[np.ndarray, "*k"]:
    """Q of each p of a family: the smallest false discovery rate at which it is found; NaN where p is NaN.

    All entries are one family, whatever their shape. Exact for independent p, and no larger than said for p that depend
    positively on each other, as those of hypernyms that share leaves or of neighbouring layers do; for other dependence
    it is approximate, and `any_dependence` (Benjamini & Yekutieli 2001) holds for every one at a cost of log(k).

    >>> q_values(np.array([0.01, 0.02, 0.6, np.nan]))
    array([0.03, 0.03, 0.6 ,  nan])

    Source: Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57(1); Benjamini & Yekutieli 2001, Ann. Stat. 29(4), theorems
    1.2 and 1.3.
    """
    p = np.asarray(p, float)
    q, defined = np.full(p.shape, np.nan), ~np.isnan(p)
    if defined.any():
        q[defined] = false_discovery_control(p[defined], method="by" if any_dependence else "bh")
    return q
