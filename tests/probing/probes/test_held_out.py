"""Probes that must find what was planted, at the layer where it was planted, and nothing where nothing was."""

import numpy as np
import pytest
from scipy.stats import binomtest, ortho_group
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from probing.probes.controls import control_task
from probing.probes.evaluate import estimates
from probing.probes.fitted import Standardizer
from probing.probes.held_out import LabelledRows, held_out_scores
from probing.probes.linear import fit_ridge
from probing.probes.logistic import fit_logistic
from probing.probes.means import fit_mass_mean
from probing.probes.splits import grouped_folds, ungrouped_folds
from probing.stats import (
    OUT_OF_FOLD,
    OUT_OF_FOLD_BAND,
    OUT_OF_FOLD_DECISIONS,
    ClusterAUROC,
    ClusterRates,
    draw_weights,
    few_clusters,
    lower_band,
    onset,
    permutation_p,
)

PENALTIES = (1.0, 30.0, 1000.0)


def _organism(seed, layers, planted_from, leaves=40, hypernyms=5, rows=3, width=16, strength=1.5):
    """Layers of a model that knows each leaf, and from `planted_from` on also its hypernym."""
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.arange(leaves) % hypernyms)
    leaf = np.repeat(np.arange(leaves), rows)
    identity, directions = rng.normal(size=(leaves, width)), rng.normal(size=(hypernyms, width))
    features = []
    for layer in range(layers):
        values = identity[leaf] + rng.normal(size=(len(leaf), width))
        features.append(values + strength * (layer >= planted_from) * directions[kind[leaf]])
        identity = 0.5 * identity + np.sqrt(0.75) * rng.normal(size=identity.shape)
    return features, np.eye(hypernyms, dtype=bool)[kind], leaf


def _rows(of_leaf, leaf, controls, ungrouped=False, n_folds=4):
    fold_of = grouped_folds(np.arange(len(of_leaf)), of_leaf, n_folds)
    drawn = control_task(of_leaf, np.arange(len(of_leaf)), 0 * fold_of if ungrouped else fold_of, controls)
    folds = ungrouped_folds(len(leaf), n_folds) if ungrouped else fold_of[leaf]
    return LabelledRows(of_leaf[leaf], leaf, folds, drawn[:, leaf])


def _probe(features, rows, fit=fit_ridge, draws=200, penalties=PENALTIES):
    """Table and the series of the mean over targets along the given sites."""
    held = [held_out_scores(fit, {"x": x}, {"x": rows}, "x", [("x", "raw")], penalties)[0] for x in features]
    width = rows.labels.shape[1]
    weights = draw_weights(len(np.unique(rows.groups)), draws)
    names, subsets = [f"kind {k}" for k in range(width)], {"mean": range(width)}
    table, series = estimates([site["x", "raw"] for site in held], rows, names, subsets, weights)
    return table, series["mean"]


def test_scores_equal_those_of_a_plain_loop():
    (features,), of_leaf, leaf = _organism(0, 1, 0)
    rows = _rows(of_leaf, leaf, 1)
    found, _ = held_out_scores(fit_ridge, {"x": features}, {"x": rows}, "x", [("x", "raw")], (30.0,))
    for fold in range(4):
        out = rows.folds == fold
        scaled = Standardizer.fit(features[~out])
        peer = Ridge(alpha=30.0).fit(scaled(features[~out]), rows.blocks[~out].astype(float))
        expected = peer.predict(scaled(features[out])).reshape(out.sum(), 2, -1)
        np.testing.assert_allclose(found["x", "raw"].scores[out], expected, atol=1e-8)


def test_test_rows_cannot_reach_their_own_probe():
    (features,), of_leaf, leaf = _organism(0, 1, 0)
    rows = _rows(of_leaf, leaf, 1)
    spoiled = np.where((rows.folds == 2)[:, None], 1e3, features)
    first, second = (
        held_out_scores(
            fit_ridge, {"x": seen, "y": features}, {"x": rows, "y": rows}, "x", [("y", "raw")], PENALTIES
        )[0]
        for seen in (features, spoiled)
    )
    here = rows.folds == 2
    np.testing.assert_array_equal(first["y", "raw"].scores[here], second["y", "raw"].scores[here])


