"""Where along the layers an effect begins: simultaneous bands, the first layer detected, and the half-rise."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Bool, Float

from probing.stats.estimates import Estimate


def lower_band(
    value: Float[np.ndarray, " layers"],
    draws: Float[np.ndarray, "draws layers"],
    level: float = 0.95,
    inflation: float | Float[np.ndarray, " layers"] = 1.0,
) -> Float[np.ndarray, " layers"]:
    """Lower limit that holds for all layers at once with probability `level` (one-sided studentised maximum).

    `inflation` widens the band where the draws leave out a source of variance (`OUT_OF_FOLD_BAND`).

    >>> value = np.array([0.0, 0.1, 0.5])
    >>> draws = value + 0.05 * np.random.default_rng(0).normal(size=(200, 3))
    >>> lower_band(value, draws) > 0
    array([False,  True,  True])

    Source: Romano & Wolf 2005, JASA 100(469), algorithm 4.1, with the bootstrap standard error.
    """
    value, draws = np.asarray(value, float), np.asarray(draws, float)
    return value - inflation * _band_width(value, draws, level)


def onset(
    value: Float[np.ndarray, " layers"],
    draws: Float[np.ndarray, "draws layers"],
    n: int,
    floor: float = 0.0,
    level: float = 0.95,
    inflation: float | Float[np.ndarray, " layers"] = 1.0,
) -> Estimate:
    """First layer (an index into `value`) from which on the corrected lower limit stays above `floor`.

    Give the effect over its control, so that `floor` is 0. NaN when the last layer does not hold; a
    limit is infinite when that share of bootstrap draws has no onset.

    >>> value = np.array([0.0, 0.4, 0.5])
    >>> draws = value + 0.05 * np.random.default_rng(0).normal(size=(200, 3))
    >>> onset(value, draws, n=12)
    Estimate(value=1.0, lower=1.0, upper=1.0, n=12)
    """
    value_onset, firsts = onset_draws(value, draws, floor, level, inflation)
    lower, upper = np.quantile(firsts, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Estimate(
        float(value_onset) if np.isfinite(value_onset) else float("nan"), float(lower), float(upper), n
    )


def onset_draws(
    value: Float[np.ndarray, " layers"],
    draws: Float[np.ndarray, "draws layers"],
    floor: float = 0.0,
    level: float = 0.95,
    inflation: float | Float[np.ndarray, " layers"] = 1.0,
) -> tuple[float, Float[np.ndarray, " draws"]]:
    """The onset, and that of each bootstrap draw, infinite where there is none: for differences of paired onsets.

    >>> value = np.array([0.0, 0.4, 0.5])
    >>> draws = value + 0.05 * np.random.default_rng(0).normal(size=(200, 3))
    >>> first_layer, in_draws = onset_draws(value, draws)
    >>> first_layer, in_draws.shape
    (1.0, (200,))
    """
    value, draws = np.asarray(value, float), np.asarray(draws, float)
    width = inflation * _band_width(value, draws, level)
    return float(_first_to_stay(value[None] - width > floor)[0]), _first_to_stay(draws - width > floor)


def half_rise(
    value: Float[np.ndarray, " layers"], draws: Float[np.ndarray, "draws layers"], n: int
) -> Estimate:
    """First layer (an index into `value`) from which on at least half of the largest value is kept.

    Where an effect rises slowly it does not depend, as the onset does, on how small an effect can be detected. Limits
    are layers too; draws without such a layer are left out.

    >>> value = np.array([0.0, 0.1, 0.5, 0.6])
    >>> draws = value + 0.01 * np.random.default_rng(0).normal(size=(200, 4))
    >>> half_rise(value, draws, n=12)
    Estimate(value=2.0, lower=2.0, upper=2.0, n=12)
    """
    firsts = _first_half(draws)
    defined = firsts[~np.isnan(firsts)]
    limits = np.quantile(defined, [0.025, 0.975], method="inverted_cdf") if len(defined) else (np.nan, np.nan)
    return Estimate(float(_first_half(value[None])[0]), float(limits[0]), float(limits[1]), n)


def _first_half(curves: Float[np.ndarray, "draws layers"]) -> Float[np.ndarray, " draws"]:
    """NaN where the last layer keeps less than half."""
    low = curves < curves.max(axis=1, keepdims=True) / 2
    after = curves.shape[1] - np.argmax(low[:, ::-1], axis=1)
    return np.where(low.any(axis=1), np.where(after == curves.shape[1], np.nan, after), 0.0)


def _band_width(value, draws, level):
    """Half-width of the one-sided simultaneous band; undefined layers have an undefined width."""
    if draws.ndim != 2 or draws.shape[1] != len(value):
        raise ValueError(
            f"{len(value)} values but bootstrap draws of shape {draws.shape}; give draws as [draws, layers]"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Degrees of freedom", RuntimeWarning)
        spread = np.nanstd(draws, axis=0, ddof=1)
    deviation = np.where(spread > 0, (draws - value) / np.where(spread > 0, spread, 1), 0)
    largest = np.nan_to_num(deviation, nan=-np.inf).max(axis=1)
    return np.quantile(largest, level, method="inverted_cdf") * spread


def _first_to_stay(holds: Bool[np.ndarray, "draws layers"]) -> Float[np.ndarray, " draws"]:
    """First index from which every later entry holds; infinite where the last does not."""
    length = np.argmin(np.column_stack([holds[:, ::-1], np.zeros(len(holds), bool)]), axis=1)
    return np.where(length > 0, holds.shape[1] - length, np.inf)
