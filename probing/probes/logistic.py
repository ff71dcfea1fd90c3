"""Logistic probes: the L2 path of many targets at once, one-vs-rest and multinomial."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array
from jaxtyping import Float, Int, Shaped
from scipy import linalg

from probing.probes.fitted import Array, FittedProbes, Standardizer, like
from probing.probes.linear import PENALTIES, Decomposition, check_penalties, least_errors
from probing.probes.quasi_newton import Rotated, Search, solve
from probing.probes.splits import grouped_folds

#: Nats a row above the least loss, by the solver's estimate; scikit-learn's default leaves 1e-6 to 1e-4.
TOLERANCE = 3e-6
INNER_FOLDS = 3
_FLOAT64_BELOW = 1e-7
_ENTRIES = 20_000_000
_AXES, _ROUNDS = 256, 2


def logistic_path(
    features: Float[Array, "n d"],
    labels: Float[Array, "n t"],
    penalties: tuple[float, ...] = PENALTIES,
    tolerance: float = TOLERANCE,
    multinomial: bool = False,
) -> tuple[Float[Array, "p d t"], Float[Array, "p t"]]:
    """Coefficients and intercepts of every target at every penalty, the intercept unpenalised.

    Minimises Σ log-loss + penalty/2 ‖w‖², as scikit-learn's `LogisticRegression(C=1/penalty)`; features are
    taken as they are. With `multinomial` the label columns are the classes of one choice and sum to 1.
    """
    xp = array_namespace(features)
    check_penalties(penalties)
    if multinomial and not bool(xp.all(xp.sum(like(labels, features), axis=1) == 1)):
        raise ValueError("multinomial labels need exactly one class a row; found rows with none or several")
    data, mean, back = _rotate(features, tolerance)
    lines = _lines(labels, data.features)
    classes = len(lines) if multinomial else 1
    strength = like(np.tile(penalties, (len(lines), 1)), features)
    weights = _solve(data, lines, None, strength, tolerance, classes)
    shape = (len(penalties), len(lines), -1) if multinomial else (len(lines), len(penalties), -1)
    weights = xp.permute_dims(xp.reshape(weights, shape), (0, 2, 1) if multinomial else (1, 2, 0))
    path = back @ weights[:, :-1]
    return path, weights[:, -1] - (mean @ path)[:, 0]


def fit_logistic(
    features: Float[Array, "n d"],
    labels: Float[Array, "n t"],
    groups: Shaped[np.ndarray, " n"],
    penalties: tuple[float, ...] = PENALTIES,
    blocks: int = 1,
) -> FittedProbes:
    """Logistic probes of all targets, each at the penalty with the least log-loss on inner folds of whole groups.

    Label columns may come as several `blocks` of the same targets, as for `fit_ridge`.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(40)[:, None] % 2 == 0
    >>> probes = fit_logistic(rng.normal(size=(40, 3)) + 3 * labels, labels.astype(float), groups=np.arange(40) // 4)
    >>> (probes.directions() > 0).ravel()
    array([ True,  True,  True])
    """
    check_penalties(penalties)
    xp = array_namespace(features)
    standardizer = Standardizer.fit(features)
    data, mean, back = _rotate(standardizer(features), TOLERANCE)
    lines = _lines(labels, data.features)
    targets = len(lines) // blocks
    best = _best_penalties(data, lines[:targets], groups, penalties) if len(penalties) > 1 else [0] * targets
    penalty = like(np.tile(np.asarray(penalties)[best], blocks), features)
    weights = _solve(data, lines, None, penalty[:, None], TOLERANCE, 1).T
    coefficients = back @ weights[:-1]
    ones = xp.ones_like(penalty)
    intercept = weights[-1] - (mean @ coefficients)[0]
    return FittedProbes(standardizer, coefficients, intercept, penalty, ones, 0 * ones)


def _best_penalties(
    data: Rotated, lines: Float[Array, "t n"], groups: np.ndarray, penalties: tuple[float, ...]
) -> Int[np.ndarray, " t"]:
    """Index of the penalty with the least log-loss on held-out groups; all inner folds are one batch."""
    xp = array_namespace(lines)
    n, p, t = lines.shape[1], len(penalties), lines.shape[0]
    folds = min(INNER_FOLDS, len(np.unique(groups)))
    fold = grouped_folds(groups, np.asarray(lines.T.tolist()) > 0.5, folds)
    held = [xp.astype(xp.asarray(fold == f, device=device(lines)), lines.dtype)[None] for f in range(folds)]
    many, out = xp.concat([lines] * folds), xp.concat([mask + 0 * lines for mask in held])
    strength = like(np.tile(penalties, (t * folds, 1)), lines)
    weights = xp.astype(_solve(data, many, 1 - out, strength, TOLERANCE, 1), lines.dtype)
    loss = xp.zeros((p, t), dtype=lines.dtype, device=device(lines))
    for f, mask in enumerate(held):
        fold_weights = xp.reshape(weights, (folds, t, p, -1))[f]
        for k in range(p):
            logits = fold_weights[:, k] @ data.features.T
            nats = xp.maximum(logits, 0 * logits) - lines * logits + xp.log1p(xp.exp(-xp.abs(logits)))
            loss[k] += xp.sum(nats * mask, axis=1) / n
    return least_errors(loss)


def _solve(
    data: Rotated,
    lines: Float[Array, "t n"],
    rows: Float[Array, "t n"] | None,
    penalties: Float[Array, "t p"],
    tolerance: float,
    classes: int,
) -> Float[Array, "tp r"]:
    """Weights in float64, lines of labels taken in parts that fit memory."""
    xp = array_namespace(lines)
    step = len(lines) if classes > 1 else max(1, _ENTRIES // (lines.shape[1] * penalties.shape[1]))
    penalties, solutions = xp.astype(penalties, lines.dtype), []
    for start in range(0, len(lines), step):
        part = slice(start, start + step)
        chosen = None if rows is None else rows[part]
        search = Search.begin(data, lines[part], chosen, penalties[part], classes)
        solutions.append(xp.astype(solve(search, tolerance)[0], xp.float64))
    return xp.concat(solutions)


def _rotate(
    features: Float[Array, "n d"], tolerance: float
) -> tuple[Rotated, Float[Array, "1 d"], Float[Array, "d r"]]:
    """Centred features in their principal axes, their mean, and the map of weights back; the last two float64.

    Of very wide features only the leading axes are principal, the others any that are orthogonal.

    float32 is exact enough for the usual tolerance and twice as fast; the map never divides by a rounding
    error.
    """
    xp = array_namespace(features)
    features = xp.astype(features, xp.float64)
    mean = xp.mean(features, axis=0, keepdims=True)
    features = features - mean
    exact = tolerance < _FLOAT64_BELOW
    n, d = features.shape
    if n > d:
        narrow = features if exact else xp.astype(features, xp.float32)
        if d < 4 * _AXES:
            basis = _eigenvectors(narrow.T @ narrow)
            rotated = narrow @ basis
        else:
            rotated, basis = _lead(narrow)
        squares, back = xp.sum(rotated**2, axis=0), xp.astype(basis, xp.float64)
    else:
        parts = Decomposition.of(features)
        varying = parts.squares > parts.squares[-1] * n * xp.finfo(xp.float64).eps
        left, squares = parts.left[:, varying], parts.squares[varying]
        rotated, back = left * squares**0.5, features.T @ (left / squares**0.5)
    dtype = xp.float64 if exact else xp.float32
    rotated, squares = xp.astype(rotated, dtype), xp.clip(xp.astype(squares, dtype), 0.0, None)
    ones = xp.ones((n, 1), dtype=dtype, device=device(features))
    return Rotated(xp.concat([rotated, ones], axis=1), xp.concat([squares, xp.sum(ones, axis=0)])), mean, back


def _eigenvectors(gram: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Eigenvectors in the type given; NumPy would go through float64, at twice the time."""
    if is_numpy_array(gram):
        return linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)[1]
    return array_namespace(gram).linalg.eigh(gram)[1]