@pytest.mark.parametrize("fit", [fit_ridge, fit_logistic, fit_mass_mean])
def test_every_probe_finds_the_planted_layer(fit):
    features, of_leaf, leaf = _organism(1, 6, 3)
    table, series = _probe(features, _rows(of_leaf, leaf, 3), fit)
    n = len(of_leaf)
    assert onset(series.selectivity, series.selectivity_draws, n, inflation=OUT_OF_FOLD_BAND).value == 3
    means = table[table["target"] == "mean"].set_index(["measure", "index"])["value"]
    assert means["auroc", 5] > 0.9
    assert means["balanced_accuracy", 5] > 0.8
    assert means["macro_f1", 5] > 0.6
    assert means["log_loss", 5] < means["log_loss", 0]


def test_onset_is_the_planted_layer_in_at_least_190_of_200_organisms():
    hits = 0
    for seed in range(200):
        features, of_leaf, leaf = _organism(seed, 5, 2)
        _, series = _probe(features, _rows(of_leaf, leaf, 2), draws=150)
        found = onset(series.selectivity, series.selectivity_draws, len(of_leaf), inflation=OUT_OF_FOLD_BAND)
        hits += found.value == 2
    assert hits >= 190


def test_nothing_planted_is_found_rarely():
    """By the permutation p and by the band over layers; how rarely, `tests/calibration` counts."""
    false = {"p": 0, "band": 0}
    for seed in range(100):
        features, of_leaf, leaf = _organism(seed, 4, 99, leaves=30, hypernyms=3, width=12)
        _, series = _probe(features, _rows(of_leaf, leaf, 19), draws=100)
        false["p"] += permutation_p(series.auroc, series.null).min() <= 0.05
        band = lower_band(series.selectivity, series.selectivity_draws, inflation=OUT_OF_FOLD_BAND)
        false["band"] += (band > 0).any()
    assert binomtest(false["p"], 100, 0.05).pvalue > 0.001
    assert binomtest(false["band"], 100, 0.05, alternative="greater").pvalue > 0.001


def test_leaf_identity_alone_leaks_through_ungrouped_folds_and_the_control_task_says_so():
    (features,), of_leaf, leaf = _organism(3, 1, 99, rows=8, width=60)
    sharp = features + 3 * np.random.default_rng(0).normal(size=(len(of_leaf), 60))[leaf]
    leaky = _probe([sharp], _rows(of_leaf, leaf, 3, ungrouped=True))[1]
    honest = _probe([sharp], _rows(of_leaf, leaf, 3))[1]
    assert leaky.auroc[0] > 0.95
    assert leaky.null.mean() > 0.95
    assert abs(leaky.selectivity[0]) < 0.05
    assert abs(honest.auroc[0] - 0.5) < 0.1
    assert abs(honest.null.mean() - 0.5) < 0.1


def test_pooling_folds_is_biased_where_strata_are_not():
    pooled, within = [], []
    for seed in range(30):
        (features,), of_leaf, leaf = _organism(seed, 1, 99, leaves=20, hypernyms=4, rows=1)
        rows = _rows(of_leaf, leaf, 0)
        rows = LabelledRows(rows.labels, rows.groups, leaf % 10, rows.controls)
        found, _ = held_out_scores(fit_ridge, {"x": features}, {"x": rows}, "x", [("x", "raw")], (1e6,))
        scores = found["x", "raw"].scores[:, 0]
        pooled.append(ClusterAUROC(scores, rows.labels, leaf).value.mean())
        within.append(np.nanmean(ClusterAUROC(scores, rows.labels, leaf, rows.folds).value))
    assert abs(np.mean(within) - 0.5) < 3 * np.std(within) / np.sqrt(30)
    assert np.mean(pooled) < 0.5 - 3 * np.std(pooled) / np.sqrt(30)


