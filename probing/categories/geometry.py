"""Taxonomic geometry: distances that follow the taxonomy, hierarchy as orthogonality, dimension."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from probing.similarity.calibration import Calibration, calibrate_matrices, weighted_sum
from probing.similarity.gram import as_float, hollow, squared_distances
from probing.similarity.mantel import cyclic_design
from probing.similarity.rsa import off_diagonal_ranks
from probing.stats.undefined import refuse_undefined


def partial_rsa(
    rdms: Float[np.ndarray, "layers n n"],
    target: Float[np.ndarray, "n n"],
    controls: Sequence[Float[np.ndarray, "n n"]] = (),
    draws: int = 1_000,
    seed: int = 0,
) -> Calibration:
    """Partial rank correlation of each layer's distances with target distances, given the control distances.

    Chance is 0, and 0 is the value where the controls determine a layer's distances. The null permutes which
    stimulus is which in the residual target, so that the part that the controls share with the layers stays in place.

    >>> x = np.random.default_rng(0).normal(size=(12, 2))
    >>> distances = squared_distances(x)
    >>> partial_rsa(distances[None], distances, draws=20).value.round(6)
    array([[1.]])

    Source: Legendre 2000, J. Stat. Comput. Simul. 67 (partial Mantel test, residual permutation);
    Kriegeskorte, Mur & Bandettini 2008, Front. Syst. Neurosci. 2:4.

    Raises:
        ValueError: the controls determine the target, so that nothing of it is left.
    """
    ranks = [off_diagonal_ranks(as_float(control)) for control in controls]
    wanted = _residual(off_diagonal_ranks(as_float(target)), ranks)
    if not wanted.any():
        raise ValueError("the control distances leave nothing of the target distances to be explained")
    layers = np.stack([_residual(off_diagonal_ranks(as_float(rdm)), ranks) for rdm in rdms])
    return calibrate_matrices(layers, wanted[None], cyclic_design(len(target), draws, seed))


def bootstrap_rsa(
    rdms: Float[np.ndarray, "layers n n"],
    target: Float[np.ndarray, "n n"],
    controls: Sequence[Float[np.ndarray, "n n"]],
    weights: Float[np.ndarray, "draws n"],
) -> Float[np.ndarray, "draws layers"]:
    """The correlations of `partial_rsa` with each stimulus counted as often as each draw says.

    A stimulus drawn twice makes no pair with itself. Ranks and the part that the controls explain are those of the full
    sample; means and spreads are those of the draw.

    >>> x = np.random.default_rng(0).normal(size=(12, 2))
    >>> distances = squared_distances(x)
    >>> bootstrap_rsa(distances[None], distances, (), np.ones((3, 12))).round(6).ravel()
    array([1., 1., 1.])
    """
    ranks = [off_diagonal_ranks(as_float(control)) for control in controls]
    y = _residual(off_diagonal_ranks(as_float(target)), ranks)
    pairs = weighted_sum(hollow(np.ones_like(y)), weights)
    mean_y = weighted_sum(y, weights) / pairs
    spread_y = weighted_sum(y * y, weights) / pairs - mean_y**2
    correlations = []
    for rdm in rdms:
        x = _residual(off_diagonal_ranks(as_float(rdm)), ranks)
        mean_x = weighted_sum(x, weights) / pairs
        spread_x = weighted_sum(x * x, weights) / pairs - mean_x**2
        shared = weighted_sum(x * y, weights) / pairs - mean_x * mean_y
        size = np.sqrt(np.maximum(spread_x * spread_y, 0))
        correlations.append(np.where(size > 0, shared / np.where(size > 0, size, 1), 0.0))
    return np.stack(correlations, axis=1)


def hierarchy_cosines(
    gram: Float[np.ndarray, "n n"],
    children: Bool[np.ndarray, "pairs n"],
    parents: Bool[np.ndarray, "pairs n"],
    along: Bool[np.ndarray, "pairs n"] | None = None,
) -> Float[np.ndarray, " pairs"]:
    """Cosine of the step from parent to child with the parent's direction (or the one of `along`).

    Rows are leaf concepts, `gram` their inner products (centred; `causal_gram` for the causal inner product);
    a direction is the mean over leaves. Orthogonal hierarchy says 0 for every pair. Two traps: a parent mean
    that contains the child is orthogonal to the step by construction, so the parent's leaves must not include
    the child's; and over all leaves of a category the cosines average to about 0 whatever the geometry, so
    look at their root mean square, beside that of the same steps `along` parents that are not theirs.
    Products of a leaf with itself are left out, so that noise in the parent's mean does not tilt the cosine.

    >>> rows = np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 0.0], [2.0, 0.0]])  # the child adds something orthogonal
    >>> child, parent = np.array([[1, 1, 0, 0]]) > 0, np.array([[0, 0, 1, 1]]) > 0
    >>> hierarchy_cosines(rows @ rows.T, child, parent)
    array([0.])

    Source: Park et al. 2024, "The geometry of categorical and hierarchical concepts in large language
    models", theorem 8, with leaf means in place of their discriminant directions and held-out parents.

    Raises:
        ValueError: a child shares a leaf with its parent's other leaves, or a child has no or a parent fewer
            than two leaves, or a product is NaN or infinite.
    """
    refuse_undefined(gram, "the inner products")
    if (children & parents).any():
        raise ValueError("children and parents share leaves; give each parent's leaves without its child's")
    along = parents if along is None else along
    if not (children.any(axis=1) & (parents.sum(axis=1) > 1) & (along.sum(axis=1) > 1)).all():
        raise ValueError(
            "a child without leaves or a parent of one leaf has no direction; leave the pair out"
        )
    sides = (children, parents, along)
    child, parent, reference = (side / side.sum(axis=1, keepdims=True) for side in sides)
    own = np.diagonal(gram)
    shared = parents & along
    # Mean product of two different leaves, one of the parent, one of the reference.
    repeated = (shared * own).sum(axis=1)
    pairs = parents.sum(axis=1) * along.sum(axis=1) - shared.sum(axis=1)
    base = (((parents * 1.0) @ gram * along).sum(axis=1) - repeated) / pairs
    step = child - parent
    lengths = [((side @ gram) * side).sum(axis=1) for side in (step, reference)]
    return (((child @ gram) * reference).sum(axis=1) - base) / np.sqrt(lengths[0] * lengths[1])


def causal_gram(
    x: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "rows d"], shrinkage: float = 0.1
) -> Float[np.ndarray, "n n"]:
    """Inner products of centred rows under the inverse covariance of the reference rows.

    The reference must not be the rows themselves: fewer rows than features become orthogonal under their own
    covariance, whatever they mean. Give the unembedding, or the deviations of pictures from their leaf means.

    >>> rng = np.random.default_rng(0)
    >>> causal_gram(rng.normal(size=(4, 3)), rng.normal(size=(100, 3))).shape
    (4, 4)

    Source: Park et al. 2024 (causal inner product: the covariance of the unembedding); shrinkage towards the
    mean variance as in Ledoit & Wolf 2004, J. Multivar. Anal. 88.

    Raises:
        ValueError: a row holds NaN or infinity.
    """
    refuse_undefined(x, "the rows")
    refuse_undefined(reference, "the reference rows")
    reference = np.asarray(reference, dtype=np.float64) - np.mean(reference, axis=0)
    covariance = reference.T @ reference / len(reference)
    floor = shrinkage * np.trace(covariance) / len(covariance)
    shrunk = (1 - shrinkage) * covariance + floor * np.eye(len(covariance))
    centred = np.asarray(x, dtype=np.float64) - np.mean(x, axis=0)
    return centred @ np.linalg.solve(shrunk, centred.T)


def effective_rank(x: Float[np.ndarray, "n d"]) -> float:
    """Exponential of the entropy of the normalised singular values; between 1 and the rank.

    >>> round(effective_rank(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])), 6)
    2.0

    Source: Roy & Vetterli 2007, EUSIPCO, definition 1, of the centred rows.

    Raises:
        ValueError: a row holds NaN or infinity, or all rows are equal.
    """
    refuse_undefined(x, "the rows")
    if not np.ptp(x, axis=0).any():
        raise ValueError(
            f"effective rank asked for over {len(x)} equal rows, which have no dimensions; leave copies out"
        )
    centred = np.asarray(x, dtype=np.float64) - np.mean(x, axis=0)
    small = centred @ centred.T if len(x) < centred.shape[1] else centred.T @ centred
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(small), 0))
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def participation_ratio(x: Float[np.ndarray, "n d"]) -> float:
    """Number of dimensions over which variance spreads evenly: (tr Σ)² / tr Σ², corrected for few rows.

    Both traces are estimated without bias, from distances of disjoint pairs of rows. Their quotient is too high (at 15
    rows a mean of 13.3 for 13.0 where deviations fall slowly, 2.84 for 2.42 where they are 1/k); the jackknife of its
    logarithm takes most of that away (12.9 and 2.51). The number may exceed that of features.

    >>> round(participation_ratio(np.random.default_rng(0).normal(size=(500, 4))), 1)
    4.0

    Source: Gao et al. 2017, bioRxiv 214262; Chun, Canatar, Chung & Lee 2026, ICLR, "Estimating dimensionality of neural
    representations from finite samples" (disjoint indices); Quenouille 1956, Biometrika 43 (jackknife).

    Raises:
        ValueError: fewer than 5 rows, a row holds NaN or infinity, or rows (but for one) are equal or equidistant.
    """
    n = len(x)
    if n < 5:
        raise ValueError(f"participation ratio asked for over {n} rows; give at least 5")
    refuse_undefined(x, "the rows")
    x = as_float(x) - np.mean(as_float(x), axis=0)
    distances = squared_distances(x)
    mean = distances.sum() / (n * (n - 1))
    distances = distances / (mean or 1)
    rows, squares = distances.sum(axis=1), (distances * distances).sum(axis=1)
    total, all_rows, all_squares = rows.sum(), rows @ rows, squares.sum()
    whole = _squared_traces(total, all_rows, all_squares, n)
    without = (
        total - 2 * rows,
        all_rows - 2 * distances @ rows + squares - rows**2,
        all_squares - 2 * squares,
    )
    parts = _squared_traces(*without, n - 1)
    if min(*whole, *map(np.min, parts)) < 1e-11:
        raise ValueError(
            f"participation ratio asked for over {n} rows that, but for one, are equal or equidistant; give more rows"
        )
    logs = [np.log(numerator / denominator) for numerator, denominator in (whole, parts)]
    return float(np.exp(n * logs[0] - (n - 1) * np.mean(logs[1])))


def two_nn(x: Float[np.ndarray, "n d"], discard: float = 0.1) -> float:
    """Intrinsic dimension from the ratio of each row's two nearest distances.

    The slope through the origin of −log(1 − F) on the log ratio, without the largest `discard` of ratios.

    >>> bool(1.5 < two_nn(np.random.default_rng(0).uniform(size=(300, 2))) < 2.5)
    True

    Source: Facco et al. 2017, Sci. Rep. 7:12140, steps 1 to 5.

    Raises:
        ValueError: two rows are equal, fewer than 10 rows, or a row holds NaN or infinity.
    """
    refuse_undefined(x, "the rows")
    if len(x) < 10:
        raise ValueError(f"intrinsic dimension asked for over {len(x)} rows; give at least 10")
    distances = np.sqrt(squared_distances(as_float(x)))
    np.fill_diagonal(distances, np.inf)
    first, second = np.partition(distances, 1, axis=1)[:, :2].T
    if not (first > 0).all():
        raise ValueError("some rows are equal; a nearest distance of 0 has no ratio. Leave copies out")
    ratios = np.log(np.sort(second / first))
    counted = int(len(x) * (1 - discard))
    ratios, empirical = ratios[:counted], -np.log1p(-np.arange(1, counted + 1) / len(x))
    return float((ratios @ empirical) / (ratios @ ratios))


def _squared_traces(total, rows, squares, n):
    """Unbiased (tr Σ)² and tr Σ², by a factor of 4, from sums over the squared distances of n rows.

    The sums are those of distances, of the squares of their row sums, and of their squares.
    """
    squared_trace = (total**2 - 4 * rows + 2 * squares) / (n * (n - 1) * (n - 2) * (n - 3))
    trace_of_square = (squares - 2 * rows / (n - 2) + total**2 / ((n - 1) * (n - 2))) / (n * (n - 3))
    return squared_trace, trace_of_square


def _residual(matrix, controls):
    """The off-diagonal entries less what a constant and the controls explain, as a hollow matrix."""
    outside = ~np.eye(len(matrix), dtype=bool)
    basis = np.column_stack([np.ones(outside.sum()), *(control[outside] for control in controls)])
    residual = np.zeros_like(matrix)
    values = matrix[outside]
    left = values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
    # Values that the controls determine leave rounding error, whose correlations would be arbitrary.
    residual[outside] = left if left @ left > 1e-12 * (values @ values) else 0.0
    return hollow(residual)
