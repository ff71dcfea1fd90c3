"""Folds that hold out whole leaf concepts (or families, or picture sources), balanced over the targets."""

import numpy as np
from jaxtyping import Bool, Int, Shaped


def grouped_folds(
    keys: Shaped[np.ndarray, " n"], labels: Bool[np.ndarray, "n targets"], n_folds: int = 5, seed: int = 0
) -> Int[np.ndarray, " n"]:
    """The fold (0 … n_folds − 1) in which each row is held out; all rows of a key share one fold.

    Pass leaf names as keys to hold out leaf concepts, family names for families, sources for sources. The
    keys of each target are spread over the folds as evenly as they go, rarest target first. The result
    depends on the set of rows, not on their order.

    >>> leaves = np.array(["crow", "crow", "owl", "pike", "eel", "eel"])
    >>> folds = grouped_folds(leaves, np.array([[1], [1], [1], [0], [0], [0]]) > 0, 2)
    >>> bool(folds[0] == folds[1] and folds[4] == folds[5])
    True

    Source: Sechidis, Tsoumakas & Vlahavas 2011, ECML PKDD, algorithm 1 (iterative stratification), applied to
    keys.

    Raises:
        ValueError: fewer keys than folds.
    """
    names, codes = np.unique(np.asarray(keys).astype(str), return_inverse=True)
    if not 2 <= n_folds <= len(names):
        raise ValueError(f"asked for {n_folds} folds over {len(names)} groups; ask for 2 to {len(names)}")
    held = np.zeros((len(names), labels.shape[1]), dtype=bool)
    np.logical_or.at(held, codes, np.asarray(labels, dtype=bool))
    rng = np.random.Generator(np.random.PCG64(seed))
    shuffled = rng.permutation(len(names))
    fold_of = np.full(len(names), -1)
    members, sizes = np.zeros((n_folds, labels.shape[1])), np.zeros(n_folds)
    while (fold_of < 0).any():
        free = shuffled[fold_of[shuffled] < 0]
        left = held[free].sum(axis=0)
        target = np.argmin(np.where(left > 0, left, np.inf)) if left.any() else None
        for key in free if target is None else free[held[free, target]]:
            crowded = sizes if target is None else members[:, target]
            fold = np.lexsort((rng.permutation(n_folds), sizes, crowded))[0]
            fold_of[key] = fold
            members[fold] += held[key]
            sizes[fold] += 1
    return fold_of[codes]


def ungrouped_folds(n_rows: int, n_folds: int = 5, seed: int = 0) -> Int[np.ndarray, " n"]:
    """The fold of each row when rows of one leaf may fall on both sides: leaks by design, to compare."""
    if not 2 <= n_folds <= n_rows:
        raise ValueError(f"asked for {n_folds} folds over {n_rows} rows; ask for 2 to {n_rows}")
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.permutation(np.arange(n_rows) % n_folds)
