"""Permutations within strata: things that are known more or less precisely change places only with their like.

Where leaves have unequal numbers of rows on both sides, the means of those with few lie far out on both sides, whatever
they mean. Under free permutations they no longer meet, and the null is too narrow.

As in `probing.similarity.mantel` the permutations come from cyclic groups, one for each stratum, turned independently.
The product of two matrices under a permutation is a sum over pairs of strata, and each of its terms depends on two
turns only: all come from one two-dimensional Fourier transform.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from probing.similarity.gram import array_library

Array = Any
RATIO = 1.25
"""Of the largest count in a stratum to the smallest.

With strata of at least 10 things, whatever their counts, 1 changes places with 5: of 60 leaves with 1 to 40 rows
`rsa_spearman` then finds .23 at .05 where nothing is, .06 with this ratio.
"""
_ENTRIES = 4_000_000
_COSETS = 20


@dataclass(frozen=True)
class StratifiedDesign:
    """Permutations of n things within strata: of cosets of a product of cyclic groups, the first the identity.

    Permutation `c * len(turns[c]) + m` sends `relabelled[c][s][k]` to `orders[s][(k + turns[c, m, s]) % size]`. The
    identity and members of a group that are drawn at random make an exact test.

    Source: Hemerik & Goeman 2018, TEST 27, theorem 2.
    """

    orders: tuple[Int[np.ndarray, " size"], ...]
    relabelled: tuple[tuple[Int[np.ndarray, " size"], ...], ...]
    turns: Int[np.ndarray, "cosets members strata"]

    @property
    def n(self) -> int:
        """How many things are permuted."""
        return sum(len(order) for order in self.orders)

    def __len__(self):
        return self.turns.shape[0] * self.turns.shape[1]

    def permutation(self, index: int) -> Int[np.ndarray, " n"]:
        """The permutation of that index; 0 is the identity."""
        coset, member = divmod(index, self.turns.shape[1])
        images = np.empty(self.n, dtype=np.int64)
        for order, labels, turn in zip(self.orders, self.relabelled[coset], self.turns[coset, member]):
            images[labels] = np.roll(order, -turn)
        return images


def strata(counts: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The stratum of each thing, from 0: those whose counts are equal or nearly so. A thing alone in it stays in place.

    >>> strata(np.array([1, 12, 1, 2, 10, 13]))
    array([0, 2, 0, 1, 2, 3])
    """
    values, codes = np.unique(counts, return_inverse=True)
    of, least = np.zeros(len(values), dtype=np.int64), values[0]
    for k in range(1, len(values)):
        of[k] = of[k - 1] + (values[k] > RATIO * least)
        least = values[k] if of[k] > of[k - 1] else least
    return of[codes]


def stratified_design(of: Int[np.ndarray, " n"], draws: int = 1_000, seed: int = 0) -> StratifiedDesign:
    """At least `draws` permutations beside the identity, each within the strata that `of` gives.

    >>> design = stratified_design(np.array([0, 0, 1, 1, 1]), draws=20)
    >>> bool(np.isin(design.permutation(7)[:2], [0, 1]).all())
    True
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    inside = [np.flatnonzero(of == stratum) for stratum in np.unique(of)]
    cosets = min(-(-(draws + 1) // math.prod(map(len, inside))), _COSETS)
    relabelled = tuple(tuple(rng.permutation(members) for members in inside) for _ in range(cosets))
    turns = rng.integers(
        [len(members) for members in inside], size=(cosets, -(-(draws + 1) // cosets), len(inside))
    )
    turns[0, 0] = 0
    return StratifiedDesign(relabelled[0], relabelled, turns)


def stratified_products(
    left: Float[Array, "layers N N"],
    right: Float[Array, "others N N"],
    design: StratifiedDesign,
    symmetric: bool = True,
) -> Float[Array, "permutations layers others"]:
    """The inner products of `permuted_products` under a stratified design."""
    xp = array_library(left, right)
    block = left.shape[-1] // design.n
    cosets = []
    for labels, turns in zip(design.relabelled, design.turns):
        total = xp.zeros((left.shape[0], right.shape[0], len(turns)), dtype=left.dtype, device=left.device)
        for s, order in enumerate(design.orders):
            for t in range(s if symmetric else 0, len(design.orders)):
                one = _spectrum(left, labels[s], labels[t], block, xp)
                other = _spectrum(right, order, design.orders[t], block, xp)
                shape = len(order), len(design.orders[t])
                at = xp.asarray(turns[:, s] * shape[1] + turns[:, t], device=left.device)
                total = total + (2.0 if symmetric and s < t else 1.0) * xp.concat(
                    [xp.take(part, at, axis=-1) for part in _correlations(one, other, shape, xp)]
                )
        cosets.append(xp.permute_dims(total, (2, 0, 1)))
    return xp.concat(cosets)


def _spectrum(matrices, rows, columns, block, xp):
    """Fourier transform of a block of the matrices along both of its axes: [layers, m², rows, columns / 2 + 1]."""
    size, inside = matrices.shape[-1], np.arange(block)
    index = (rows[:, None, None, None] * block + inside[:, None, None]) * size
    index = (index + columns[:, None] * block + inside).transpose(1, 3, 0, 2)
    flat = xp.reshape(matrices, (matrices.shape[0], -1))
    entries = xp.take(flat, xp.asarray(index.reshape(-1), device=matrices.device), axis=1)
    entries = xp.reshape(entries, (matrices.shape[0], block * block, len(rows), len(columns)))
    return xp.fft.rfftn(entries, axes=(2, 3))


def _correlations(one, other, shape, xp) -> Iterator[Any]:
    """Circular cross-correlations of every left with every right block, some left layers at a time."""
    step = max(1, _ENTRIES // (other.shape[0] * other.shape[1] * math.prod(shape)))
    for start in range(0, one.shape[0], step):
        products = xp.sum(xp.conj(one[start : start + step, None, ...]) * other[None, ...], axis=2)
        flat = xp.fft.irfftn(products, s=shape, axes=(2, 3))
        yield xp.reshape(flat, (*flat.shape[:2], -1))
