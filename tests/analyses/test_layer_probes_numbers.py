"""Layer probes beside scikit-learn where the control is not null; nothing is fitted to the leaves that are held out."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from analyses.frame.tables import layer_of
from analyses.layer_probes.design import design
from analyses.layer_probes.layers import probe_layers
from analyses.layer_probes.options import Options
from probing.probes import PROBES, held_out
from probing.stats import OUT_OF_FOLD, OUT_OF_FOLD_PARTLY, draw_weights, few_clusters, half_rise, onset
from tests.analyses.leaf_stores import LEAVES, SITES, TAXONOMY, MemoryStore, planted

PENALTY = 30.0
SITE = SITES[-1]
QUICK = Options(
    draws=60, folds=4, penalties=(PENALTY,), workers=1, spans=("last",), sites=(SITE,), transforms=("raw",)
)


def out_of_fold(train, labels, test, rows_of):
    """Scores of the test rows by scikit-learn's ridge on the training rows of other folds, with their standardiser."""
    scores = np.empty((len(test), labels.shape[1]))
    for fold in np.unique(rows_of["train"].folds):
        seen, coming = rows_of["train"].folds != fold, rows_of["test"].folds == fold
        scaler = StandardScaler().fit(train[seen])
        probe = Ridge(alpha=PENALTY).fit(scaler.transform(train[seen]), labels[seen])
        scores[coming] = probe.predict(scaler.transform(test[coming]))
    return scores


def mean_auroc(scores, labels, folds, weights=None):
    """Mean over targets of the AUROC over pairs of rows of one fold; a row counts as often as its weight says."""
    weights = np.ones(len(folds)) if weights is None else weights
    values = []
    for target in range(labels.shape[1]):
        wins = pairs = 0.0
        for fold in np.unique(folds):
            has, own = labels[folds == fold, target], weights[folds == fold]
            count = own[has].sum() * own[~has].sum()
            if count:
                auroc = roc_auc_score(has, scores[folds == fold, target], sample_weight=own)
                wins, pairs = wins + count * auroc, pairs + count
        values.append(wins / pairs)
    return float(np.mean(values))


@pytest.mark.parametrize("split", ["leaf", "ungrouped"])
@pytest.mark.parametrize("modality", ["image", "text", "text→image", "image→text"])
def test_auroc_control_and_selectivity_are_those_of_scikit_learn(split, modality):
    image, text = planted(strength=0.6)
    options = replace(QUICK, split=split, controls=2)
    table = probe_layers({9: image}, text, TAXONOMY, options).table
    plan = design({9: image}, text, TAXONOMY, options)
    names = {"image": "image@9", "text": "text"}
    kinds = dict(zip(("train", "test"), (names[one] for one in (modality.split("→") * 2)[:2]), strict=True))
    x = {side: plan.sources[name].read(SITE, "last").astype(float) for side, name in kinds.items()}
    rows_of = {side: plan.rows[name] for side, name in kinds.items()}
    tasks = [
        (rows_of["train"].labels, rows_of["test"].labels),
        *zip(rows_of["train"].controls, rows_of["test"].controls, strict=True),
    ]
    folds = rows_of["test"].folds
    auroc, *floors = (
        mean_auroc(out_of_fold(x["train"], fitted, x["test"], rows_of), true, folds) for fitted, true in tasks
    )
    rows = table[(table["modality"] == modality) & (table["target"] == "mean")]
    values = rows.set_index("measure")["value"]
    assert values["auroc"] == pytest.approx(auroc, abs=1e-9)
    assert values["control_auroc"] == pytest.approx(np.mean(floors), abs=1e-9)
    assert values["selectivity"] == pytest.approx(auroc - np.mean(floors), abs=1e-9)
    if (split, modality) == (
        "ungrouped",
        "image",
    ):  # the probe remembers leaves: the control is far from chance
        assert np.mean(floors) > 0.7


