"""How far edited states lie from natural ones: percentiles of their distance among natural states of other clusters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.covariance import ledoit_wolf_shrinkage

from probing.probes.splits import grouped_folds
from probing.stats.undefined import refuse_undefined

UNNATURAL = 99.0
"""Percentile of natural states beyond which a state is called unnatural."""
_LEAST_SHRINKAGE = 1e-4  # directions in which no row varies keep a variance
_CHUNK = 256
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian of the tokens of a span, each about its own mean, and their rows as neighbours.

    Features are in their standard deviations, so that massive ones count as others do, and the covariance is drawn
    towards the identity by the share of Ledoit & Wolf 2004 (J. Multivar. Anal. 88): with fewer rows than features it is
    the leading subspace of the rows and an isotropic rest.
    """

    means: Float[np.ndarray, "k d"]
    scale: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "rank d"]
    excess: Float[np.ndarray, " rank"]
    rest: float
    rows: Float[np.ndarray, "n kd"]

    @classmethod
    def of(cls, states: Float[np.ndarray, "n k d"]) -> Gaussian:
        """That of these states."""
        means = states.mean(0)
        centred = (states - means).reshape(-1, states.shape[-1])
        spread = centred.std(0)
        scale = np.where(spread > 0, spread, max(float(spread.max()), 1e-30))
        scaled = centred / scale
        share = max(float(ledoit_wolf_shrinkage(scaled, assume_centered=True)), _LEAST_SHRINKAGE)
        mean_variance = float((scaled**2).mean())
        _, sizes, directions = np.linalg.svd(scaled, full_matrices=False)
        rest = share * max(mean_variance, 1e-30)
        variances = (1 - share) * sizes**2 / len(scaled) + rest
        return cls(means, scale, directions, 1 / variances - 1 / rest, rest, scaled.reshape(len(states), -1))

    def scaled(self, states: Float[np.ndarray, "n k d"]) -> Float[np.ndarray, "n k d"]:
        """Deviations from the tokens' means, in standard deviations of each feature."""
        return (states - self.means) / self.scale

    def distances(self, states: Float[np.ndarray, "n k d"]) -> Float[np.ndarray, " n"]:
        """Mahalanobis distance of each state, its tokens together."""
        x = self.scaled(states).reshape(-1, states.shape[-1])
        squares = (x**2).sum(-1) / self.rest + ((x @ self.directions.T) ** 2) @ self.excess
        return np.sqrt(np.maximum(squares.reshape(len(states), -1).sum(-1), 0))

    def to_neighbour(self, states: Float[np.ndarray, "n k d"]) -> Float[np.ndarray, " n"]:
        """Euclidean distance of each state to the nearest row, features in their standard deviations."""
        x, own = self.scaled(states).reshape(len(states), -1), (self.rows**2).sum(-1)
        squares = [
            ((part**2).sum(-1)[:, None] + own - 2 * part @ self.rows.T).min(-1)
            for part in (x[start : start + _CHUNK] for start in range(0, len(x), _CHUNK))
        ]
        return np.sqrt(np.maximum(np.concatenate(squares), 0))


_DISTANCES = {"mahalanobis": Gaussian.distances, "neighbour": Gaussian.to_neighbour}


