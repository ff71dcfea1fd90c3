"""Ridge probes in closed form: the whole penalty path from one Gram matrix, and leave-one-group-out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from jaxtyping import Float, Int, Shaped
from scipy.linalg import cho_factor, cho_solve

from probing.probes.fitted import Array, FittedProbes, Standardizer, like, platt

PENALTIES = tuple(float(p) for p in np.logspace(0, 6, 9))
_FACTORS = 16


@dataclass(frozen=True)
class Decomposition:
    """Centred features X = U S Vᵀ, stored as U, S² and the map back to coefficients.

    With fewer rows than features (`dual`) it comes from the Gram matrix X Xᵀ, else from XᵀX.
    """

    features: Float[Array, "n d"]
    left: Float[Array, "n r"]
    squares: Float[Array, " r"]
    right: Float[Array, "d r"] | None

    @classmethod
    def of(cls, features: Float[Array, "n d"]) -> "Decomposition":
        """The decomposition of float64 features whose columns have mean 0."""
        xp = array_namespace(features)
        n, d = features.shape
        if n <= d:
            squares, left = xp.linalg.eigh(features @ features.T)
            return cls(features, left, xp.clip(squares, 0.0, None), None)
        squares, right = xp.linalg.eigh(features.T @ features)
        squares = xp.clip(squares, 0.0, None)
        varying = squares > squares[-1] * max(n, d) * xp.finfo(features.dtype).eps
        inverse = xp.where(
            varying, 1 / xp.where(varying, squares, xp.ones_like(squares)) ** 0.5, xp.zeros_like(squares)
        )
        return cls(features, (features @ right) * inverse, squares, right)

    def coefficients(
        self, projected: Float[Array, "r t"], penalty: Float[Array, " t"]
    ) -> Float[Array, "d t"]:
        """Ridge coefficients of each target at its own penalty; `projected` is Uᵀ y."""
        if self.right is None:
            return self.features.T @ (self.left @ (projected / (self.squares[:, None] + penalty[None, :])))
        shrunk = self.squares[:, None] ** 0.5 / (self.squares[:, None] + penalty[None, :])
        return self.right @ (projected * shrunk)


def ridge_path(
    features: Float[Array, "n d"], labels: Float[Array, "n t"], penalties: tuple[float, ...] = PENALTIES
) -> tuple[Float[Array, "p d t"], Float[Array, "p t"]]:
    """Coefficients and intercepts of every target at every penalty, the intercept unpenalised.

    Minimises ‖y − Xw − b‖² + penalty ‖w‖², as scikit-learn's `Ridge(alpha=penalty)`; features are taken as
    they are.

    Source: Hoerl & Kennard 1970, Technometrics 12(1), eq. 2.1; Saunders, Gammerman & Vovk 1998, ICML (dual
    form).
    """
    xp = array_namespace(features)
    check_penalties(penalties)
    features, labels = xp.astype(features, xp.float64), like(labels, features)
    mean, base = xp.mean(features, axis=0, keepdims=True), xp.mean(labels, axis=0, keepdims=True)
    centred, wanted, dual = features - mean, labels - base, features.shape[0] <= features.shape[1]
    gram = centred @ centred.T if dual else centred.T @ centred
    solved = _solve_shifted(gram, wanted if dual else centred.T @ wanted, penalties)
    coefficients = centred.T @ solved if dual else solved
    path = xp.permute_dims(xp.reshape(coefficients, (-1, len(penalties), labels.shape[1])), (1, 0, 2))
    return path, base - (mean @ path)[:, 0, :]


def _solve_shifted(
    gram: Float[Array, "r r"], wanted: Float[Array, "r t"], penalties: tuple[float, ...]
) -> Float[Array, "r pt"]:
    """(G + penalty I)⁻¹ B for every penalty, side by side.

    A Cholesky factor takes about a twentieth of the time of the eigenvectors, which serve any number of
    penalties and those that vanish beside the rounding of G.
    """
    xp = array_namespace(gram)
    rounding = float(xp.linalg.trace(gram)) * xp.finfo(gram.dtype).eps
    if len(penalties) <= _FACTORS and penalties[0] > 1e4 * rounding:
        return xp.concat([_solve_positive(_shifted(gram, penalty), wanted) for penalty in penalties], axis=1)
    squares, basis = xp.linalg.eigh(gram)
    projected, squares = basis.T @ wanted, xp.clip(squares, 0.0, None)
    return basis @ xp.concat([projected / (squares[:, None] + penalty) for penalty in penalties], axis=1)


def _shifted(gram: Float[Array, "r r"], penalty: float) -> Float[Array, "r r"]:
    xp = array_namespace(gram)
    shifted = xp.asarray(gram, copy=True)
    diagonal = np.arange(gram.shape[0])
    shifted[diagonal, diagonal] += penalty
    return shifted


def _solve_positive(matrix: Float[Array, "r r"], wanted: Float[Array, "r t"]) -> Float[Array, "r t"]:
    """A⁻¹ B for a positive definite A, which is overwritten."""
    xp = array_namespace(matrix)
    if is_torch_array(matrix):
        return xp.cholesky_solve(wanted, xp.linalg.cholesky(matrix))
    factor = cho_factor(matrix.T, overwrite_a=True, check_finite=False)  # the transpose is in LAPACK's order
    return cho_solve(factor, wanted, check_finite=False)


def leave_group_out(
    parts: Decomposition,
    labels: Float[Array, "n t"],
    groups: Shaped[np.ndarray, " n"],
    penalties: tuple[float, ...] = PENALTIES,
) -> Float[Array, "p n t"]:
    """Prediction for each row by the ridge fit without its whole group, at every penalty.

    Exact (the intercept is refitted too): y_g − (I − H_gg)⁻¹ r_g with hat matrix H and residuals r.

    Source: Cook & Weisberg 1982, Residuals and Influence in Regression, eq. 3.5.2 (deletion of several rows).
    """
    xp = array_namespace(parts.features)
    rows, real, back = group_blocks(groups)
    mask, device = like(real, labels)[:, :, None], getattr(labels, "device", None)
    index, back = (xp.asarray(places, device=device) for places in (rows.ravel(), back))
    shape = (*rows.shape, -1)
    blocks = xp.reshape(xp.take(parts.left, index, axis=0), shape) * mask
    centred = labels - xp.mean(labels, axis=0, keepdims=True)
    projected = parts.left.T @ centred
    eye = like(np.eye(rows.shape[1]), labels) - mask * xp.matrix_transpose(mask) / labels.shape[0]
    scores = []
    for penalty in penalties:
        shrunk = parts.squares / (parts.squares + penalty)
        residual = centred - parts.left @ (shrunk[:, None] * projected)
        residual = xp.reshape(xp.take(residual, index, axis=0), shape) * mask
        within = eye - (blocks * shrunk) @ xp.matrix_transpose(blocks)
        error = residual / within if rows.shape[1] == 1 else xp.linalg.solve(within, residual)
        scores.append(labels - xp.take(xp.reshape(error, (-1, labels.shape[1])), back, axis=0))
    return xp.stack(scores)


def fit_ridge(
    features: Float[Array, "n d"],
    labels: Float[Array, "n t"],
    groups: Shaped[np.ndarray, " n"],
    penalties: tuple[float, ...] = PENALTIES,
    blocks: int = 1,
) -> FittedProbes:
    """Ridge probes of all targets, each at the penalty with the least leave-one-group-out squared error.

    The label columns may come as several `blocks` of the same targets, real ones first and control tasks
    after them: the control probe then has the penalty, and so the capacity, of the real one.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(40)[:, None] % 2 == 0
    >>> probes = fit_ridge(rng.normal(size=(40, 3)) + 3 * labels, labels.astype(float), groups=np.arange(40) // 4)
    >>> (probes.directions() > 0).ravel()
    array([ True,  True,  True])
    """
    check_penalties(penalties)
    xp = array_namespace(features)
    standardizer = Standardizer.fit(features)
    parts, labels = Decomposition.of(standardizer(features)), like(labels, features)
    real = labels[:, : labels.shape[1] // blocks]
    held_out = leave_group_out(parts, real, groups, penalties)
    best = least_errors(xp.mean((held_out - real) ** 2, axis=1))
    penalty = like(np.asarray(penalties)[best], features)
    slope, offset = platt(xp.stack([held_out[int(p), :, t] for t, p in enumerate(best)], axis=1), real)
    base = xp.mean(labels, axis=0)
    penalty, slope, offset = (xp.concat([values] * blocks) for values in (penalty, slope, offset))
    coefficients = parts.coefficients(parts.left.T @ (labels - base), penalty)
    return FittedProbes(standardizer, coefficients, base, penalty, slope, offset)


def least_errors(errors: Float[Array, "p t"]) -> Int[np.ndarray, " t"]:
    """Index of the least error of each target; among equals (to 1e-9) the last, the strongest penalty."""
    values = np.asarray(errors.cpu() if hasattr(errors, "cpu") else errors)
    near = values <= values.min(axis=0) * (1 + 1e-9)
    return len(values) - 1 - np.argmax(near[::-1], axis=0)


def check_penalties(penalties: Any) -> None:
    """Nothing, when the penalties are positive and increase.

    Raises:
        ValueError: they are not.
    """
    values = np.asarray(penalties, dtype=float)
    if values.ndim != 1 or not len(values) or (values <= 0).any() or (np.diff(values) <= 0).any():
        raise ValueError(f"penalties must be positive and increase, found {penalties}; try {PENALTIES[:3]}")


def group_blocks(groups: Shaped[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row indices of each group [groups, largest size], which are real and not padding, each row's place.

    Raises:
        ValueError: there are fewer than two groups.
    """
    _, codes, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError("asked to leave one group out, found one group; give rows of two or more groups")
    order = np.argsort(codes, kind="stable")
    column = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.zeros((len(counts), counts.max()), dtype=np.int64)
    real = np.zeros(rows.shape, dtype=bool)
    rows[codes[order], column], real[codes[order], column] = order, True
    place = np.empty(len(codes), dtype=np.int64)
    place[order] = codes[order] * rows.shape[1] + column
    return rows, real, place