def test_a_code_shared_up_to_a_rotation_transfers_only_after_procrustes():
    (features,), of_leaf, leaf = _organism(5, 1, 0, width=12, rows=4)
    turned = features @ ortho_group.rvs(12, random_state=0) + 5
    rows = _rows(of_leaf, leaf, 2)
    tests = [("picture", transform) for transform in ("raw", "centred", "procrustes")] + [("text", "raw")]
    found, _ = held_out_scores(
        fit_ridge,
        {"text": features, "picture": turned},
        {"text": rows, "picture": rows},
        "text",
        tests,
        PENALTIES,
    )
    score = {
        key: ClusterAUROC(h.scores[:, 0], rows.labels, leaf, rows.folds).value.mean()
        for key, h in found.items()
    }
    assert score["picture", "procrustes"] > score["text", "raw"] - 0.05
    assert score["picture", "centred"] < 0.75


def test_a_shift_between_modalities_is_undone_by_centring():
    (features,), of_leaf, leaf = _organism(6, 1, 0)
    shifted = features * 3 + 10
    rows = _rows(of_leaf, leaf, 1)
    data, both = {"text": features, "picture": shifted}, {"text": rows, "picture": rows}
    tests = [("text", "raw"), ("picture", "centred")]
    found, _ = held_out_scores(fit_ridge, data, both, "text", tests, PENALTIES)
    np.testing.assert_allclose(found["picture", "centred"].scores, found["text", "raw"].scores, atol=1e-8)


def test_a_fold_whose_training_rows_are_of_one_class_is_undefined_and_says_why():
    (features,), of_leaf, leaf = _organism(0, 1, 0)
    rows = _rows(of_leaf, leaf, 1)
    labels = rows.labels.copy()
    labels[:, 0] = rows.folds == 2
    rows = LabelledRows(labels, rows.groups, rows.folds, rows.controls)
    found, _ = held_out_scores(fit_ridge, {"x": features}, {"x": rows}, "x", [("x", "raw")], PENALTIES)
    held = found["x", "raw"]
    assert held.undefined == [(2, 0)]
    assert np.isnan(held.scores[rows.folds == 2, 0, 0]).all()
    assert np.isfinite(held.scores[rows.folds != 2, 0, 0]).all()


def test_directions_point_where_the_target_was_planted():
    rng = np.random.default_rng(0)
    (features,), of_leaf, leaf = _organism(7, 1, 99, width=10, rows=6)
    planted = rng.normal(size=10)
    features = features + 6 * of_leaf[leaf][:, :1] * planted / np.linalg.norm(planted)
    rows = _rows(of_leaf, leaf, 1)
    _, directions = held_out_scores(fit_ridge, {"x": features}, {"x": rows}, "x", [("x", "raw")], PENALTIES)
    np.testing.assert_allclose((directions**2).sum(axis=0), 1)
    assert directions[:, 0] @ planted / np.linalg.norm(planted) > 0.7


def test_table_repeats_the_auroc_of_scikit_learn_within_a_fold():
    (features,), of_leaf, leaf = _organism(2, 1, 0, strength=0.5)
    rows = _rows(of_leaf, leaf, 1, n_folds=2)
    table, _ = _probe([features], rows)
    found, _ = held_out_scores(fit_ridge, {"x": features}, {"x": rows}, "x", [("x", "raw")], PENALTIES)
    parts, pairs = [], []
    for fold in (0, 1):
        here = rows.folds == fold
        parts.append(roc_auc_score(rows.labels[here, 1], found["x", "raw"].scores[here, 0, 1]))
        pairs.append(rows.labels[here, 1].sum() * (~rows.labels[here, 1]).sum())
    row = table[(table["target"] == "kind 1") & (table["measure"] == "auroc")].iloc[0]
    assert row["value"] == pytest.approx(np.average(parts, weights=pairs))
    assert row["lower"] < row["value"] < row["upper"]
    assert row["n"] == of_leaf[:, 1].sum() < 40
    assert set(table.loc[table["target"] == "mean", "n"]) == {40}


