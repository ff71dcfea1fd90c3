"""The tuned lens: an affine map from a layer's states to those of the last layer, fitted on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Shaped

from probing.probes.fitted import Standardizer
from probing.probes.linear import check_penalties, ridge_path
from probing.probes.splits import grouped_folds

Array = Any
PENALTIES = tuple(float(p) for p in np.logspace(-1, 5, 7))
_INNER_FOLDS = 5


@dataclass(frozen=True)
class Translator:
    """An affine map from the residual stream of one layer to the one that enters the final norm.

    >>> hidden = np.random.default_rng(0).normal(size=(40, 3))
    >>> translate = fit_translator(hidden, 2 * hidden + 1, np.arange(40) // 4)
    >>> bool(np.allclose(translate(hidden), 2 * hidden + 1, atol=0.1))
    True
    """

    standardizer: Standardizer
    matrix: Float[Array, "d d"]
    offset: Float[Array, " d"]
    penalty: float

    def __call__(self, hidden: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The linear prediction of the last layer's state, on which a logit lens is applied."""
        return self.standardizer(hidden) @ self.matrix + self.offset


def fit_translator(
    hidden: Float[Array, "n d"],
    final: Float[Array, "n d"],
    groups: Shaped[np.ndarray, " n"],
    penalties: tuple[float, ...] = PENALTIES,
) -> Translator:
    """The translator of a layer: a ridge from its rows to those of the last layer, the penalty by held-out groups.

    The penalty is the one of the least squared error, each dimension in units of its spread, on a fifth of the groups;
    the map is then fitted on all rows.

    >>> hidden = np.random.default_rng(0).normal(size=(40, 3))
    >>> fit_translator(hidden, hidden[:, ::-1].copy(), np.arange(40) // 4).penalty
    0.1

    Source: Belrose et al. 2023, arXiv:2303.08112, "Eliciting latent predictions from transformers with the tuned lens",
    section 3. They minimise the KL divergence from the model's final distribution by gradient descent on text; here the
    squared error in the last layer's residual stream is minimised in closed form, on the rows at hand. It needs far
    fewer rows, and asks for more than the distribution: dimensions that the output embedding ignores count as well.

    Raises:
        ValueError: rows do not match, or there are fewer than two groups.
    """
    check_penalties(penalties)
    if hidden.shape != final.shape or len(groups) != hidden.shape[0]:
        raise ValueError(
            f"rows of the layer {tuple(hidden.shape)}, of the last layer {tuple(final.shape)}, groups {len(groups)}: "
            "give the same rows of one model"
        )
    xp = array_namespace(hidden)
    names = np.unique(groups)
    if len(names) < 2:
        raise ValueError("a penalty is chosen on held-out groups, found one group; give rows of two or more")
    fold = grouped_folds(
        np.asarray(groups), np.zeros((len(groups), 1), dtype=bool), min(_INNER_FOLDS, len(names))
    )
    inner, outer = (xp.asarray(np.flatnonzero(part)) for part in (fold != 0, fold == 0))
    source, goal = Standardizer.fit(hidden), Standardizer.fit(final)
    x, y = source(hidden), goal(final)
    path, offsets = ridge_path(xp.take(x, inner, axis=0), xp.take(y, inner, axis=0), penalties)
    errors = [
        float(xp.mean((xp.take(x, outer, axis=0) @ matrix + offset - xp.take(y, outer, axis=0)) ** 2))
        for matrix, offset in zip(path, offsets)
    ]
    penalty = penalties[int(np.argmin(errors))]
    path, offsets = ridge_path(x, y, (penalty,))
    scale = goal.scale[0]
    return Translator(source, path[0] * scale, offsets[0] * scale + goal.mean[0], penalty)
