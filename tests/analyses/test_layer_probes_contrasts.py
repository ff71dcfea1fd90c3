"""Contrasts of layer probes: paired by leaf and by seed, with the sign of first minus second."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from analyses.layer_probes.contrasts import contrast_summary, contrast_table, contrasts
from analyses.layer_probes.layers import probe_layers
from analyses.layer_probes.options import Options
from probing.stats import OUT_OF_FOLD, expanded
from probing.store import MismatchError
from tests.analyses.leaf_stores import LEAVES, ONSET, SITES, TAXONOMY, MemoryStore, planted

QUICK = Options(draws=100, folds=4, penalties=(10.0, 1000.0), workers=1)


@pytest.fixture(scope="module")
def stores():
    return planted()


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


def test_contrasts_are_paired_and_vanish_between_equals(stores):
    image, text = stores
    options = replace(QUICK, spans=("last",))
    weak, _ = planted(strength=0.0)
    strong, none = (probe_layers({9: store}, text, TAXONOMY, options) for store in (image, weak))
    same = contrasts([strong], [strong])
    assert (same[["value", "lower", "upper"]].to_numpy() == 0).all()
    table = pick(contrasts([strong, strong], [none, none]), modality="image", target="mean").set_index("site")
    assert table.loc[SITES[-1], "lower"] > 0.2
    # Up to the planted layer the two stores hold the same numbers.
    assert (table.loc[list(SITES[: ONSET + 1]), ["value", "lower", "upper"]].to_numpy() == 0).all()
    with pytest.raises(ValueError, match="asked to contrast 2 runs with 1"):
        contrasts([strong, strong], [none])


@pytest.fixture(scope="module")
def pairs(stores):
    """Two pairs of probed runs: pictures with what is planted, and with less of it, in two worlds."""
    options = replace(QUICK, spans=("last",), sites=SITES[-2:], transforms=())
    return [
        [probe_layers({9: planted(strength, seed=seed)[0]}, stores[1], TAXONOMY, options) for seed in (0, 1)]
        for strength in (2.0, 0.4)
    ]


def test_a_contrast_is_first_minus_second_of_the_tables_with_draws_of_the_same_leaves(pairs):
    (first, *_), (second, *_) = pairs
    table = contrast_table([first], [second], "a minus b", "leaf", 0)
    assert set(table["run"]) == {"a minus b"}
    rows = pick(table, modality="image", target="mean").set_index("site")
    sides = [
        pick(one.table, modality="image", target="mean", measure="auroc").set_index("site")["value"]
        for one in (first, second)
    ]
    assert (rows["value"] > 0).all()
    np.testing.assert_allclose(rows["value"], (sides[0] - sides[1])[rows.index])
    condition = next(one for one in first.curves if one.modality == "image")
    draws = [one.curves[condition][1]["mean"].auroc_draws for one in (first, second)]
    limits = np.quantile(draws[0] - draws[1], [0.025, 0.975], axis=0)
    lower, upper = expanded(rows["value"].to_numpy(), *limits, OUT_OF_FOLD)
    np.testing.assert_allclose(rows[["lower", "upper"]], np.column_stack([lower, upper]))
    # An interval of other draws on the second side is another one: leaves are paired.
    unpaired = np.quantile(draws[0] - draws[1][::-1], [0.025, 0.975], axis=0)
    assert np.abs(unpaired - limits).max() > 0.001
    assert set(table["pairs"]) == {1}
    assert "paired by leaf; one pair of runs: differences between seeds not included" in contrast_summary(
        table
    )
    turned = pick(contrasts([second], [first]), modality="image", target="mean").set_index("site")
    np.testing.assert_allclose(turned[["value", "lower", "upper"]], -rows[["value", "upper", "lower"]])


def test_limits_of_several_pairs_add_the_variance_between_them(pairs):
    table = pick(contrasts(*pairs), modality="image", target="mean")
    condition = next(one for one in pairs[0][0].curves if one.modality == "image")
    draws = [[run.curves[condition][1]["mean"].auroc_draws for run in side] for side in pairs]
    each = np.stack(draws[0]) - np.stack(draws[1])
    values = [[run.curves[condition][1]["mean"].auroc for run in side] for side in pairs]
    between = (np.stack(values[0]) - np.stack(values[1])).var(axis=0, ddof=1) / 2
    leaves = OUT_OF_FOLD**2 * each.mean(axis=0).var(axis=0, ddof=1)
    half = np.hypot(
        student.ppf(0.975, len(LEAVES) - 1) * np.sqrt(leaves), student.ppf(0.975, 1) * np.sqrt(between)
    )
    np.testing.assert_allclose(table["upper"] - table["value"], half)
    np.testing.assert_allclose(table["value"] - table["lower"], half)
    assert set(table["pairs"]) == {2}
    named = contrast_table(*pairs, "a minus b", "leaf", 0)
    assert "a minus b (paired by leaf; mean of 2 pairs of runs)" in contrast_summary(named)


def test_runs_of_other_sites_or_targets_are_not_contrasted(stores, pairs):
    (first, *_), (second, *_) = pairs
    options = replace(QUICK, spans=("last",), sites=SITES[-3:-1], transforms=())
    other = probe_layers({9: stores[0]}, stores[1], TAXONOMY, options)
    with pytest.raises(
        MismatchError, match="runs with different sites at last cannot be contrasted; name sites"
    ):
        contrasts([first], [other])
    with pytest.raises(MismatchError, match="runs with different targets cannot be contrasted"):
        contrasts([first], [replace(second, targets=second.targets[1:])])


def test_contrasts_of_seen_and_held_out_hypernyms_and_of_several_seeds(stores):
    image, text = stores
    options = replace(QUICK, spans=("last",), sites=SITES[-1:], transforms=(), held_out=("bird",))
    weak, strong = (
        [probe_layers({9: planted(strength=s, seed=seed)[0]}, text, TAXONOMY, options) for seed in (0, 1)]
        for s in (0.0, 2.0)
    )
    values = [pick(contrasts(a, b), modality="image").set_index("target") for a, b in
              ((strong, weak), (strong[:1], weak[:1]), (strong[1:], weak[1:]))]  # fmt: skip
    both, first, second = values
    assert both.loc["mean", "value"] == pytest.approx(
        (first.loc["mean", "value"] + second.loc["mean", "value"]) / 2
    )
    for table in values:
        assert table.loc["seen minus held-out", "value"] == pytest.approx(
            table.loc["mean of seen", "value"] - table.loc["mean of held-out", "value"]
        )
        assert (table["lower"] < table["upper"]).all()
    # The interval is over seeds too: it reaches beyond the lower of two that differ.
    assert both.loc["mean", "lower"] < min(first.loc["mean", "value"], second.loc["mean", "value"])
    unlike = probe_layers({9: image}, text, TAXONOMY, replace(options, held_out=()))
    assert set(contrasts(strong[:1], [unlike])["target"]) == {"mean"}


def test_runs_of_different_leaves_are_not_contrasted(stores):
    image, text = stores
    few = image.columns["leaf"].isin(LEAVES[:-1]).to_numpy()
    fewer = MemoryStore({key: value[few] for key, value in image.values.items()}, image.columns[few])
    options = replace(QUICK, spans=("last",), sites=SITES[-1:])
    first, second = (probe_layers({9: store}, text, TAXONOMY, options) for store in (image, fewer))
    with pytest.raises(MismatchError, match="runs with different leaves cannot be paired"):
        contrasts([first], [second])
