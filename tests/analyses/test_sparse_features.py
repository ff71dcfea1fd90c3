"""Features that words and pictures share: found where they are planted, not found where nothing is, and refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom
from tiny_dictionaries import write_sae_lens, write_sparsify

from analyses.inputs.leaf_rows import Captures
from analyses.sparse_features import figures
from analyses.sparse_features.rows import Options, captured_site, dictionaries, features_table, with_q
from analyses.sparse_features.shared import Firing, auroc, sharing
from probing.probes.splits import grouped_folds
from probing.stats import ClusterAUROC
from probing.store import MismatchError
from tests.analyses.leaf_stores import HYPERNYMS, LEAVES, TAXONOMY, WIDTH, MemoryStore, columns_of

SITE = "blocks.1.hook_resid_post"
WORLDS = 8
LABELS = np.asarray(TAXONOMY.labels(LEAVES))
RNG = np.random.default_rng(0)


class Store(MemoryStore):
    path = Path("made-up")

    def read(self, site, span, rows=None):
        values = self.values[site, span]
        return values if rows is None else values[rows]


def stores(shared=2.0, pictures=3, rng=RNG):
    """Words and pictures whose first dimensions say the hypernym, and whose others say nothing."""
    told = np.zeros((len(LEAVES), WIDTH))
    told[:, : len(HYPERNYMS)] = LABELS - 0.5
    words = shared * told + rng.normal(size=(len(LEAVES), WIDTH)) - 0.5
    leaf = np.repeat(np.arange(len(LEAVES)), pictures)
    shown = shared * told[leaf] + rng.normal(size=(len(leaf), WIDTH)) - 0.5
    names = np.array(LEAVES)
    image = Store({(SITE, "last"): shown.astype(np.float32)}, columns_of(names[leaf], "image", 0), (SITE,))
    text = Store({(SITE, "last"): words.astype(np.float32)}, columns_of(names, "text", 1), (SITE,))
    return Captures({7: image}, text)


def plain(folder, width=WIDTH, half=False, **more):
    """A dictionary whose feature k is dimension k, where that is above 0; `half` reconstructs half of it."""
    one = torch.eye(width)
    weights = {
        "W_enc": one,
        "b_enc": torch.zeros(width),
        "W_dec": one / (2 if half else 1),
        "b_dec": torch.zeros(width),
    }
    return write_sae_lens(folder, weights, SITE, **more)


def options(folder, **more):
    return Options(dictionary=folder, draws=60, top=2, folds=4, permutations=59, **more)


def value(table, measure, target="mean", modality=None):
    rows = table[(table["measure"] == measure) & (table["target"] == target)]
    rows = rows if modality is None else rows[rows["modality"] == modality]
    (one,) = rows["value"]
    return one


def test_planted_features_are_found_in_pictures_of_held_out_leaves(tmp_path):
    table, features = features_table(stores(4.0), TAXONOMY, options(plain(tmp_path)))
    assert value(table, "pictures_auroc") > 0.75
    assert value(table, "pictures_auroc_p") == 1 / 60
    assert value(table, "words_auroc_p") == 1 / 60
    assert (table.loc[table["measure"] == "pictures_auroc_q", "value"] <= 0.05).all()
    assert value(table, "overlap") > value(table, "overlap_null_mean") + 0.2
    both = features[features["chosen_by"] == "text and image"]
    planted = {name: k for k, name in enumerate(TAXONOMY.hypernyms)}
    assert all((both.loc[both["hypernym"] == name, "feature"] == k).any() for name, k in planted.items())
    rows = table[table["measure"] == "pictures_auroc"]
    assert (rows["lower"] <= rows["value"]).all()
    assert (rows["n"] == len(LEAVES)).all()
    assert set(figures.draw(table)) == {"reconstruction", "hypernyms"}
    assert "4 of 4 hypernyms at q ≤ .05" in figures.summary(table)


def firing(rng, hypernym, own):
    """Random features; `hypernym`: some tell it in words alone. `own`: each leaf has features of its own in both."""
    words, pictures = (rng.random((len(LEAVES), 40)) < 0.3 for _ in range(2))
    words[:, : LABELS.shape[1]] |= hypernym & LABELS
    shared = rng.random((len(LEAVES), 40)) < 0.2
    sides = [(side | (own & shared)).astype(np.float32) for side in (words, pictures)]
    folds = grouped_folds(np.array(LEAVES), LABELS, 4, 0)
    return Firing(sides[0], sides[1], np.array(LEAVES), LABELS, folds, 3)


def test_nothing_is_found_where_leaves_alone_or_words_alone_have_features():
    finds = {"leaves": [], "words": []}
    for seed in range(WORLDS):
        for name, (hypernym, own) in {"leaves": (False, True), "words": (True, False)}.items():
            rng = np.random.default_rng([seed, 3])
            p = sharing(firing(rng, hypernym, own), permutations=19, draws=2, seed=seed).p
            finds[name].append(
                [p[measure][0] <= 0.05 for measure in ("pictures_auroc", "overlap", "words_auroc")]
            )
    counts = {name: np.sum(each, axis=0) for name, each in finds.items()}
    most = binom.ppf(0.999, WORLDS, 0.05)  # p ≤ .05 in one of twenty worlds, whatever the leaves are
    assert (counts["leaves"] <= most).all()
    assert (counts["words"][:2] <= most).all()
    assert counts["words"][2] >= WORLDS - most


def test_areas_by_ranks_are_those_of_the_cluster_statistic():
    scores, folds = RNG.integers(0, 5, (len(LEAVES), 4)) / 4, grouped_folds(np.array(LEAVES), LABELS, 4, 0)
    expected = ClusterAUROC(scores, LABELS, np.array(LEAVES), strata=folds).value
    np.testing.assert_allclose(auroc(scores, LABELS, folds), expected)


def test_errors_of_reconstruction_are_over_the_distance_from_the_mean(tmp_path):
    given = stores()
    table, _ = features_table(given, TAXONOMY, options(plain(tmp_path, half=True)))
    for modality, store in (("image", given.images[7]), ("text", given.text)):
        x = store.read(SITE, "last").astype(float)
        error = ((x - np.maximum(x, 0) / 2) ** 2).sum()
        about_mean = ((x - x.mean(axis=0)) ** 2).sum()
        assert value(table, "unexplained", modality=modality) == pytest.approx(error / about_mean, rel=1e-5)
        assert value(table, "error_share", modality=modality) == pytest.approx(error / (x**2).sum(), rel=1e-5)
        assert value(table, "active", modality=modality) == pytest.approx((x > 0).sum(axis=1).mean())
    apart = value(table, "unexplained", modality="image") - value(table, "unexplained", modality="text")
    assert value(table, "unexplained", modality="image − text") == pytest.approx(apart)


def test_pictures_without_words_have_errors_and_no_shared_features(tmp_path):
    table, features = features_table(Captures(stores().images, None), TAXONOMY, options(plain(tmp_path)))
    assert set(table["measure"]) == {"unexplained", "error_share", "active"}
    assert features.empty
    assert set(figures.draw(table)) == {"reconstruction"}
    assert with_q(table).equals(table)


@pytest.mark.parametrize(
    ("site", "sites", "found"),
    [
        ("blocks.2.hook_resid_pre", ["blocks.1.hook_resid_post"], "blocks.1.hook_resid_post"),
        ("blocks.0.hook_resid_pre", ["hook_embed"], "hook_embed"),
        ("blocks.2.hook_resid_pre", ["blocks.2.hook_resid_pre"], "blocks.2.hook_resid_pre"),
        ("blocks.2.hook_resid_post", ["blocks.1.hook_resid_post"], ""),
        ("blocks.2.hook_mlp_out", ["blocks.2.hook_resid_post"], ""),
    ],
)
def test_what_enters_a_block_is_captured_behind_the_one_before(site, sites, found):
    assert captured_site(site, sites) == found


def test_dictionaries_that_do_not_fit_are_refused(tmp_path):
    store = stores().last
    with pytest.raises(ValueError, match="no dictionary was named"):
        dictionaries(Options(), store)
    with pytest.raises(MismatchError, match="24 wide"):
        dictionaries(options(plain(tmp_path / "narrow", width=9)), store)
    with pytest.raises(MismatchError, match=r"is of blocks.5.hook_resid_post, and made-up has none"):
        dictionaries(options(write_sparsify(tmp_path / "layers.5")), store)
    with pytest.raises(KeyError, match=r"dictionaries and captures share blocks.1"):
        dictionaries(options(plain(tmp_path / "fits"), sites=("blocks.9.hook_resid_post",)), store)
    with pytest.raises(ValueError, match="at least 1, 2 and 19"):
        dictionaries(Options(dictionary=tmp_path / "fits", permutations=5), store)
