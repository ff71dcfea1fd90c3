"""Massive dimensions are found, and treatments take away what they say."""

from functools import partial

import numpy as np
import pytest
import torch

from probing.categories.massive import TREATMENTS, fit_treatment, massive_dimensions, massive_rows
from probing.similarity import MEASURES


def rows_with_outliers(seed=0, n=200, d=50):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    x[:, 7] = 300 + 40 * x[:, 7]
    x[:, 3] = -100 + 0.5 * x[:, 3]
    return x


def test_finds_planted_dimensions_and_nothing_else():
    found = massive_dimensions(rows_with_outliers())
    assert [outlier.dimension for outlier in found] == [7, 3]
    assert found[0].ratio_to_median == pytest.approx(300, rel=0.1)
    assert found[0].variance_share > 0.9
    assert found[1].variance_share < 0.01
    assert massive_dimensions(np.random.default_rng(1).standard_normal((200, 50))) == ()


def test_each_treatment_from_numpy_and_torch():
    x = rows_with_outliers()
    for name in TREATMENTS:
        treatment = fit_treatment(name, x)
        treated = treatment(x)
        again = fit_treatment(name, torch.tensor(x))(torch.tensor(x))
        np.testing.assert_allclose(again.numpy(), treated, atol=1e-9)
    np.testing.assert_array_equal(fit_treatment("raw", x)(x), x)
    standardised = fit_treatment("standardised", x)(x)
    np.testing.assert_allclose(standardised.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(standardised.std(0), 1)
    np.testing.assert_array_equal(fit_treatment("without outliers", x)(x), np.delete(x, [3, 7], axis=1))


def test_statistics_come_from_the_training_rows_only():
    x = rows_with_outliers()
    treatment = fit_treatment("standardised", x[:100])
    np.testing.assert_allclose(treatment(x)[150], (x[150] - x[:100].mean(0)) / x[:100].std(0))


def test_constant_feature_keeps_its_scale():
    x = np.c_[np.ones(10), np.arange(10.0)]
    np.testing.assert_array_equal(fit_treatment("standardised", x)(x)[:, 0], np.zeros(10))


def test_raw_similarity_is_owned_by_an_outlier_and_standardised_is_not():
    """The trap: a shared code disappears from raw CKA behind one private massive dimension."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((120, 10))
    x, y = shared + 0.3 * rng.standard_normal((120, 10)), shared + 0.3 * rng.standard_normal((120, 10))
    x = np.c_[x, 200 * rng.standard_normal(120)]
    measure = MEASURES["cka_debiased"]
    values = {name: measure(fit_treatment(name, x)(x), fit_treatment(name, y)(y)) for name in TREATMENTS}
    assert abs(values["raw"]) < 0.05
    # Ten features of correlation 1 / 1.09, beside one private feature of x, all at unit variance.
    population = 10 / 1.09**2 / np.sqrt(11 * 10)
    assert values["standardised"] == pytest.approx(population, abs=0.05)
    assert values["without outliers"] == pytest.approx(10 / 1.09**2 / 10, abs=0.05)


def test_constant_feature_that_rounds_keeps_its_scale():
    x = np.c_[np.full(3001, 0.1), np.arange(3001.0)]
    assert np.abs(fit_treatment("standardised", x)(x)[:, 0]).max() < 1e-12


def test_parts_of_many_rows_give_the_statistics_of_the_whole():
    x = rows_with_outliers(n=5000).astype(np.float32)
    wide = x.astype(np.float64)
    treatment = fit_treatment("standardised", x)
    np.testing.assert_allclose(treatment.offset, wide.mean(0), atol=1e-9)
    np.testing.assert_allclose(treatment.scale, wide.std(0), rtol=1e-9)
    assert treatment(x).dtype == np.float64


def test_massive_rows_are_found_and_unit_rows_take_their_share():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((200, 8))
    x, y = (shared + 0.5 * rng.standard_normal((200, 8)) for _ in range(2))
    x[:3] *= 30
    times = massive_rows(x)
    assert len(times) == 3
    assert (times > 15).all()
    assert len(massive_rows(y)) == 0
    measure = MEASURES["cka_debiased"]
    values = {
        name: measure(fit_treatment(name, x)(x), fit_treatment(name, y)(y))
        for name in ("standardised", "unit rows")
    }
    # Without massive rows it would be this; unit rows win back more than half of what standardised ones lose.
    population = 1 / 1.25**2
    assert values["standardised"] < population / 2
    assert values["unit rows"] > (values["standardised"] + population) / 2
    unit = fit_treatment("unit rows", x)
    np.testing.assert_allclose(np.linalg.norm(unit(x), axis=1), 1)
    assert (unit(np.broadcast_to(unit.offset, (2, 8))) == 0).all()


def test_refusals():
    with pytest.raises(KeyError, match="unknown treatment 'whitened'; known: standardised, raw"):
        fit_treatment("whitened", np.eye(3))
    with pytest.raises(ValueError, match="fitted on 3 features, found 4"):
        fit_treatment("raw", np.eye(3))(np.eye(4))


@pytest.mark.parametrize("seed", range(10))
def test_nan_is_refused_by_its_row(seed):
    rng = np.random.default_rng(seed)
    x = rows_with_outliers(seed, n=3000, d=8)
    row, value = int(rng.integers(3000)), rng.choice([np.nan, np.inf])
    x[row, rng.integers(8)] = value
    for given in (x, torch.tensor(x), x.astype(np.float32)):
        for measure in (massive_dimensions, massive_rows, partial(fit_treatment, "standardised")):
            with pytest.raises(ValueError, match=f"row {row} of the rows holds NaN or infinity"):
                measure(given)
    for name in ("without outliers", "unit rows"):
        with pytest.raises(ValueError, match=f"row {row} of the rows"):
            fit_treatment(name, x)
