"""L-BFGS over a batch of L2 logistic regressions on the same rows, made of matrix products."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

from probing.probes.fitted import Array

_MEMORY = 8
_CURVATURE = 0.5
_TRIES = 30


@dataclass(frozen=True)
class Rotated:
    """Centred features in an orthogonal basis, then a column of ones; and the columns' squared lengths.

    The squared lengths only precondition: near ones do as well.
    """

    features: Float[Array, "n r"]
    squares: Float[Array, " r"]


@dataclass(frozen=True)
class Search:
    """Where L-BFGS stands on a batch of problems: per line a label row, data-row weights and a penalty.

    A problem is `classes` consecutive lines: one for a yes/no label, one per class for a choice among
    classes. It minimises Σ rows · log-loss + penalty/2 ‖w‖² with unpenalised intercepts (the last weights).
    """

    data: Rotated
    labels: Float[Array, "b n"]
    rows: Float[Array, "b n"] | None
    penalty: Float[Array, "b r"]
    weights: Float[Array, "b r"]
    logits: Float[Array, "b n"]
    gradient: Float[Array, "b r"]
    inverse: Float[Array, "b r"]
    classes: int = 1
    past: tuple[tuple[Array, Array, Array], ...] = ()

    @classmethod
    def begin(
        cls,
        data: Rotated,
        labels: Float[Array, "t n"],
        rows: Float[Array, "t n"] | None,
        penalties: Float[Array, "t p"],
        classes: int = 1,
    ) -> Search:
        """The problems of every label line at each of its penalties, at the weights that predict the base rate.

        There the Hessian is nearly diagonal in the rotated basis, so the first step is nearly a Newton step.
        """
        xp = array_namespace(labels)
        (t, n), repeats = labels.shape, penalties.shape[1]
        used = xp.ones_like(labels[:, 0]) * n if rows is None else xp.sum(rows, axis=1)
        prior = xp.sum(labels if rows is None else labels * rows, axis=1) / used
        prior = xp.clip(prior, 0.5 / n, 1 - 0.5 / n)
        gap = prior[:, None] - labels
        gradient = (gap if rows is None else gap * rows) @ data.features
        start = xp.log(prior / (1 - prior)) if classes == 1 else xp.log(prior)

        def spread(values: Array) -> Array:
            lines = xp.reshape(values, (t // classes, 1, classes, *values.shape[1:]))
            many = lines * xp.ones(
                (1, repeats, *[1] * (lines.ndim - 2)), dtype=lines.dtype, device=lines.device
            )
            return xp.reshape(many, (t * repeats, *values.shape[1:]))

        strength = xp.reshape(
            xp.permute_dims(xp.reshape(penalties, (t // classes, classes, repeats)), (0, 2, 1)), (-1, 1)
        )
        intercept = xp.concat([xp.zeros_like(data.squares[:-1]), xp.ones_like(data.squares[-1:])])
        penalty = strength * (1 - intercept)
        bend = spread(prior * (1 - prior) * used / n)[:, None]
        weights = spread(start)[:, None] * intercept
        logits = spread(start)[:, None] + xp.zeros_like(labels[:1])
        inverse = 1 / (bend * data.squares + penalty)
        labels, rows = spread(labels), None if rows is None else spread(rows)
        return cls(data, labels, rows, penalty, weights, logits, spread(gradient), inverse, classes)

    def take(self, kept: np.ndarray) -> Search:
        """The same for some of the problems, by a mask over lines."""
        places = array_namespace(self.weights).asarray(np.flatnonzero(kept), device=self.weights.device)
        rows = None if self.rows is None else self.rows[places]
        parts = (self.penalty, self.weights, self.logits, self.gradient, self.inverse)
        past = tuple((moved[places], changed[places], scale[places]) for moved, changed, scale in self.past)
        penalty, weights, logits, gradient, inverse = (part[places] for part in parts)
        labels = self.labels[places]
        return Search(
            self.data, labels, rows, penalty, weights, logits, gradient, inverse, self.classes, past
        )

    def dot(self, first: Array, second: Array) -> Array:
        """Inner product of each problem, on each of its lines."""
        xp = array_namespace(first)
        lines = xp.sum(first * second, axis=1)
        if self.classes == 1:
            return lines
        grouped = xp.reshape(lines, (-1, self.classes))
        return xp.reshape(xp.zeros_like(grouped) + xp.sum(grouped, axis=1, keepdims=True), (-1,))

    def residual(self, logits: Array) -> Array:
        """Slope of each row's loss in its logits."""
        xp = array_namespace(logits)
        if self.classes == 1:
            gap = xp.tanh(logits * 0.5)
            gap *= 0.5
            gap += 0.5
        else:
            grouped = xp.reshape(logits, (-1, self.classes, logits.shape[1]))
            gap = xp.exp(grouped - xp.max(grouped, axis=1, keepdims=True))
            gap = xp.reshape(gap / xp.sum(gap, axis=1, keepdims=True), logits.shape)
        gap -= self.labels
        return gap if self.rows is None else gap * self.rows

    def excess(self) -> Array:
        """About how far each loss is above its minimum (half the Newton decrement), in nats a row."""
        return self.dot(self.gradient, self.gradient * self.inverse) / (2 * self.labels.shape[1])

    def step(self) -> Search:
        """The state after a line search along the quasi-Newton direction."""
        direction = -self._descend()
        length, logits, residual = self._along(direction)
        moved = direction * length[:, None]
        weights = self.weights + moved
        gradient = residual @ self.data.features + self.penalty * weights
        changed = gradient - self.gradient
        scale = _inverse(self.dot(moved, changed))
        past = (*self.past, (moved, changed, scale))[-_MEMORY:]
        return replace(self, weights=weights, logits=logits, gradient=gradient, past=past)

    def _along(self, direction: Array) -> tuple[Array, Array, Array]:
        """Step length at which the slope along the direction is small, and logits and residuals there.

        The loss is convex, so its slope grows along the direction and every length tried brackets the
        minimum.
        """
        xp = array_namespace(direction)
        along = direction @ self.data.features.T
        pull = self.penalty * direction
        slope, fixed = self.dot(direction, self.gradient), self.dot(pull, self.weights)
        curve = self.dot(pull, direction)
        length, low = xp.ones_like(slope), xp.zeros_like(slope)
        high = low + xp.inf
        logits, residual = self.logits, along
        for _ in range(_TRIES):
            logits = self.logits + along * length[:, None]
            residual = self.residual(logits)
            new = self.dot(residual, along) + fixed + length * curve
            off = xp.abs(new) > -_CURVATURE * slope
            if not bool(xp.any(off)):
                break
            low, high = xp.where(new < 0, length, low), xp.where(new > 0, length, high)
            secant = xp.where(off, length * slope / xp.where(off, slope - new, -xp.ones_like(slope)), length)
            inside = (secant > low * 1.1) & (secant < high)
            middle = xp.where(high < xp.inf, (low + high) / 2, length * 4)
            length = xp.where(off, xp.where(inside, secant, middle), length)
        return length, logits, residual

    def _descend(self) -> Array:
        """Inverse Hessian estimate times the gradient (two-loop recursion)."""
        xp = array_namespace(self.gradient)
        result, shares = self.gradient, []
        for moved, changed, scale in self.past[::-1]:
            shares.append((scale * self.dot(moved, result))[:, None])
            result = result - shares[-1] * changed
        result = self.inverse * result
        if self.past:
            moved, changed, _ = self.past[-1]
            gain = self.dot(moved, changed) * _inverse(self.dot(changed * self.inverse, changed))
            result = result * xp.where(gain > 0, gain, xp.ones_like(gain))[:, None]
        for (moved, changed, scale), share in zip(self.past, shares[::-1]):
            result = result + (share - (scale * self.dot(changed, result))[:, None]) * moved
        return result