def test_the_interval_of_selectivity_draws_the_same_leaves_on_both_sides():
    image, _ = planted(strength=0.6)
    options = replace(QUICK, split="ungrouped", controls=1, draws=8)
    table = probe_layers({9: image}, None, TAXONOMY, options).table
    plan = design({9: image}, None, TAXONOMY, options)
    rows, x = plan.rows["image@9"], plan.sources["image@9"].read(SITE, "last").astype(float)
    tasks = (rows.labels, rows.controls[0])
    scores = [out_of_fold(x, labels, x, {"train": rows, "test": rows}) for labels in tasks]
    draws = [
        [mean_auroc(own, labels, rows.folds, weights[rows.groups]) for own, labels in zip(scores, tasks)]
        for weights in draw_weights(len(plan.leaves), options.draws, options.seed)
    ]
    difference = np.subtract(*np.transpose(draws))
    values = table[(table["target"] == "mean") & (table["measure"] == "selectivity")]
    value, *limits = values[["value", "lower", "upper"]].to_numpy()[0]
    factor = OUT_OF_FOLD_PARTLY * few_clusters(np.array(len(LEAVES)))
    wider = value + factor * (np.quantile(difference, [0.025, 0.975]) - value)
    np.testing.assert_allclose(limits, wider, atol=1e-9)


def with_garbage(store, leaves, seed):
    """The store with rows of these leaves that mean nothing, each dimension on its own huge scale."""
    member = store.columns["leaf"].isin(leaves).to_numpy()
    rng = np.random.default_rng(seed)
    values = {}
    for key, x in store.values.items():
        garbage = rng.normal(1e3, 1e4, x.shape) * rng.lognormal(0, 3, x.shape[1])
        values[key] = np.where(member[:, None], garbage, x).astype(np.float32)
    return MemoryStore(values, store.columns)


@pytest.fixture
def fitted(monkeypatch):
    """Probes with the labels they were fitted to, and maps between modalities, in the order of fitting."""
    probes, maps = [], []
    plain, adapted = PROBES["ridge"], held_out.standardize_for

    def fit(features, labels, *arguments, **options):
        probes.append((plain(features, labels, *arguments, **options), labels))
        return probes[-1][0]

    def standardize_for(transform, own, other, features, bridge=None):
        maps.append((transform, own, other, bridge))
        return adapted(transform, own, other, features, bridge)

    monkeypatch.setitem(PROBES, "ridge", fit)
    monkeypatch.setattr(held_out, "standardize_for", standardize_for)
    return probes, maps


def numbers(one):
    """All that a probe, or a map between modalities, was fitted to be."""
    if isinstance(one[0], str):
        _, own, other, bridge = one
        return [own.mean, own.scale, other.mean, other.scale, *([] if bridge is None else [bridge])]
    probe, labels = one
    parts = ("coefficients", "intercept", "penalty", "slope", "offset")
    return [probe.standardizer.mean, probe.standardizer.scale, *(getattr(probe, p) for p in parts), labels]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


def test_the_leaves_of_a_fold_change_nothing_that_is_fitted_for_it(fitted):
    """Probes with their penalty, calibration, standardiser and labels; standardisers and rotations of transfer."""
    probes, maps = fitted
    options = replace(
        QUICK, penalties=(1.0, 100.0, 1e4), transforms=("raw", "centred", "procrustes"), controls=2
    )
    stores = planted()
    plan = design({9: stores[0]}, stores[1], TAXONOMY, options)
    fold_of = dict(zip(plan.rows["text"].groups, plan.rows["text"].folds))
    probe_layers({9: stores[0]}, stores[1], TAXONOMY, options)
    clean = list(probes), list(maps)
    folds = sorted(set(fold_of.values()))
    assert len(clean[0]) == 2 * len(folds)  # pictures, then text
    assert len(clean[1]) == 2 * 2 * len(folds)  # centred and rotated, into either modality
    for fold in folds[:2]:
        probes.clear(), maps.clear()
        out = [plan.leaves[group] for group in fold_of if fold_of[group] == fold]
        image, text = (with_garbage(store, out, seed) for seed, store in enumerate(stores))
        probe_layers({9: image}, text, TAXONOMY, options)
        for before, after in zip(clean, (probes, maps), strict=True):
            per_fold = len(before) // (2 * len(folds))
            unchanged = [same(a, b) for a, b in zip(before, after, strict=True)]
            expected = [at == fold for _ in range(2) for at in folds for _ in range(per_fold)]
            assert unchanged == expected


