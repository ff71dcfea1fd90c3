"""Controls as strong as an edit: the factor by which each is scaled until its effect is that of the edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Effect = Callable[[Int[np.ndarray, " chosen"], Float[np.ndarray, " chosen"]], Float[np.ndarray, " chosen"]]
"""From controls (by number) and the factors by which they are scaled to their effects, each 0 or more."""
TOLERANCE = 0.05
"""Share by which a matched effect may differ from the wanted one."""
FARTHEST = 64.0
"""Factor beyond which, or below whose inverse, no control is scaled."""
_GUESSES, _TRIES = 4, 12


@dataclass(frozen=True)
class Scales:
    """How far each control is scaled, and whether its effect then is the wanted one; the nearest one tried if not."""

    factor: Float[np.ndarray, " controls"]
    reached: Bool[np.ndarray, " controls"]


def match_effect(
    effect: Effect,
    wanted: Float[np.ndarray, " controls"],
    first: Float[np.ndarray, " controls"] | None = None,
) -> Scales:
    """The factor at which each control has the wanted effect.

    By bisection, in logarithms, between a factor whose effect is smaller and one whose effect is larger; the first
    tries take the effect for a quadratic, as divergences of small steps are. An effect that levels off below the wanted
    one, or jumps over it, is not reached.

    >>> stiffness = np.array([1.0, 4.0])
    >>> scales = match_effect(lambda chosen, factor: stiffness[chosen] * factor**2, np.array([9.0, 9.0]))
    >>> scales.factor.round(2), scales.reached
    (array([3. , 1.5]), array([ True,  True]))

    Args:
        effect: called with the controls that are not matched yet.
        wanted: of each control.
        first: effects at factor 1, where they are known.
    """
    wanted = np.asarray(wanted, float)
    factor, best, error = np.ones(len(wanted)), np.ones(len(wanted)), np.full(len(wanted), np.inf)
    low, high = np.full(len(wanted), 1 / FARTHEST), np.full(len(wanted), FARTHEST)
    for tries in range(_TRIES):
        open_ = np.flatnonzero(error > TOLERANCE)
        if not len(open_):
            break
        effects = first if tries == 0 and first is not None else effect(open_, factor[open_])
        ratio = np.asarray(effects, float) / wanted[open_]
        off = np.where(np.isfinite(ratio), np.abs(ratio - 1), np.inf)
        nearer = off < error[open_]
        best[open_] = np.where(nearer, factor[open_], best[open_])
        error[open_] = np.where(nearer, off, error[open_])
        low[open_] = np.where(ratio < 1, np.maximum(low[open_], factor[open_]), low[open_])
        high[open_] = np.where(ratio < 1, high[open_], np.minimum(high[open_], factor[open_]))
        with np.errstate(divide="ignore", invalid="ignore"):
            guess = factor[open_] / np.sqrt(ratio)
        usable = (tries < _GUESSES) & (guess > low[open_]) & (guess < high[open_])
        factor[open_] = np.where(usable, guess, np.sqrt(low[open_] * high[open_]))
    return Scales(best, error <= TOLERANCE)
