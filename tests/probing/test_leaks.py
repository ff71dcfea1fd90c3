"""Leaks: rows of a held-out leaf may be garbage, and nothing that is fitted for its fold changes by one bit."""

import dataclasses

import numpy as np
import pytest

from probing.categories.massive import TREATMENTS, fit_treatment
from probing.edits.erasure import fit_leace
from probing.lens import fit_translator
from probing.probes import PROBES, Standardizer, held_out
from probing.probes.held_out import LabelledRows, held_out_scores
from probing.probes.transfer import group_means, orthogonal_map
from probing.similarity import predictivity

LEAVES, EACH, WIDTH, FOLD = 12, 4, 6, 1
LEAF = np.repeat(np.arange(LEAVES), EACH)
FOLDS = LEAF % 3
HELD_OUT = FOLDS == FOLD
PENALTIES = (1.0, 100.0)
GARBAGE = {
    "noise": lambda shape: 1e6 * np.random.default_rng(9).normal(size=shape),
    "undefined": lambda shape: np.full(shape, np.nan),
}


def world(seed=0):
    """Rows of two modalities in which a direction of each tells the label, and the labels."""
    rng = np.random.default_rng(seed)
    labels = (LEAF // 3 % 2 == 0)[:, None]
    features = {
        name: rng.normal(size=(len(LEAF), WIDTH)) + 2 * labels * rng.normal(size=WIDTH) + offset
        for name, offset in (("image", 3.0), ("text", -1.0))
    }
    return features, labels


def spoilt(features, rows, kind):
    """The same features, but garbage in some rows."""
    return {
        name: np.where(rows[:, None], GARBAGE[kind](values.shape), values)
        for name, values in features.items()
    }


def arrays(fitted):
    """Every array and number that a fitted thing consists of, in order."""
    if dataclasses.is_dataclass(fitted):
        return [part for field in dataclasses.fields(fitted) for part in arrays(getattr(fitted, field.name))]
    if isinstance(fitted, tuple | list):
        return [part for each in fitted for part in arrays(each)]
    return [] if fitted is None or isinstance(fitted, str) else [np.asarray(fitted)]


def same_bits(first, second):
    """Whether two fitted things consist of the same bits."""
    pairs = list(zip(arrays(first), arrays(second), strict=True))
    assert pairs
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def labelled(labels):
    """The rows of a modality with a control task and one draw of shuffled labels."""
    rng = np.random.default_rng(1)
    control = (rng.permutation(LEAVES)[LEAF] % 2 == 0)[None, :, None]
    return LabelledRows(labels, LEAF, FOLDS, control, rng.permutation(labels)[None])


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("name", PROBES)
def test_the_probes_of_a_fold_are_fitted_without_its_leaves(name, kind):
    features, labels = world()
    rows, by_fold = {"image": labelled(labels)}, {}

    def fit(known, columns, groups, penalties, **options):
        (fold,) = set(FOLDS) - set(groups % 3)
        if fold != FOLD and fold in by_fold:  # another fold's probes see the garbage, as they should
            return by_fold[fold][-1]
        by_fold.setdefault(fold, []).append(PROBES[name](known, columns, groups, penalties, **options))
        return by_fold[fold][-1]

    for given in (features, spoilt(features, HELD_OUT, kind)):
        held_out_scores(fit, given, rows, "image", [("image", "raw")], PENALTIES)
    clean, dirty = by_fold[FOLD]
    assert same_bits(clean, dirty)


@pytest.mark.parametrize("transform", ["centred", "procrustes"])
def test_what_takes_a_modality_to_another_is_fitted_without_the_leaves_of_the_fold(monkeypatch, transform):
    features, labels = world()
    rows, calls = {name: labelled(labels) for name in features}, []
    put = held_out.standardize_for

    def watched(name, own, trained, coming, bridge=None):
        calls.append((own, trained, bridge))
        return put(name, own, trained, coming, bridge)

    monkeypatch.setattr(held_out, "standardize_for", watched)
    for given in (features, spoilt(features, HELD_OUT, "noise")):
        held_out_scores(PROBES["ridge"], given, rows, "text", [("image", transform)], PENALTIES)
    clean, dirty = calls[:3], calls[3:]
    assert same_bits(clean[FOLD], dirty[FOLD])
    assert not same_bits(clean[FOLD - 1], dirty[FOLD - 1])


def test_what_predicts_a_fold_is_fitted_without_its_leaves(monkeypatch):
    features, _ = world()
    (_, test), *_ = predictivity._folds(len(LEAF), LEAF, 3, 0)
    rows, weights, ridge = np.isin(np.arange(len(LEAF)), test), [], predictivity._ridge
    monkeypatch.setattr(
        predictivity, "_ridge", lambda *given: (weights.append(ridge(*given)), weights[-1])[1]
    )
    for given in (features, spoilt(features, rows, "noise")):
        predictivity.linear_predictivity(given["image"], given["text"], LEAF, folds=3)
    clean, dirty = weights[:3], weights[3:]
    assert same_bits(clean[0], dirty[0])
    assert not same_bits(clean[1], dirty[1])


def directions(image, text, labels, groups):
    """Unit directions of every kind of probe."""
    return [
        fit(image, labels.astype(float), groups, PENALTIES).directions() for _, fit in sorted(PROBES.items())
    ]


def bridge(image, text, labels, groups):
    """The rotation of pictures onto text over leaf means."""
    names = np.unique(groups)
    return orthogonal_map(group_means(image, groups, names), group_means(text, groups, names))


FITTED = {
    "standardizer": lambda image, text, labels, groups: Standardizer.fit(image),
    "eraser": lambda image, text, labels, groups: fit_leace(image, labels, shrinkage=0.1),
    "translator": lambda image, text, labels, groups: fit_translator(image, text, groups, PENALTIES),
    "directions": directions,
    "bridge": bridge,
} | {
    f"treatment {name}": lambda image, text, labels, groups, name=name: fit_treatment(name, image)
    for name in TREATMENTS
    if name != "raw"
}
"""What is fitted on the rows that it is given, all of them of training leaves."""


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("name", FITTED)
def test_what_is_fitted_rests_on_the_training_rows_alone(name, kind):
    features, labels = world()

    def fit(given):
        image, text = (given[key][~HELD_OUT] for key in ("image", "text"))
        return FITTED[name](image, text, labels[~HELD_OUT], LEAF[~HELD_OUT])

    clean = fit(features)
    assert same_bits(clean, fit(spoilt(features, HELD_OUT, kind)))
    if name != "treatment without outliers":  # its dimensions are chosen by size relative to one another
        one_leaf = np.flatnonzero(np.arange(LEAVES) % 3 != FOLD)[0] == LEAF
        assert not same_bits(clean, fit(spoilt(features, one_leaf, "noise")))