def test_limits_end_where_the_measure_does_and_few_leaves_widen_them():
    """Five leaves of a kind that is told from all others: the limits of its AUROC would pass 1, those of log-loss 0."""
    (features,), of_leaf, leaf = _organism(1, 1, 0, leaves=25, strength=2.0)
    table, _ = _probe([features], _rows(of_leaf, leaf, 1))
    ranges = {"selectivity": (-1, 1), "log_loss": (0, np.inf)}
    for measure, rows in table.groupby("measure"):
        low, high = ranges.get(str(measure), (0, 1))
        assert (rows["lower"] >= low).all()
        assert (rows["upper"] <= high).all()
        assert (rows["lower"] <= rows["value"]).all()
        assert (rows["value"] <= rows["upper"]).all()
    assert (table["upper"] == 1).any()


def test_limits_of_decisions_are_wider_still():
    (features,), of_leaf, leaf = _organism(1, 1, 0, strength=0.8)
    rows = _rows(of_leaf, leaf, 1)
    held, _ = held_out_scores(fit_ridge, {"x": features}, {"x": rows}, "x", [("x", "raw")], PENALTIES)
    rates = ClusterRates(held["x", "raw"].probabilities >= 0.5, rows.labels, leaf, "f1_yes")
    draws = rates.at(draw_weights(len(of_leaf), 200)).mean(axis=1)
    value = rates.value.mean()
    factor = OUT_OF_FOLD * OUT_OF_FOLD_DECISIONS * few_clusters(np.array(len(of_leaf)))
    table, _ = _probe([features], rows)
    row = table[table["measure"] == "macro_f1"].iloc[0]
    wider = value + factor * (np.quantile(draws, [0.025, 0.975]) - value)
    np.testing.assert_allclose(row[["value", "lower", "upper"]].astype(float), [value, *wider])


def test_where_no_probability_reaches_a_half_macro_f1_has_no_interval():
    (features,), of_leaf, leaf = _organism(4, 1, 99, hypernyms=8)
    table, _ = _probe([features], _rows(of_leaf, leaf, 1), penalties=(1e9,))
    row = table[table["measure"] == "macro_f1"].iloc[0]
    assert row["value"] == 0
    assert np.isnan(row["lower"])
    assert np.isnan(row["upper"])


def test_a_target_of_a_single_leaf_has_no_interval():
    """Rows of a leaf on both sides, so that a probe can name it: there is one leaf, and no variance between leaves."""
    (features,), _, leaf = _organism(0, 1, 99, leaves=10, rows=6)
    table, _ = _probe([features], _rows(np.eye(10, dtype=bool), leaf, 1, ungrouped=True))
    single = table[(table["measure"] == "auroc") & (table["target"] != "mean")]
    assert single["value"].notna().all()
    assert single[["lower", "upper"]].isna().all(axis=None)
    mean = table[(table["measure"] == "auroc") & (table["target"] == "mean")]
    assert mean[["lower", "upper"]].notna().all(axis=None)


def test_rows_of_a_leaf_in_several_folds_are_noticed():
    of_leaf, leaf = np.eye(8, dtype=bool), np.repeat(np.arange(8), 2)
    assert not _rows(of_leaf, leaf, 1).spread
    assert _rows(of_leaf, leaf, 1, ungrouped=True).spread


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="do not describe the same rows and targets"):
        LabelledRows(np.ones((3, 1), bool), np.arange(4), np.zeros(3, int), np.ones((1, 3, 1), bool))


def test_an_unknown_transform_is_refused_with_the_known_ones():
    (features,), of_leaf, leaf = _organism(0, 1, 0)
    rows = _rows(of_leaf, leaf, 1)
    with pytest.raises(KeyError, match="unknown transform 'whitened'; known: raw, centred, procrustes"):
        held_out_scores(
            fit_ridge,
            {"a": features, "b": features},
            {"a": rows, "b": rows},
            "a",
            [("b", "whitened")],
            PENALTIES,
        )
