"""Every measure is invariant to exactly the symmetries it claims, and says what it cannot compare."""

import numpy as np
import pytest
import torch

from probing.similarity import MEASURES, measure_named
from probing.similarity.measure import SYMMETRIES, Measure

ROWS = 90


def representations(seed):
    """Two representations of the same rows with a shared part, uneven spectra and an offset."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((ROWS, 4))
    x = shared @ rng.standard_normal((4, 7)) + rng.standard_normal((ROWS, 7)) * np.geomspace(0.3, 3, 7) + 0.5
    y = shared @ rng.standard_normal((4, 5)) + rng.standard_normal((ROWS, 5)) * np.geomspace(0.3, 3, 5) - 0.7
    return x, y


def changed(symmetry, x, rng):
    width = x.shape[1]
    orthogonal = np.linalg.qr(rng.standard_normal((width, width)))[0]
    stretched = (
        orthogonal * np.geomspace(0.3, 4, width) @ np.linalg.qr(rng.standard_normal((width, width)))[0]
    )
    offset = rng.standard_normal(width) * 2
    return {
        "translation": x + offset,
        "isotropic scale": 2.7 * x,
        "orthogonal": x @ orthogonal,
        "invertible linear": x @ stretched,
        "affine": x @ stretched + offset,
    }[symmetry]


def largest_change(measure, symmetry, seed):
    """Largest change of the value when either of the two representations is changed."""
    x, y = representations(seed)
    rng = np.random.default_rng(1000 + seed)
    before = measure(x, y)
    if symmetry == "row permutation":
        rows = rng.permutation(ROWS)
        return abs(measure(x[rows], y[rows]) - before)
    after = measure(changed(symmetry, x, rng), y), measure(x, changed(symmetry, y, rng))
    return max(abs(value - before) for value in after)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("name", MEASURES)
def test_invariant_to_exactly_what_is_claimed(name, symmetry):
    measure = MEASURES[name]
    changes = [largest_change(measure, symmetry, seed) for seed in range(3)]
    if symmetry in measure.invariant_to:
        assert max(changes) < 1e-9
    else:
        assert max(changes) > 1e-4


@pytest.mark.parametrize("name", MEASURES)
def test_value_of_a_representation_with_itself_is_the_closest(name):
    measure = MEASURES[name]
    x, y = representations(0)
    itself, other = measure(x, x), measure(x, y)
    # Held-out prediction of a representation from itself pays for the ridge penalty.
    loose = 1e-3 if name == "linear_predictivity" else 1e-7
    assert itself == pytest.approx(1 if measure.higher_is_closer else 0, abs=loose)
    assert (itself > other) == measure.higher_is_closer


@pytest.mark.parametrize("name", MEASURES)
def test_symmetric_exactly_where_claimed(name):
    measure = MEASURES[name]
    x, y = representations(1)
    assert (abs(measure(x, y) - measure(y, x)) < 1e-10) == measure.symmetric


@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if measure.metric])
def test_metrics_obey_the_triangle_inequality(name):
    measure = MEASURES[name]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b, c = (rng.standard_normal((12, width)) for width in (3, 4, 5))
        assert measure(a, c) <= measure(a, b) + measure(b, c) + 1e-12


@pytest.mark.parametrize("name", MEASURES)
def test_same_value_from_torch_and_from_single_precision(name):
    measure = MEASURES[name]
    x, y = representations(2)
    expected = measure(x, y)
    assert measure(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, abs=1e-9)
    assert measure(x.astype(np.float32), y.astype(np.float32)) == pytest.approx(expected, abs=1e-4)


def test_unknown_measure_lists_the_known():
    with pytest.raises(KeyError, match="unknown measure 'ckaa'; known: cka_debiased, cka"):
        measure_named("ckaa")
    assert measure_named("cka").name == "cka"


def test_measure_refuses_an_unknown_symmetry():
    with pytest.raises(KeyError, match="unknown symmetries"):
        Measure("m", lambda x, y: 1.0, True, frozenset({"mirror"}), "nobody")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((5, 2)), np.ones((6, 2)), "same rows"),
        (np.ones(5), np.ones(5), "same rows"),
        (np.eye(3), np.eye(3), "at least 4"),
        (
            np.full((5, 2), np.nan),
            np.ones((5, 2)),
            r"row 0 of the first representation \(cka_debiased\) holds NaN or infinity",
        ),
        (np.eye(5), np.ones((5, 2)), "all rows of the second representation are equal"),
    ],
)
def test_refuses_what_has_no_similarity(x, y, message):
    with pytest.raises(ValueError, match=message):
        MEASURES["cka_debiased"](x, y)