def solve(
    search: Search, tolerance: float, iterations: int = 2_000
) -> tuple[Float[Array, "b r"], Float[Array, " b"]]:
    """Weights of every line, and by how many nats a row its loss may still exceed the minimum.

    Problems that are within `tolerance` leave the batch, so the work shrinks with them.

    Source: Nocedal & Wright 2006, Numerical Optimization, algorithms 7.4 and 7.5; the initial inverse Hessian
    is that of a quadratic with constant row weights p(1 − p), diagonal in the principal axes.
    """
    xp = array_namespace(search.weights)
    weights, left = xp.zeros_like(search.weights), xp.zeros_like(search.weights[:, 0])
    active = np.arange(len(weights))
    for turn in range(iterations + 1):
        excess = search.excess()
        done = np.asarray((excess <= tolerance).tolist()) | (turn == iterations)
        if done.any():
            finished = xp.asarray(active[done], device=weights.device)
            gone = xp.asarray(np.flatnonzero(done), device=weights.device)
            weights[finished], left[finished] = search.weights[gone], excess[gone]
            if done.all():
                break
            active, search = active[~done], search.take(~done)
        search = search.step()
    return weights, left


def _inverse(values: Any) -> Any:
    xp = array_namespace(values)
    return xp.where(values > 0, 1 / xp.where(values > 0, values, xp.ones_like(values)), xp.zeros_like(values))
