"""Outcomes of patched runs: what is kept of the logits of every cell, kind of state and pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from analyses.inputs.stimuli import Stimuli
from analyses.inputs.stimuli.pairs import Pair
from probing.patching import contrast, divergence
from probing.patching.outcomes import mean_log_prob

Outcomes = dict[str, np.ndarray]
"""`log_odds`, `kl`, and changes of log-probability [kinds, cells, pairs]; `base`, `donor` [pairs]; `own` [2, cells]."""

CHANGES = ("up", "down", "shared", "other")


def masks(
    stimuli: Stimuli, question: str, pairs: Sequence[Pair], noising: bool
) -> list[Bool[np.ndarray, "pairs answers"]]:
    """The answer of the run that states come from and that of the patched run; hypernyms of both, and of neither."""
    sides = ("clean", "corrupted") if question == "leaf" else ("up", "down")
    own = [
        stimuli.answers_of(question, [getattr(pair, side) for pair in pairs])
        for side in (reversed(sides) if noising else sides)
    ]
    if question == "leaf":
        return own
    clean, corrupted = (
        stimuli.subject.own(question, np.array([getattr(pair, side) for pair in pairs]))
        for side in ("clean", "corrupted")
    )
    return [*own, clean & corrupted, ~clean & ~corrupted]


def outcomes_of(
    logits: Float[np.ndarray, "kinds cells pairs answers"],
    before: Float[np.ndarray, "pairs answers"],
    source: Float[np.ndarray, "pairs answers"],
    chosen: Sequence[Bool[np.ndarray, "pairs answers"]],
) -> Outcomes:
    """Log-odds, divergence, and changes of the log-probability of some answers.

    Args:
        logits: of patched runs.
        before: of the runs that are patched.
        source: of the runs that states come from.
        chosen: see `masks`.
    """
    outcomes = {
        "log_odds": contrast(logits, *chosen[:2]),
        "base": contrast(before, *chosen[:2]),
        "donor": contrast(source, *chosen[:2]),
        "kl": divergence(before, logits),
    }
    for name, mask in zip(CHANGES, chosen):
        outcomes[name] = mean_log_prob(logits, mask) - mean_log_prob(before, mask)
    return {name: np.asarray(value, np.float32) for name, value in outcomes.items()}


def joined(chunks: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of all pairs from those of their chunks; a run's own state is put back in the first."""
    first = chunks[0]
    return {
        name: value if name == "own" else np.concatenate([chunk[name] for chunk in chunks], -1)
        for name, value in first.items()
    }