def _lead(features: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Float[Array, "d d"]]:
    """Features in an orthogonal basis whose first axes nearly are the leading principal ones, and the basis.

    The axes V come from subspace iteration; an orthogonal matrix that begins with them is I + B C Bᵀ, where
    B = V − E S, E is the first columns of the identity, S minus the polar factor of EᵀV and C = (VᵀE S − I)⁻¹.

    Source: Halko, Martinsson & Tropp 2011, SIAM Review 53(2), algorithm 4.4; Schreiber & Parlett 1988, SIAM J.
    Numer. Anal. 25(1) (block reflectors).
    """
    xp = array_namespace(features)
    d = features.shape[1]
    axes = like(np.random.default_rng(0).standard_normal((d, _AXES)), features)
    axes = xp.astype(axes, features.dtype)
    for _ in range(_ROUNDS):
        axes = xp.linalg.qr(features.T @ (features @ axes))[0]
    seen = features @ axes
    axes = axes @ xp.linalg.eigh(seen.T @ seen)[1]
    left, sizes, right = xp.linalg.svd(axes[:_AXES], full_matrices=False)
    first = -(left @ right)
    shift = xp.asarray(axes, copy=True)
    shift[:_AXES] -= first
    # (VᵀE S − I)⁻¹ = −R (Σ + I)⁻¹ Rᵀ with EᵀV = L Σ Rᵀ
    middle = -(right.T / (sizes + 1)) @ right
    rotated = features + ((features @ shift) @ middle) @ shift.T
    rotated[:, :_AXES] = features @ axes
    basis = xp.astype(like(np.eye(d), features), features.dtype) + (shift @ middle) @ shift.T
    basis[:, :_AXES] = axes
    return rotated, basis


def _lines(labels: Any, features: Float[Array, "n r"]) -> Float[Array, "t n"]:
    """Label columns as lines, in the type of the features."""
    xp = array_namespace(features)
    return xp.astype(like(labels, features), features.dtype).T
