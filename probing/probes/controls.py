"""Control tasks: the scores that a probe reaches on labels without meaning."""

import numpy as np
from jaxtyping import Bool, Int, Shaped


def control_task(
    labels: Bool[np.ndarray, "n targets"],
    groups: Shaped[np.ndarray, " n"],
    folds: Int[np.ndarray, " n"],
    repeats: int = 5,
    seed: int = 0,
) -> Bool[np.ndarray, "repeats n targets"]:
    """Labels in which each leaf (group) has the label row of a random other leaf, the same for all its rows.

    Leaves are permuted within their fold, so every fold keeps its class counts and the control is as hard as
    the task in everything but meaning; where a leaf spreads over folds (an ungrouped split), over all leaves.
    A probe that beats chance here memorises leaves. The draw depends on the set of leaves, not on the order
    of rows, so text and picture rows of a leaf get the same label.

    Source: Hewitt & Liang 2019, EMNLP, section 2 (control tasks), with the label frequencies of the task.

    Raises:
        ValueError: rows of one group have different labels.
    """
    labels = np.asarray(labels, dtype=bool)
    names, first, codes = np.unique(np.asarray(groups).astype(str), return_index=True, return_inverse=True)
    of_group = labels[first]
    if (of_group[codes] != labels).any():
        row = int(np.flatnonzero((of_group[codes] != labels).any(axis=1))[0])
        raise ValueError(
            f"rows of group {str(names[codes[row]])!r} have different labels; a control task needs one per group"
        )
    spread = (folds[first][codes] != folds).any()
    fold_of = np.zeros(len(names), dtype=int) if spread else np.asarray(folds)[first]
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = np.empty((repeats, len(names)), dtype=int)
    for repeat in range(repeats):
        for fold in np.unique(fold_of):
            members = np.flatnonzero(fold_of == fold)
            drawn[repeat, members] = rng.permutation(members)
    return of_group[drawn][:, codes]


def shuffled_labels(
    labels: Bool[np.ndarray, "n targets"], repeats: int = 5, seed: int = 0
) -> Bool[np.ndarray, "repeats n targets"]:
    """Label rows permuted over single rows: no leaf, no picture keeps its own; nothing can be learned."""
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = np.asarray(labels, dtype=bool)
    return np.stack([labels[rng.permutation(len(labels))] for _ in range(repeats)])
