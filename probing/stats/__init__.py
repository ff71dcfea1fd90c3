"""Estimates with intervals: bootstrap over clusters, corrected permutation p, onset of an effect.

Make a statistic (`ClusterAUROC(scores, labels, clusters)`), draw weights once for all that shall be paired,
and summarise: `mean_estimate(statistic, draw_weights(len(statistic.clusters)))`.
"""

from probing.stats.auroc import ClusterAUROC
from probing.stats.bands import studentised_band, studentised_interval
from probing.stats.clusters import ClusterMean, ClusterStatistic, log_loss
from probing.stats.dyads import DyadMean, ratio_limits
from probing.stats.estimates import (
    DRAWS,
    Estimate,
    bounds_text,
    check_paired,
    contrast,
    draw_weights,
    estimate,
    estimate_text,
    interval,
    mean_estimate,
    permutation_p,
    q_values,
)
from probing.stats.limits import (
    OUT_OF_FOLD,
    OUT_OF_FOLD_BAND,
    OUT_OF_FOLD_DECISIONS,
    OUT_OF_FOLD_PARTLY,
    curve_over_runs,
    expanded,
    expanded_estimate,
    few_clusters,
    over_runs,
)
from probing.stats.onset import half_rise, lower_band, onset, onset_draws
from probing.stats.rates import ClusterRates
from probing.stats.undefined import divide, nan_mean

__all__ = [
    "DRAWS",
    "OUT_OF_FOLD",
    "OUT_OF_FOLD_BAND",
    "OUT_OF_FOLD_DECISIONS",
    "OUT_OF_FOLD_PARTLY",
    "ClusterAUROC",
    "ClusterMean",
    "ClusterRates",
    "ClusterStatistic",
    "DyadMean",
    "Estimate",
    "bounds_text",
    "check_paired",
    "contrast",
    "curve_over_runs",
    "divide",
    "draw_weights",
    "estimate",
    "estimate_text",
    "expanded",
    "expanded_estimate",
    "few_clusters",
    "half_rise",
    "interval",
    "log_loss",
    "lower_band",
    "mean_estimate",
    "nan_mean",
    "onset",
    "onset_draws",
    "over_runs",
    "permutation_p",
    "q_values",
    "ratio_limits",
    "studentised_band",
    "studentised_interval",
]