@dataclass(frozen=True)
class Naturalness:
    """Natural states of a site and span, against which others are ranked.

    Natural states are ranked by what was fitted on other folds, so that those of a new leaf have uniform percentiles: a
    state fitted on would lie too near.

    >>> rng = np.random.default_rng(0)
    >>> leaves = np.repeat(np.arange(60), 2)
    >>> natural = Naturalness.fit(rng.normal(size=(120, 30)), leaves)
    >>> natural.percentile(np.stack([np.zeros(30), np.full(30, 3.0)]))
    array([  0., 100.])

    Attributes:
        others: fold → what was fitted on the states of all other folds.
        natural: kind of distance → fold → those of its own states, sorted.
        fold_of: leaf → the fold that holds it out.
    """

    others: Mapping[int, Gaussian]
    natural: Mapping[str, Mapping[int, Float[np.ndarray, " n"]]]
    fold_of: Mapping[str, int]

    @classmethod
    def fit(
        cls,
        states: Float[np.ndarray, "n *k d"],
        leaves: np.ndarray,
        fold: Int[np.ndarray, " n"] | None = None,
        folds: int = 3,
        seed: int = 0,
    ) -> Naturalness:
        """Of natural states [rows, width] or [rows, tokens, width] and the leaf (any cluster) of each row.

        Args:
            states: of a single site and span, as the model has them.
            leaves: of the rows; rows of one leaf are held out together.
            fold: that holds out each row; by default `folds` of them are drawn.
            folds: how many are drawn.
            seed: of the draw.

        Raises:
            ValueError: rows do not match, hold NaN or infinity, or are of fewer than two folds, or a leaf is in two.
        """
        refuse_undefined(states, "the natural states")
        states, names = _with_tokens(states), np.asarray(leaves).astype(str)
        if len(names) != len(states):
            raise ValueError(f"{len(states)} states and {len(names)} leaves were given; give one leaf a row")
        if fold is None:
            fold = grouped_folds(names, np.ones((len(names), 1)), folds, seed)
        fold_of = dict(zip(names.tolist(), np.asarray(fold).tolist()))
        if len(set(fold_of.values())) < 2 or any(fold_of[name] != at for name, at in zip(names, fold)):
            raise ValueError(
                f"natural states of {len(fold_of)} leaves lie in {len(set(fold_of.values()))} folds; give two or more, "
                "and all rows of a leaf in the same"
            )
        others = {at: Gaussian.of(states[fold != at]) for at in sorted(set(fold_of.values()))}
        natural = {
            name: {at: np.sort(distance(other, states[fold == at])) for at, other in others.items()}
            for name, distance in _DISTANCES.items()
        }
        return cls(others, natural, fold_of)

    def percentile(
        self, states: Float[np.ndarray, "n *k d"], leaves: np.ndarray | None = None
    ) -> Float[np.ndarray, " n"]:
        """Percentage of held-out natural states that lie no farther from their mean (Mahalanobis); uniform by chance.

        Args:
            states: edited ones, of the same site and span.
            leaves: whose states they were before the edit: what was fitted on them takes no part. Without them, or for
                an unknown one, the mean over all folds.

        Raises:
            ValueError: states of another shape, or with NaN or infinity.
        """
        return self._ranked(states, leaves, "mahalanobis")

    def neighbour_percentile(
        self, states: Float[np.ndarray, "n *k d"], leaves: np.ndarray | None = None
    ) -> Float[np.ndarray, " n"]:
        """The same of the distance to the nearest natural state, one of another leaf and fold."""
        return self._ranked(states, leaves, "neighbour")

    def _ranked(self, states, leaves: np.ndarray | None, distance: str) -> Float[np.ndarray, " n"]:
        refuse_undefined(states, "the edited states")
        states = _with_tokens(states)
        expected = next(iter(self.others.values())).means.shape
        if states.shape[1:] != expected:
            raise ValueError(
                f"states have shape {tuple(states.shape[1:])} a row, the natural ones {expected}; compare states of "
                "one site and span"
            )
        total, count = np.zeros(len(states)), np.zeros(len(states))
        for fold, chosen in self._of_folds(len(states), leaves):
            natural = self.natural[distance][fold]
            distances = _DISTANCES[distance](self.others[fold], states[chosen])
            nearer = np.searchsorted(natural, distances * (1 + _ROUNDING), side="right")
            total[chosen] += 100 * nearer / len(natural)
            count[chosen] += 1
        return total / count

    def _of_folds(self, n: int, leaves: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Which states are ranked by what each fold's others gave."""
        names = [None] * n if leaves is None else np.asarray(leaves).astype(str).tolist()
        known = [self.fold_of.get(name) if name is not None else None for name in names]
        for fold in self.others:
            chosen = np.array([at is None or at == fold for at in known], dtype=bool)
            if chosen.any():
                yield fold, chosen


def _with_tokens(states: Float[np.ndarray, "n *k d"]) -> Float[np.ndarray, "n k d"]:
    states = np.asarray(states, dtype=np.float64)
    return states[:, None] if states.ndim == 2 else states
