"""Procrustes against scipy and a search over rotations."""

import numpy as np
import pytest
from scipy.spatial import procrustes

from probing.similarity.procrustes import alignment, angular_distance, procrustes_distance


def test_equals_scipy_disparity():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 4)), rng.standard_normal((20, 4)) + 2
    disparity = procrustes(x, y)[2]
    assert 1 - alignment(x, y) ** 2 == pytest.approx(disparity, abs=1e-12)
    assert procrustes_distance(x, y) ** 2 == pytest.approx(2 - 2 * np.sqrt(1 - disparity), abs=1e-12)
    assert np.cos(angular_distance(x, y)) == pytest.approx(np.sqrt(1 - disparity), abs=1e-12)


def test_widths_may_differ_and_may_exceed_the_rows():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((10, 3)), rng.standard_normal((10, 30))
    padded = np.c_[x, np.zeros((10, 27))]
    disparity = procrustes(padded, y)[2]
    assert 1 - alignment(x, y) ** 2 == pytest.approx(disparity, abs=1e-12)


def test_no_rotation_comes_closer():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 15, 2))
    a, b = (z - z.mean(0) for z in (x, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    angles = np.linspace(0, 2 * np.pi, 2000)
    rotations = [np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in angles]
    distances = [np.linalg.norm(a - b @ (r * flip)) for r in rotations for flip in ([1, 1], [1, -1])]
    assert procrustes_distance(x, y) == pytest.approx(min(distances), abs=1e-5)
