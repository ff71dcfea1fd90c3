"""Inner products of n × n matrices when the rows and columns of one are permuted together, many at once.

CKA, RSA and shared nearest neighbours are cosines of two matrices over pairs of stimuli, and the cohesion of
a category is an inner product with the matrix "same category"; their permutation nulls (Mantel 1967, Cancer
Res. 27(2)) all need ⟨A_i, P B_j Pᵀ⟩ for every layer pair i, j and many permutations P. Instead of
independent permutations, take those of one cyclic group under a random relabelling of the stimuli, and random
right cosets of it: along each wrapped diagonal the n products of a coset are then one circular
cross-correlation, and all come from one fast Fourier transform. n permutations cost about as much as two.

The test stays exact: drawing one member of the union of cosets at random and permuting by it leaves the
distribution of the union unchanged, which is all that a permutation p value needs (Hemerik & Goeman 2018,
TEST 27, theorem 2). Permutations that must stay within strata: `probing.similarity.strata`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from probing.similarity.gram import array_library
from probing.similarity.strata import StratifiedDesign, strata, stratified_design, stratified_products

Array = Any
_ENTRIES = 8_000_000


@dataclass(frozen=True)
class CyclicDesign:
    """Permutations of n things: cosets of a randomly relabelled cyclic group, the first of all the identity.

    Permutation `r * n + s` sends `relabelled[r][k]` to `order[(k + s) % n]`.
    """

    order: Int[np.ndarray, " n"]
    relabelled: Int[np.ndarray, "cosets n"]

    @property
    def n(self) -> int:
        """How many things are permuted."""
        return len(self.order)

    def __len__(self):
        return self.relabelled.size

    def permutation(self, index: int) -> Int[np.ndarray, " n"]:
        """The permutation of that index; 0 is the identity."""
        coset, shift = divmod(index, self.n)
        images = np.empty(self.n, dtype=np.int64)
        images[self.relabelled[coset]] = np.roll(self.order, -shift)
        return images


def cyclic_design(n: int, draws: int = 1_000, seed: int = 0) -> CyclicDesign:
    """The smallest design over n things that holds at least `draws` permutations beside the identity."""
    if n < 3 or draws < 1:
        raise ValueError(f"{draws} permutations of {n} things asked for; give at least 1 of at least 3")
    rng = np.random.Generator(np.random.PCG64(seed))
    order = rng.permutation(n)
    cosets = -(-(draws + 1) // n)
    others = [rng.permutation(n) for _ in range(cosets - 1)]
    return CyclicDesign(order, np.stack([order, *others]))


def permutation_design(
    n: int, draws: int = 1_000, seed: int = 0, counts: Int[np.ndarray, " n"] | None = None
) -> CyclicDesign | StratifiedDesign:
    """The cyclic design over n things; within strata of their `counts`, where these are given and make several.

    >>> type(permutation_design(40, counts=np.ones(40, dtype=int))).__name__
    'CyclicDesign'
    >>> type(permutation_design(40, counts=np.repeat([1, 12], 20))).__name__
    'StratifiedDesign'
    """
    of = None if counts is None else strata(counts)
    return cyclic_design(n, draws, seed) if of is None or not of.any() else stratified_design(of, draws, seed)


def permuted_products(
    left: Float[Array, "layers N N"],
    right: Float[Array, "others N N"],
    design: CyclicDesign | StratifiedDesign,
    symmetric: bool = True,
) -> Float[Array, "permutations layers others"]:
    """Inner product of every left with every right matrix under each permutation of the design.

    Entry [g, i, j] sums left[i, k, l] · right[j, g(k), g(l)] over k, l; entry 0 is unpermuted. N may be a
    multiple m of the design's n: then each thing is a block of m consecutive rows, moved as a whole.
    `symmetric` says that all matrices are, and halves the work.

    Raises:
        ValueError: matrices that are not N × N with N a multiple of the design's n.
    """
    xp = array_library(left, right)
    n, size = design.n, left.shape[-1]
    if left.shape[-2:] != (size, size) or right.shape[-2:] != (size, size) or size % n:
        raise ValueError(
            f"matrices of shapes {tuple(left.shape)} and {tuple(right.shape)} asked for under permutations "
            f"of {n} things; give N × N matrices with N a multiple of {n} (blocks of equal size)"
        )
    if isinstance(design, StratifiedDesign):
        return stratified_products(left, right, design, symmetric)
    a, b = (xp.reshape(side, (side.shape[0], -1)) for side in (left, right))
    offsets = np.arange(n // 2 + 1 if symmetric else n)
    step = max(1, _ENTRIES // ((a.shape[0] + b.shape[0]) * n * (size // n) ** 2))
    spectra: list[Any] = [0.0] * len(design.relabelled)
    for start in range(0, len(offsets), step):
        chunk = offsets[start : start + step]
        right_part = _spectrum(b, design.order, chunk, size, False, xp)
        for coset, order in enumerate(design.relabelled):
            left_part = xp.conj(_spectrum(a, order, chunk, size, symmetric, xp))
            spectra[coset] = spectra[coset] + xp.matmul(left_part, xp.matrix_transpose(right_part))
    return xp.concat([xp.fft.irfft(spectrum, n=n, axis=0) for spectrum in spectra], axis=0)


def products_at(
    left: Float[Array, "layers N N"],
    right: Float[Array, "others N N"],
    permutations: Int[np.ndarray, "permutations N"],
) -> Float[Array, "permutations layers others"]:
    """The same inner products under any permutations of the rows, one after the other; slow."""
    xp = array_library(left, right)
    a = xp.reshape(left, (left.shape[0], -1))
    results = []
    for images in np.asarray(permutations):
        index = xp.asarray(images, device=left.device)
        moved = xp.take(xp.take(right, index, axis=1), index, axis=2)
        results.append(xp.matmul(a, xp.matrix_transpose(xp.reshape(moved, (right.shape[0], -1)))))
    return xp.stack(results)


def _spectrum(flat, order, offsets, size, weighted, xp):
    """Fourier transform along wrapped diagonals: [frequencies, layers, diagonals · m²].

    A symmetric matrix repeats diagonal δ in diagonal n − δ; `weighted` counts the one visited for both.
    """
    n = len(order)
    block = size // n
    inside = np.arange(block)
    k = np.arange(n)
    rows = order[:, None, None, None] * block + inside[:, None]
    columns = order[(k[:, None] + offsets) % n][:, :, None, None] * block + inside
    index = (rows * size + columns).reshape(n, -1)
    entries = xp.take(flat, xp.asarray(index.reshape(-1), device=flat.device), axis=1)
    diagonals = xp.reshape(entries, (flat.shape[0], *index.shape))
    spectrum = xp.fft.rfft(diagonals, axis=1)
    if weighted:
        counts = np.repeat(np.where((offsets == 0) | (2 * offsets == n), 1.0, 2.0), block * block)
        spectrum = spectrum * xp.asarray(counts, dtype=flat.dtype, device=flat.device)
    return xp.permute_dims(spectrum, (1, 0, 2))
