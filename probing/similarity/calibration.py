"""The meaning of a similarity value: its permutation null, its noise ceiling, its bootstrap interval.

Leaf concepts are the units throughout. Rows that repeat a leaf (its pictures) are averaged first: permuting
them one by one would break up what belongs together and call every leaf effect an alignment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats as distributions

from probing.similarity.gram import array_library, leaf_means
from probing.similarity.mantel import CyclicDesign, permutation_design, permuted_products
from probing.similarity.measure import Measure, check_matrices, check_paired_rows
from probing.similarity.strata import StratifiedDesign
from probing.stats import permutation_p

Array = Any
JACKKNIFE = 1.15
"""How much wider limits of a similarity must be than its jackknife makes them, which is too narrow for heavy tails."""
_ROUNDING = 1e-9
_NEARLY_1 = 1 - 1e-12


@dataclass(frozen=True)
class Calibration:
    """Similarities of layer pairs beside their permutation null.

    `null_mean` and `null_limit` (the value that chance exceeds with probability `alpha`, on the side of
    "closer") are per pair. `p` is per pair; `p_corrected` holds for all pairs together (studentised maximum).
    `effect` is how much of the way from `null_limit` to identity the value covers, at least 0: comparable
    between sample sizes and widths where the raw value is not. `n` counts leaves.

    Source: Westfall & Young 1993, Resampling-Based Multiple Testing, ch. 2 (maximum); Gröger, Wen & Brbić
    2026, Revisiting the Platonic Representation Hypothesis, algorithms 1 and 2 (the calibrated score).

    >>> from probing.similarity import MEASURES
    >>> rows = np.random.default_rng(0).normal(size=(20, 4))
    >>> calibrate(MEASURES["cka_debiased"], [rows, rows[:, :1]], [rows]).value.shape  # layers of both sides
    (2, 1)
    """

    value: Float[np.ndarray, "layers others"]
    null_mean: Float[np.ndarray, "layers others"]
    null_limit: Float[np.ndarray, "layers others"]
    effect: Float[np.ndarray, "layers others"]
    p: Float[np.ndarray, "layers others"]
    p_corrected: Float[np.ndarray, "layers others"]
    n: int
    permutations: int


def calibrate(
    measure: Measure,
    left: Sequence[Float[Array, "n p"]],
    right: Sequence[Float[Array, "n q"]],
    leaves: Shaped[np.ndarray, " n"] | None = None,
    draws: int = 1_000,
    seed: int = 0,
) -> Calibration:
    """Similarity of every left with every right layer, against permutations of which leaf is which.

    With `leaves`, rows of one leaf are averaged first, and leaves change places only with leaves of about as many rows
    (`strata`). Measures with a matrix form get all permutations from one Fourier transform; others are computed
    anew under each of `draws` permutations.

    Rows that are massive on both sides at once are no sign of likeness, but p takes them for one: with one row in 30
    four to nine times as long, `cka_debiased` finds .27 and `rsa_spearman` .91 at .05 where nothing is. Calibrate
    `unit_rows` of the standardised rows as well (.05 both), and believe p only where both are small.

    >>> from probing.similarity import MEASURES
    >>> rows = np.random.default_rng(0).normal(size=(20, 4))
    >>> calibrate(MEASURES["cka_debiased"], [rows], [rows @ np.diag([1.0, 2.0, 1.0, 1.0])]).p.round(3)
    array([[0.001]])
    """
    for x in left:
        check_paired_rows(x, right[0], measure.name)
    for y in right:
        check_paired_rows(left[0], y, measure.name)
    counts = None
    if leaves is not None:
        left, right = ([leaf_means(x, leaves)[0] for x in side] for side in (left, right))
        counts = np.unique(leaves, return_counts=True)[1]
    design = permutation_design(left[0].shape[0], draws, seed, counts)
    if measure.matrix is not None:
        xp = array_library(left[0])
        first, second = (xp.stack([measure.matrix(x) for x in side]) for side in (left, right))
        if measure.normalised:
            check_matrices(first, measure.name, "left")
            check_matrices(second, measure.name, "right")
        return calibrate_matrices(first, second, design, normalised=measure.normalised)
    chosen = np.random.Generator(np.random.PCG64(seed)).choice(len(design) - 1, draws, replace=False) + 1
    values = np.stack([_under(measure, left, right, design.permutation(g)) for g in (0, *chosen)])
    return _summarise(values, design.n, 1.0 if measure.higher_is_closer else -1.0)


def calibrate_matrices(
    left: Float[Array, "layers N N"],
    right: Float[Array, "others N N"],
    design: CyclicDesign | StratifiedDesign,
    alpha: float = 0.05,
    normalised: bool = True,
) -> Calibration:
    """The same from the matrices themselves; N may be m rows for each of the design's things, in blocks.

    Cosines, or inner products where `normalised` is false. In cosines a matrix of zeros is unlike everything: 0.
    """
    xp = array_library(left, right)
    symmetric = _symmetric(left) and _symmetric(right)
    products = permuted_products(left, right, design, symmetric)
    if not normalised:
        return _summarise(to_numpy(products), design.n, 1.0, alpha)
    sizes = [xp.sqrt(xp.sum(side * side, axis=(1, 2))) for side in (left, right)]
    sizes = [xp.where(size > 0, size, xp.ones_like(size)) for size in sizes]
    values = to_numpy(products / (sizes[0][:, None] * sizes[1][None, :]))
    return _summarise(values, design.n, 1.0, alpha)


def _symmetric(matrices):
    """Whether all are, but for rounding; matrices of neighbours are not, as a neighbour need not return the favour."""
    xp = array_library(matrices)
    for matrix in matrices:
        if not bool(xp.all(xp.abs(matrix - xp.matrix_transpose(matrix)) <= 1e-9 * xp.max(xp.abs(matrix)))):
            return False
    return True


def bootstrap(
    left: Float[np.ndarray, "layers n n"],
    right: Float[np.ndarray, "layers n n"],
    weights: Float[np.ndarray, "draws n"],
) -> Float[np.ndarray, "draws layers"]:
    """Cosine of left[i] and right[i] with each leaf counted as often as each draw says.

    A leaf drawn twice is not compared with itself: its off-diagonal entries count double, its diagonal does
    not. The centring of the matrices is kept from the full sample, which changes the value in second order
    only, because centred matrices are uncorrelated with anything that depends on one row alone.
    """
    xp = array_library(left, right)
    cross, own_left, own_right = (
        xp.stack([weighted_sum(x * y, weights) for x, y in zip(a, b)], axis=1)
        for a, b in ((left, right), (left, left), (right, right))
    )
    return to_numpy(cross / xp.sqrt(own_left * own_right))


def jackknifed(
    value: Float[np.ndarray, "*k"], left_out: Float[np.ndarray, "n *k"], factor: float = JACKKNIFE
) -> tuple[Float[np.ndarray, "*k"], Float[np.ndarray, "*k"]]:
    """95 % limits of a similarity, symmetric about its Fisher z, from its values without each leaf in turn.

    Percentile limits of `bootstrap` cover .86 to .90 where rows have heavy tails: draws that lack the farthest rows are
    too much alike. These cover .95 to .99 (docs/statistics.md). Of ceilings, and where one side is fixed, 1 is enough.

    >>> lower, upper = jackknifed(np.array(0.5), np.array([0.45, 0.5, 0.5, 0.55]))
    >>> round(float(lower), 2), round(float(upper), 2)
    (0.24, 0.69)

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 11; Fisher 1921, Metron 1.
    """
    z, left_out = (np.arctanh(np.clip(side, -_NEARLY_1, _NEARLY_1)) for side in (value, left_out))
    n = len(left_out)
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    half = factor * distributions.t.ppf(0.975, n - 1) * error
    return np.tanh(z - half), np.tanh(z + half)


def leave_one_out(n: int) -> Float[np.ndarray, "n n"]:
    """Weights, as of a bootstrap draw, under which each of n leaves in turn does not count.

    >>> leave_one_out(2)
    array([[0., 1.],
           [1., 0.]])
    """
    return np.ones((n, n)) - np.eye(n)


def weighted_sum(
    matrix: Float[Array, "n n"], weights: Float[np.ndarray, "draws n"]
) -> Float[Array, " draws"]:
    """Sum of the entries, each weighted by its row's and its column's weight; the diagonal by one."""
    xp = array_library(matrix)
    weights = xp.asarray(weights, dtype=matrix.dtype, device=matrix.device)
    diagonal = xp.linalg.diagonal(matrix)
    both = xp.sum(xp.matmul(weights, matrix) * weights, axis=1)
    return both + xp.matmul(weights - weights * weights, diagonal)


def noise_ceiling(
    layers: Sequence[Float[Array, "n d"]],
    leaves: Shaped[np.ndarray, " n"],
    matrix: Callable[[Array], Array],
    weights: Float[np.ndarray, "draws leaves"] | None = None,
    splits: int = 20,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " layers"], Float[np.ndarray, "draws layers"]]:
    """Largest similarity each layer could reach, given how much its leaf means vary with the pictures.

    The value, and its bootstrap draws under `weights`. Each leaf's rows are split in two halves: the inner
    product of the halves' matrices holds what is common to all pictures, that of the full means with
    themselves also what is chance; the ceiling is the root of their ratio. Exact for unbiased linear HSIC,
    where the noise of the halves is independent and has mean 0; an approximation for other matrices. Multiply
    the ceilings of both sides; a side without repeated rows has ceiling 1.

    Source: Nili et al. 2014, PLoS Comput. Biol. 10(4) (why); the correction for attenuation of Spearman 1904.

    Raises:
        ValueError: a leaf has a single row and cannot be split.
    """
    leaves = np.asarray(leaves)
    names, codes, counts = np.unique(leaves, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"a split-half ceiling was asked for, but {int((counts < 2).sum())} leaves have one row, such as "
            f"{str(names[np.argmin(counts)])!r}; leave them out"
        )
    halves = [_halves(codes, seed + split) for split in range(splits)]
    values, draws = [], []
    for x in layers:
        full = matrix(leaf_means(x, leaves)[0])
        shared = 0.0
        for first in halves:
            one, two = (matrix(leaf_means(x[rows, :], codes[rows])[0]) for rows in (first, ~first))
            shared = shared + one * two / splits
        values.append(_root_ratio(shared, full * full, np.ones((1, len(names))))[0])
        if weights is not None:
            draws.append(_root_ratio(shared, full * full, weights))
    empty = np.empty((0, len(values)))
    return np.array(values), np.stack(draws, axis=1) if draws else empty


def to_numpy(x: Array) -> np.ndarray:
    """The array on the host, as NumPy."""
    return x if isinstance(x, np.ndarray) else np.asarray(x.cpu() if hasattr(x, "cpu") else x)


def _root_ratio(shared, own, weights):
    ratio = to_numpy(weighted_sum(shared, weights) / weighted_sum(own, weights))
    return np.sqrt(np.clip(ratio, 0, 1))


def _halves(codes, seed):
    """True for about half the rows of each leaf, chosen at random."""
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    within = np.arange(len(codes)) - np.searchsorted(codes[order], codes[order])
    first = np.zeros(len(codes), dtype=bool)
    first[order] = within % 2 == 0
    return first


def _under(measure, left, right, images):
    """All layer pairs with the rows of the right side permuted."""
    xp = array_library(left[0])
    index = xp.asarray(images, device=left[0].device)
    return np.array([[measure(x, xp.take(y, index, axis=0)) for y in right] for x in left])


def studentised_p(
    closer: Float[np.ndarray, "permutations *k"],
) -> tuple[Float[np.ndarray, "*k"], Float[np.ndarray, "*k"]]:
    """One-sided p of each value against its own permutations, and corrected for the maximum over all.

    Entry 0 of `closer` is unpermuted; higher is closer. For the maximum each column is first brought to the
    mean and spread of its permutations, so that columns of different spread have the same say.

    Source: Westfall & Young 1993, Resampling-Based Multiple Testing, ch. 2.
    """
    mean, spread = closer.mean(axis=0), closer.std(axis=0)
    score = (closer - mean) / np.where(spread > 0, spread, 1)
    # Equal products differ by rounding between permutations; a tie must count against the effect.
    observed, null = score[0].ravel() - _ROUNDING, score[1:].reshape(len(score) - 1, -1)
    p, corrected = (permutation_p(observed, null, corrected=flag) for flag in (False, True))
    return p.reshape(closer.shape[1:]), corrected.reshape(closer.shape[1:])


def _summarise(values, n, sign, alpha=0.05):
    """Calibration from values under permutations, the first of them the identity."""
    closer = sign * values
    limit = np.quantile(closer, 1 - alpha, axis=0, method="inverted_cdf")
    room = np.maximum((1.0 if sign > 0 else 0.0) - limit, np.finfo(float).eps)
    p, p_corrected = studentised_p(closer)
    return Calibration(
        value=values[0],
        null_mean=values.mean(axis=0),
        null_limit=sign * limit,
        effect=np.clip((closer[0] - limit) / room, 0, 1),
        p=p,
        p_corrected=p_corrected,
        n=n,
        permutations=len(values) - 1,
    )
