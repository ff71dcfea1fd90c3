"""Outcomes of patched runs, from logits of candidates: log-odds, restored fraction, divergence of the answers."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Bool, Float

Array = Any
LEAST = 1e-6
"""Nats by which clean and corrupted must differ for a fraction of their difference to mean anything."""


def contrast(
    logits: Float[Array, "*cells rows k"], up: Bool[Array, "rows k"], down: Bool[Array, "rows k"]
) -> Float[Array, "*cells rows"]:
    """Log-odds, in nats: the mean logit of some candidates minus that of others; NaN where either is none.

    >>> import numpy as np
    >>> logits = np.array([[2.0, 0.0, 1.0]])
    >>> contrast(logits, np.array([[True, False, False]]), np.array([[False, True, True]]))
    array([1.5])
    """
    return _mean_of(logits, up) - _mean_of(logits, down)


def log_softmax(logits: Float[Array, "*cells rows k"]) -> Float[Array, "*cells rows k"]:
    """Log-probability of each candidate among the candidates, in nats."""
    xp = array_namespace(logits)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def mean_log_prob(
    logits: Float[Array, "*cells rows k"], which: Bool[Array, "rows k"]
) -> Float[Array, "*cells rows"]:
    """Mean log-probability, among the candidates, of some of them; NaN where there is none."""
    return _mean_of(log_softmax(logits), which)


def divergence(
    before: Float[Array, "rows k"], after: Float[Array, "*cells rows k"]
) -> Float[Array, "*cells rows"]:
    """Kullback-Leibler divergence of the answers after from those before, over the candidates, in nats; 0 or more.

    >>> import numpy as np
    >>> before = np.log(np.array([[0.5, 0.5]]))
    >>> divergence(before, np.log(np.array([[0.9, 0.1]]))).round(3)
    array([0.511])
    """
    xp = array_namespace(before, after)
    first, second = log_softmax(before), log_softmax(after)
    return xp.sum(xp.exp(first) * (first - second), axis=-1)


def restored_fraction(
    clean: Float[Array, " rows"],
    corrupted: Float[Array, " rows"],
    patched: Float[Array, "*cells rows"],
    least: float = LEAST,
) -> Float[Array, "*cells rows"]:
    """(patched − corrupted) / (clean − corrupted): 0 where a patch does nothing, 1 where it brings the clean run back.

    NaN where clean and corrupted differ by less than `least`: nothing is there to be restored.

    >>> import numpy as np
    >>> restored_fraction(np.array([4.0]), np.array([0.0]), np.array([[1.0], [4.0]])).ravel()
    array([0.25, 1.  ])

    Source: Wang et al. 2023, arXiv:2211.00593 (logit differences); Zhang & Nanda 2024, arXiv:2309.16042.
    """
    xp = array_namespace(clean, corrupted, patched)
    gap = clean - corrupted
    differ = xp.abs(gap) >= least
    fraction = (patched - corrupted) / xp.where(differ, gap, xp.ones_like(gap))
    return xp.where(differ, fraction, xp.full_like(fraction, xp.nan))


def _mean_of(values, which):
    xp = array_namespace(values, which)
    weights = xp.astype(which, values.dtype)
    count = xp.sum(weights, axis=-1)
    total = xp.sum(values * weights, axis=-1)
    mean = total / xp.where(count > 0, count, xp.ones_like(count))
    return xp.where(count > 0, mean, xp.full_like(mean, xp.nan))
