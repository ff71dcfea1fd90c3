"""Outcomes of exchanges: does the answer follow the source in its hypernym, and stay with the base in all else?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from analyses.inputs.stimuli import Stimuli
from analyses.interchange.pairs import Exchange
from analyses.interchange.sides import Change

Logits = Float[np.ndarray, "edits pairs answers"]


def hypernym_outcomes(
    stimuli: Stimuli, pairs: Sequence[Exchange], logits: Logits
) -> dict[str, Float[np.ndarray, "edits pairs"]]:
    """Of every pair under every edit, from the answers to "a kind of …".

    `accuracy` is whether the source's hypernym is preferred to the base's (chance .5), `top_1` whether the first of all
    answers is a hypernym of the source alone, `log_odds` the log-odds of the two hypernyms in nats, `other` the share
    of right orders among hypernyms that base and source share and such as neither has (chance .5; NaN where they
    share none).
    """
    own_base, own_source = (
        stimuli.subject.own("hypernym", np.array([getattr(pair, side) for pair in pairs]))
        for side in ("base", "source")
    )
    up, down = (
        stimuli.answers_of("hypernym", [getattr(pair, end) for pair in pairs]) for end in ("up", "down")
    )
    log_odds = np.where(up, logits, 0).sum(-1) - np.where(down, logits, 0).sum(-1)
    first = np.eye(logits.shape[-1], dtype=bool)[logits.argmax(-1)]
    return {
        "accuracy": (log_odds > 0).astype(float),
        "top_1": (first & own_source & ~own_base).any(-1).astype(float),
        "log_odds": log_odds,
        "other": _ordered(logits, own_base & own_source, ~own_base & ~own_source),
    }


def leaf_outcomes(
    stimuli: Stimuli, pairs: Sequence[Exchange], logits: Logits
) -> Float[np.ndarray, "edits pairs"]:
    """Whether "also called …" names the base's leaf first among the leaves of its hypernym; see `leaf_chance`."""
    inside = _siblings(stimuli, pairs)
    own = stimuli.answers_of("leaf", [pair.base for pair in pairs])
    best = np.where(inside, logits, -np.inf).argmax(-1)
    return np.take_along_axis(np.broadcast_to(own, logits.shape), best[..., None], -1)[..., 0].astype(float)


def chances(stimuli: Stimuli, pairs: Sequence[Exchange]) -> dict[str, float]:
    """What each measure would be were all answers alike: one of the names at hand, drawn blindly."""
    own_base, own_source = (
        stimuli.subject.own("hypernym", np.array([getattr(pair, side) for pair in pairs]))
        for side in ("base", "source")
    )
    return {
        "accuracy": 0.5,
        "top_1": float((own_source & ~own_base).mean()),
        "other": 0.5,
        "leaf": float((1 / _siblings(stimuli, pairs).sum(1)).mean()),
    }


def moved(
    difference: Float[np.ndarray, "pairs n d"], changes: Sequence[Change]
) -> Float[np.ndarray, "edits pairs"]:
    """Squared length of each change over that of the whole difference of source and base."""
    whole = (difference**2).sum((1, 2))
    whole = np.where(whole > 0, whole, np.nan)
    return np.stack([(change(difference) ** 2).sum((1, 2)) / whole for change in changes])


def _siblings(stimuli: Stimuli, pairs: Sequence[Exchange]) -> Bool[np.ndarray, "pairs answers"]:
    """The answers that name a leaf under the base's hypernym."""
    taxonomy = stimuli.subject.run.taxonomy
    return np.stack([stimuli.answers_of("leaf", taxonomy.leaves_of(pair.down)).any(0) for pair in pairs])


def _ordered(
    logits: Logits, right: Bool[np.ndarray, "pairs answers"], wrong: Bool[np.ndarray, "pairs answers"]
) -> Float[np.ndarray, "edits pairs"]:
    """The share of (right, wrong) answers in the right order, ties half; NaN where either is none."""
    shares = np.full(logits.shape[:2], np.nan)
    for at in np.flatnonzero(right.any(1) & wrong.any(1)):
        ahead = logits[:, at, right[at]][:, :, None] - logits[:, at, wrong[at]][:, None]
        shares[:, at] = ((ahead > 0) + 0.5 * (ahead == 0)).mean((1, 2))
    return shares