def test_control_labels_and_folds_do_not_depend_on_what_is_read():
    image, text = planted()
    out = TAXONOMY.leaves_of("bird")
    plans = [
        design({9: one}, two, TAXONOMY, QUICK)
        for one, two in ((image, text), (with_garbage(image, out, 0), with_garbage(text, out, 1)))
    ]
    for name, rows in plans[0].rows.items():
        other = plans[1].rows[name]
        for part in ("labels", "groups", "folds", "controls", "shuffled"):
            np.testing.assert_array_equal(getattr(rows, part), getattr(other, part))
    by_leaf = [
        dict(zip(np.array(LEAVES)[rows.groups], map(tuple, rows.controls[0])))
        for rows in plans[0].rows.values()
    ]
    assert by_leaf[0] == by_leaf[1]


@pytest.mark.parametrize("split", ["leaf", "family"])
def test_control_labels_are_those_of_leaves_of_the_same_fold(split):
    image, text = planted()
    rows = design({9: image}, text, TAXONOMY, replace(QUICK, split=split, controls=4)).rows["image@9"]
    for fold in np.unique(rows.folds):
        held = rows.folds == fold
        for control in rows.controls:
            np.testing.assert_array_equal(control[held].sum(axis=0), rows.labels[held].sum(axis=0))
    assert split == "family" or all((control != rows.labels).any() for control in rows.controls)


def test_first_layers_of_each_mean_are_those_of_its_own_selectivity_in_layers():
    image, _ = planted(strength=0.5)
    out = ("bird", "tool")
    options = replace(QUICK, sites=None, held_out=out, draws=100)
    probes = probe_layers({9: image}, None, TAXONOMY, options)
    ((sites, along),) = probes.curves.values()
    layers = [layer_of(site) for site in sites]
    assert layers == [-1, 0, 1, 2, 3, 4]
    limits = {}
    leaves = {"mean": len(LEAVES), "mean of held-out": len(LEAVES) // 2, "mean of seen": len(LEAVES) // 2}
    for target, series in along.items():
        factor = OUT_OF_FOLD * float(few_clusters(np.array(leaves[target])))
        value, draws = series.selectivity, series.selectivity_draws
        first = onset(value, draws, 0, inflation=factor)
        half = half_rise(value, value + factor * (draws - value), 0)
        for measure, one in (("onset", first), ("half_rise", half)):
            table = probes.table[(probes.table["measure"] == measure) & (probes.table["target"] == target)]
            counted = one.value, one.lower, one.upper
            expected = [layers[int(at)] if np.isfinite(at) else at for at in counted]
            np.testing.assert_array_equal(table[["value", "lower", "upper"]].to_numpy()[0], expected)
            limits[target, measure] = tuple(map(str, expected))
    assert len(set(limits.values())) > 1


@pytest.mark.parametrize("split", ["leaf", "ungrouped"])
@pytest.mark.parametrize("modality", ["image", "text→image"])
def test_limits_are_as_much_wider_than_the_bootstrap_as_it_leaves_out(split, modality):
    """The mean of all hypernyms, one, the selectivity of one, and seen minus held-out."""
    options = replace(QUICK, split=split, held_out=("bird",))
    probes = probe_layers({9: planted(strength=0.6)[0]}, planted(strength=0.6)[1], TAXONOMY, options)
    trained = OUT_OF_FOLD if (split, modality) == ("leaf", "image") else OUT_OF_FOLD_PARTLY
    (along,) = (curve for one, (_, curve) in probes.curves.items() if one.modality == modality)
    of_birds = trained * float(few_clusters(np.array(8)))
    difference = along["mean of seen"].auroc_draws - along["mean of held-out"].auroc_draws
    expected = {
        ("mean", "auroc"): (along["mean"].auroc_draws, trained * float(few_clusters(np.array(len(LEAVES))))),
        ("bird", "auroc"): (along["mean of held-out"].auroc_draws, of_birds),
        ("mean of held-out", "selectivity"): (along["mean of held-out"].selectivity_draws, of_birds),
        ("seen minus held-out", "auroc_difference"): (difference, of_birds),
    }
    rows = probes.table[probes.table["modality"] == modality].set_index(["target", "measure"])
    for at, (draws, factor) in expected.items():
        value, *limits = rows.loc[at, ["value", "lower", "upper"]]
        least = 0 if at[1] == "auroc" else -1
        wider = value + factor * (np.quantile(draws[:, 0], [0.025, 0.975]) - value)
        np.testing.assert_allclose(limits, np.clip(wider, least, 1), atol=1e-12)
