"""How two numbers of each hypernym go together: correlations with intervals, and a mixed model over runs."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats as distributions

from probing.stats.estimates import DRAWS, Estimate, draw_weights, estimate

MEASURES = ("pearson", "spearman")
_LEAST_ROWS = 2  # of a hypernym, so that what all its rows share can be told from what each adds


def correlation(pair: Float[np.ndarray, "n 2"], measure: str, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Pearson's or Spearman's correlation, with a percentile interval over resampled rows (ranked once).

    Rows with an undefined number are left out; of fewer than 3, or where one side is constant, it is not-a-number.
    """
    if measure not in MEASURES:
        raise KeyError(f"correlation {measure!r} was asked for; known: {', '.join(MEASURES)}")
    pair = np.asarray(pair, np.float64)
    pair = pair[~np.isnan(pair).any(axis=1)]
    if len(pair) < 3:
        return Estimate(float("nan"), float("nan"), float("nan"), len(pair))
    if measure == "spearman":
        pair = distributions.rankdata(pair, axis=0)
    weights = draw_weights(len(pair), draws, seed)
    value = float(_pearson(pair, np.ones((1, len(pair))))[0])
    return estimate(value, _pearson(pair, weights), len(pair))


def mixed_slope(table: pd.DataFrame) -> Estimate:
    """How much the score changes per standard deviation of the cause: the fixed slope of a linear mixed model.

    score ~ cause + condition, with an intercept of its own for each hypernym, fitted by restricted maximum
    likelihood; the 95 % interval is Wald's and n counts hypernyms. Not-a-number where fewer than 3 hypernyms have
    two rows (two seeds or conditions): a hypernym's own intercept then has nothing to be told from.

    Args:
        table: a row per hypernym, condition and seed, with the columns cause, score, hypernym and condition.

    Source: Laird & Ware 1982, Biometrics 38(4); Lindstrom & Bates 1988, J. Am. Stat. Assoc. 83(404).
    """
    import statsmodels.formula.api as models  # slow to import, and needed by this function alone
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

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
        fitted = models.mixedlm(formula, scaled, groups=scaled["hypernym"]).fit(reml=True)
    lower, upper = fitted.conf_int().loc["cause"]
    return Estimate(float(fitted.params["cause"]), float(lower), float(upper), len(repeated))


def _pearson(
    pair: Float[np.ndarray, "n 2"], weights: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    share = weights / weights.sum(1, keepdims=True)
    centred = pair[None] - (share @ pair)[:, None]
    spread = np.sqrt(np.einsum("dn,dnk->dk", share, centred**2))
    together = np.einsum("dn,dn,dn->d", share, centred[..., 0], centred[..., 1])
    scale = spread[:, 0] * spread[:, 1]
    return np.where(scale > 0, together / np.where(scale > 0, scale, 1), np.nan)
