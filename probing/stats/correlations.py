"""How two numbers of each hypernym go together: correlations with intervals, and a mixed model over runs."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats as distributions

from probing.stats.estimates import DRAWS, Estimate, draw_weights, estimate
from probing.stats.undefined import divide

MEASURES = ("pearson", "spearman")
LEAST_FOR_INTERVAL = {"pearson": 4, "spearman": 6}
"""The fewest rows of which `correlation` gives an interval: of fewer, 95 % intervals cover as little as 65 %."""
_NORMAL_975 = 1.959964
_LEAST_ROWS = 2  # of a hypernym, so that what all its rows share can be told from what each adds


def correlation(pair: Float[np.ndarray, "n 2"], measure: str, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Pearson's or Spearman's correlation, with a 95 % interval.

    Rows with an undefined number are left out; of fewer than 3, or where one side is constant, it is NaN. The interval
    reaches, on each side, to the farther of the percentile limit over resampled rows (ranked once) and the limit by
    Fisher's z: of 6 to 34 rows the first alone covers 84 to 95 %, and the second alone 74 to 90 % of heavy-tailed
    rows; both together 91 to 98 % (89 % of 34 strongly related heavy-tailed rows). Of fewer rows than
    `LEAST_FOR_INTERVAL` the limits are NaN.

    Source: Fisher 1921, Metron 1; Bonett & Wright 2000, Psychometrika 65(1), for the error of Spearman's.
    """
    if measure not in MEASURES:
        raise KeyError(f"correlation {measure!r} was asked for; known: {', '.join(MEASURES)}")
    pair = np.asarray(pair, np.float64)
    pair = pair[~np.isnan(pair).any(axis=1)]
    if len(pair) < 3:
        return Estimate(float("nan"), float("nan"), float("nan"), len(pair))
    correlated = {"pearson": pearson, "spearman": spearman}[measure]
    x, y = pair.T
    value = float(correlated(x, y))
    if len(pair) < LEAST_FOR_INTERVAL[measure]:
        return Estimate(value, float("nan"), float("nan"), len(pair))
    resampled = estimate(value, correlated(x, y, draw_weights(len(pair), draws, seed)), len(pair))
    lower, upper = fisher_interval(value, len(pair), measure)
    return Estimate(value, min(lower, resampled.lower), max(upper, resampled.upper), len(pair))


def fisher_interval(value: float, n: int, measure: str) -> tuple[float, float]:
    """The 95 % interval of a correlation of n rows that is symmetric about its Fisher z.

    >>> lower, upper = fisher_interval(0.5, 28, "pearson")
    >>> round(lower, 3), round(upper, 3)
    (0.156, 0.736)
    """
    spread = 1 + (value**2 / 2 if measure == "spearman" else 0)
    half = _NORMAL_975 * (spread / (n - 3)) ** 0.5
    with np.errstate(divide="ignore"):  # z is infinite where the correlation is 1
        centre = np.arctanh(value)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def mixed_slope(table: pd.DataFrame) -> Estimate:
    """How much the score changes per standard deviation of the cause: the fixed slope of a linear mixed model.

    score ~ cause + condition, with an intercept of its own for each hypernym, fitted by restricted maximum
    likelihood; the 95 % interval is Wald's and n counts hypernyms. NaN where fewer than 3 hypernyms have
    two rows (two seeds or conditions): a hypernym's own intercept then has nothing to be told from.

    Args:
        table: a row per hypernym, condition and seed, with the columns cause, score, hypernym and condition.

    Source: Laird & Ware 1982, Biometrics 38(4); Lindstrom & Bates 1988, J. Am. Stat. Assoc. 83(404).
    """
    import statsmodels.formula.api as models  # slow to import, and needed by this function alone
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, SingularMatrixWarning

    table = table[np.isfinite(table["cause"]) & np.isfinite(table["score"])]
    spread = table["cause"].std()
    repeated = table.groupby("hypernym").size() >= _LEAST_ROWS
    if repeated.sum() < 3 or not spread > 0:
        return Estimate(float("nan"), float("nan"), float("nan"), int(repeated.sum()))
    scaled = table.assign(cause=(table["cause"] - table["cause"].mean()) / spread)
    formula = "score ~ cause" + (" + C(condition)" if table["condition"].nunique() > 1 else "")
    with warnings.catch_warnings():
        # Where hypernyms do not differ, their variance is estimated as 0, on the boundary: that is a result.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", SingularMatrixWarning)
        fitted = models.mixedlm(formula, scaled, groups=scaled["hypernym"]).fit(reml=True)
    lower, upper = fitted.conf_int().loc["cause"]
    return Estimate(float(fitted.params["cause"]), float(lower), float(upper), len(repeated))


def pearson(
    x: Float[np.ndarray, "*#draws n"],
    y: Float[np.ndarray, "*#draws n"],
    weights: Float[np.ndarray, "*#draws n"] | None = None,
) -> Float[np.ndarray, "*draws"]:
    """Pearson's correlation along the last axis, each entry counted as often as `weights` says; in [−1, 1].

    NaN where one side does not vary among the entries that count.

    >>> pearson(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0])).round(3)
    np.float64(1.0)
    """
    weights = np.ones_like(x) if weights is None else weights
    share = weights / weights.sum(-1, keepdims=True)
    sides = np.stack(np.broadcast_arrays(x, y), axis=-1)
    centred = sides - share[..., None, :] @ sides
    spread = np.sqrt(np.einsum("...n,...nk->...k", share, centred**2))
    together = np.einsum("...n,...n,...n->...", share, centred[..., 0], centred[..., 1])
    scale = spread[..., 0] * spread[..., 1]
    varies = _varies(x, weights) & _varies(y, weights)
    return np.where(varies, np.clip(divide(together, scale), -1, 1), np.nan)


def spearman(
    x: Float[np.ndarray, "*#draws n"],
    y: Float[np.ndarray, "*#draws n"],
    weights: Float[np.ndarray, "*#draws n"] | None = None,
) -> Float[np.ndarray, "*draws"]:
    """Spearman's correlation along the last axis: Pearson's of the ranks, ties at their mean rank; in [−1, 1].

    Weights count ranks, which are those among all entries. NaN as in `pearson`.

    >>> spearman(np.array([1.0, 2.0, 4.0]), np.array([[1.0, 10.0, 100.0], [3.0, 2.0, 1.0], [5.0, 5.0, 5.0]])).round(3)
    array([ 1., -1., nan])
    """
    return pearson(distributions.rankdata(x, axis=-1), distributions.rankdata(y, axis=-1), weights)


def _varies(side: Float[np.ndarray, "*#draws n"], weights: Float[np.ndarray, "*#draws n"]) -> np.ndarray:
    """Whether the entries that count are not all equal: rounding leaves their variance above 0."""
    most, least = (np.where(weights > 0, side, limit) for limit in (-np.inf, np.inf))
    return most.max(-1) > least.min(-1)
