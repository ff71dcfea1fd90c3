"""Scores, labels and clusters that the tests of statistics share."""

import numpy as np


def scored(seed, clusters=12, rows=5, targets=4):
    """Scores with ties and labels that vary within clusters."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"leaf {k}" for k in range(clusters)], rows)
    names = names[rng.permutation(len(names))]
    labels = rng.random((len(names), targets)) < 0.4
    scores = np.round(rng.normal(size=labels.shape) + labels, 1)
    return scores, labels, names


def row_weights(weights, names):
    """The weight of each row's cluster."""
    return weights[np.unique(names, return_inverse=True)[1]]


def answers(seed=0, rows=300, k=5, leaves=30):
    """Scores with ties, labels of rising prevalence and leaves at random."""
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, k)) < np.linspace(0.1, 0.8, k)
    scores = np.round(rng.normal(size=(rows, k)) + labels, 1)
    return scores, labels, rng.integers(0, leaves, rows)
