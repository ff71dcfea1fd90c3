"""Sums of rows per leaf, and the mean products and distances of every pair of leaves.

Memory is leaves × width, however many pictures there are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from probing.stats.undefined import refuse_undefined

_CHUNK = 2048


@dataclass(frozen=True)
class LeafSums:
    """Sums over the rows of each leaf: of the rows, of their squared lengths, and how many there are."""

    leaves: Shaped[np.ndarray, " leaves"]
    total: Float[np.ndarray, "leaves d"]
    squares: Float[np.ndarray, " leaves"]
    counts: Float[np.ndarray, " leaves"]

    @property
    def means(self) -> Float[np.ndarray, "leaves d"]:
        """Mean row of each leaf."""
        return self.total / self.counts[:, None]

    @property
    def centre(self) -> Float[np.ndarray, " d"]:
        """Mean of the leaf means: every leaf counts once, however many pictures it has."""
        return self.means.mean(axis=0)


def leaf_sums(
    rows: Float[np.ndarray, "n d"] | Iterable[Float[np.ndarray, "chunk d"]],
    leaves: Shaped[np.ndarray, " n"],
    centre: Float[np.ndarray, " d"] | None = None,
    unit: bool = False,
) -> LeafSums:
    """Sums per leaf of the rows, less `centre`, each at unit length if `unit`; leaves in sorted order.

    `rows` may be an array or its consecutive parts, read one at a time.

    >>> sums = leaf_sums(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), np.array(["crow", "crow", "plum"]))
    >>> sums.leaves.tolist(), sums.means
    (['crow', 'plum'], array([[2., 0.],
           [0., 2.]]))

    Raises:
        ValueError: as many leaves as rows were not given, a row holds NaN or infinity, or a row of length 0 should
            become a unit vector.
    """
    names, codes, counts = np.unique(np.asarray(leaves), return_inverse=True, return_counts=True)
    total = np.zeros((len(names), 0))
    squares, seen = np.zeros(len(names)), 0
    for part in _parts(rows):
        refuse_undefined(part, "the rows", first=seen)
        part = part.astype(np.float64) - (0 if centre is None else centre)
        lengths = (part * part).sum(axis=1)
        if unit:
            if not (lengths > 0).all():
                raise ValueError("a row of length 0 has no direction; leave it out or use distances")
            part, lengths = part / np.sqrt(lengths)[:, None], np.ones(len(part))
        part_codes = codes[seen : seen + len(part)]
        seen += len(part)
        if seen > len(codes):
            break
        total = total if total.size else np.zeros((len(names), part.shape[1]))
        total += (part_codes == np.arange(len(names))[:, None]).astype(np.float64) @ part
        squares += np.bincount(part_codes, lengths, len(names))
    if seen != len(codes) or not total.size:
        raise ValueError(f"{len(codes)} leaves were given for another number of rows; give one leaf per row")
    return LeafSums(names, total, squares, counts.astype(np.float64))


def mean_products(left: LeafSums, right: LeafSums | None = None) -> Float[np.ndarray, "leaves leaves"]:
    """Mean inner product of a row of one leaf with a row of another: cosines, if the sums are of unit rows.

    Without `right` the two rows are different ones, so that the diagonal is the mean over pairs of different
    pictures of one leaf, NaN where there is only one. With `right` (the other modality, say) rows
    come from `left`, columns from `right`, over the same leaves.

    >>> rows, leaves = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), np.array(["crow", "crow", "plum"])
    >>> mean_products(leaf_sums(rows, leaves))  # one picture of the plum makes no pair
    array([[ 3.,  0.],
           [ 0., nan]])
    """
    if right is not None:
        if not np.array_equal(left.leaves, right.leaves):
            only = sorted({str(x) for x in left.leaves} ^ {str(x) for x in right.leaves})
            raise ValueError(f"both sides must have the same leaves; only one has {only[:3]}")
        return left.means @ right.means.T
    products = left.means @ left.means.T
    pairs = left.counts * (left.counts - 1)
    own = (left.total * left.total).sum(axis=1) - left.squares
    np.fill_diagonal(products, np.where(pairs > 0, own / np.where(pairs > 0, pairs, 1), np.nan))
    return products


def mean_squared_distances(
    left: LeafSums, right: LeafSums | None = None
) -> Float[np.ndarray, "leaves leaves"]:
    """Mean squared Euclidean distance of a row of one leaf to a (different) row of another.

    >>> rows, leaves = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), np.array(["crow", "crow", "plum"])
    >>> mean_squared_distances(leaf_sums(rows, leaves))
    array([[ 4.,  9.],
           [ 9., nan]])
    """
    other = left if right is None else right
    sizes = (left.squares / left.counts)[:, None] + (other.squares / other.counts)[None]
    return np.maximum(sizes - 2 * mean_products(left, right), 0)


def _parts(rows):
    if not isinstance(rows, np.ndarray):
        yield from rows
        return
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]
