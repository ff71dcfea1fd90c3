"""Matched controls: factors at which monotone effects of any shape are the wanted ones, and those that are not."""

import numpy as np

from probing.edits.matching import FARTHEST, TOLERANCE, match_effect

SHAPES = {
    "linear": lambda x: 0.3 * x,
    "quadratic": lambda x: 2.0 * x**2,
    "saturating": lambda x: 3 * (1 - np.exp(-0.2 * x**2)),
    "steep": lambda x: np.expm1(np.minimum(0.5 * x, 30)),
    "late": lambda x: np.maximum(x - 3, 0) ** 2,
}


def test_the_wanted_effect_is_reached_whatever_the_shape_and_each_control_stops_when_it_is():
    shapes, called = list(SHAPES.values()), []

    def effect(chosen, factor):
        called.append(chosen)
        return np.array([shapes[at](one) for at, one in zip(chosen, factor)])

    for wanted in (0.05, 0.8, 2.5):
        called.clear()
        scales = match_effect(effect, np.full(len(shapes), wanted))
        assert scales.reached.all()
        reached = np.array([shape(one) for shape, one in zip(shapes, scales.factor)])
        assert np.abs(reached / wanted - 1).max() <= TOLERANCE
        assert len(called) <= 12
        assert sum(1 in one for one in called) <= 2  # a quadratic effect is known after one try


def test_effects_that_level_off_below_are_said_to_be_out_of_reach_and_the_nearest_try_stands():
    ceilings = np.array([1.0, 5.0, 0.0])
    scales = match_effect(lambda chosen, x: ceilings[chosen] * (1 - np.exp(-x)), np.full(3, 2.0))
    np.testing.assert_array_equal(scales.reached, [False, True, False])
    assert scales.factor[0] > FARTHEST / 4
    assert np.isfinite(scales.factor).all()


def test_known_effects_at_factor_one_are_not_measured_again():
    called = []

    def effect(chosen, factor):
        called.append(factor)
        return factor**2

    scales = match_effect(effect, np.array([1.0, 4.0]), first=np.array([1.0, 1.0]))
    np.testing.assert_allclose(scales.factor, [1, 2])
    assert len(called) == 1
