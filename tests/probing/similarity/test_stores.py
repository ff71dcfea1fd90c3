"""CKA of stores read shard by shard equals that of the same rows read whole."""

import numpy as np
import pytest

from probing.similarity import stores
from probing.similarity.cka import CKA_DEBIASED
from probing.similarity.stores import stores_cka
from probing.store import ActivationStore, MismatchError
from tests.probing.store.test_store import SITES, write


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two stores of the same 20 items in shards of 8, 8 and 4."""
    folders = [tmp_path_factory.mktemp(name) for name in ("left", "right")]
    for seed, folder in enumerate(folders):
        write(folder, seed=seed, spans={"image": "all", "last": "last"})
    return [ActivationStore.open(folder) for folder in folders]


def test_shard_by_shard_equals_the_whole(pair):
    whole = [[store.read(site, "last").reshape(20, -1) for site in SITES] for store in pair]
    expected = [[CKA_DEBIASED(x, y) for y in whole[1]] for x in whole[0]]
    np.testing.assert_allclose(stores_cka(pair[0], pair[1], "last"), expected, atol=1e-9)
    np.testing.assert_allclose(np.diag(stores_cka(pair[0], pair[0], "last")), 1)


def test_few_sites_at_a_time_make_no_difference(pair, monkeypatch):
    expected = stores_cka(pair[0], pair[1], "last")
    monkeypatch.setattr(stores, "_MEMORY", 1)
    np.testing.assert_allclose(stores_cka(pair[0], pair[1], "last"), expected, rtol=1e-12)


def test_batches_are_the_rows_in_order(pair):
    parts = list(pair[0].batches("last", SITES[:1]))
    assert [len(part[SITES[0]]) for part in parts] == pair[0].rows_per_shard
    together = np.concatenate([part[SITES[0]] for part in parts])
    np.testing.assert_array_equal(together, pair[0].read(SITES[0], "last"))
    with pytest.raises(KeyError, match="has no site"):
        next(pair[0].batches("last", ["blocks.7.hook_resid_post"]))


def test_refusals(pair, tmp_path):
    write(tmp_path, rows=12, spans={"image": "all", "last": "last"})
    with pytest.raises(MismatchError, match="hold other items, or the same in another order or other shards"):
        stores_cka(pair[0], ActivationStore.open(tmp_path), "last")
    with pytest.raises(ValueError, match=r"span 'image' of .* is stored per token"):
        stores_cka(pair[0], pair[1], "image")


def test_a_row_that_is_not_finite_is_named_with_its_site_and_store(pair, monkeypatch):
    batches = ActivationStore.batches

    def spoiled(store, *arguments):
        for number, side in enumerate(batches(store, *arguments)):
            if number == 1:
                next(iter(side.values()))[3] = np.nan
            yield side

    monkeypatch.setattr(ActivationStore, "batches", spoiled)
    with pytest.raises(ValueError, match=rf"row 11 of site '{SITES[0]}' of .* holds NaN or infinity"):
        stores_cka(pair[0], pair[1], "last")
