import sys

import numpy as np
import pytest
import torch
from store_job import SITES, write
from transformers import LlamaConfig, LlamaForCausalLM

from probing.capture import CaptureBatch, capture
from probing.store import ActivationStore

RESID, HEADS = SITES


def test_a_missing_xarray_is_one_line_that_names_the_extra(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'taxoprobe\[xarray\]'"):
        ActivationStore.open(tmp_path).to_xarray(RESID)


class TestWithXarray:
    @pytest.fixture(autouse=True)
    def _needs_xarray(self):
        pytest.importorskip("xarray")

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_its_numbers_are_those_of_the_store(self, tmp_path, dtype):
        write(tmp_path, dtype=dtype)
        store = ActivationStore.open(tmp_path)
        array = store.to_xarray(RESID)
        assert array.dims == ("layer", "item", "span", "width")
        assert array.dtype == store.read(RESID, "last").dtype
        chosen = array.sel(layer=0, span="last")
        assert np.array_equal(chosen.values, store.read(RESID, "last"))
        assert np.array_equal(array.values, store.read(RESID, "last")[None, :, None])
        heads = store.to_xarray(HEADS, "last")
        assert heads.dims == ("layer", "item", "span", "head", "head_width")
        assert np.array_equal(heads.sel(layer=1, head=1)[:, 0], store.read(HEADS, "last")[:, 1])

    def test_any_way_of_indexing_gives_what_numpy_gives(self, tmp_path):
        write(tmp_path)
        store = ActivationStore.open(tmp_path)
        array, whole = store.to_xarray(HEADS), store.read(HEADS, "last")[None, :, None]
        for key in (
            (0, 3),
            (slice(None), slice(4, 18, 5)),
            (0, [7, 2, 2], 0, slice(None), 1),
            (slice(None), slice(None, None, -3)),
            (0, np.arange(20) % 2 == 0, slice(None), 0, [3, 0]),
        ):
            outer = array[key].values
            expected = whole
            for axis, one in reversed(list(enumerate(key))):
                expected = expected[(slice(None),) * axis + (one,)]
            assert np.array_equal(outer, expected), key
        later = array.isel(item=slice(2, None)).isel(item=slice(1, 4), head=0)
        assert np.array_equal(later.values, whole[:, 3:6, :, 0])

    def test_columns_are_labels_and_attributes_come_along(self, tmp_path):
        write(tmp_path)
        store = ActivationStore.open(tmp_path)
        array = store.to_xarray(RESID)
        assert array["item"].values.tolist() == store.item_ids.tolist()
        for name in store.columns:
            assert array[name].dims == ("item",)
            assert array[name].values.tolist() == store.columns[name].tolist()
        of_leaf = array.sel(layer=0, span="last").groupby("leaf").mean()
        expected = store.read(RESID, "last")[(store.columns["leaf"] == "ö1").to_numpy()].mean(0)
        assert np.allclose(of_leaf.sel(leaf="ö1"), expected, atol=1e-6)
        assert array.attrs["manifest_hash"] == "abc"
        assert array.attrs["nested"] == '{"a": [1]}'
        assert array["site"].values.tolist() == [RESID]

    def test_points_of_one_width_stand_along_one_axis_of_sites(self, tmp_path):
        size = dict(
            vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2
        )
        model = LlamaForCausalLM(LlamaConfig(**size))
        batch = CaptureBatch(
            {"input_ids": torch.arange(5)[None]}, ["crow-1"], {"cue": [(3,)], "last": [(4,)]}
        )
        store = capture(
            model, [batch], tmp_path, sites=["hook_embed", "blocks.*.hook_resid_post", "ln_final.*"]
        )
        array = store.to_xarray(["hook_embed", "blocks.1-2.hook_resid_post", "ln_final.*"])
        assert array.dims == ("site", "item", "span", "width")
        assert array["point"].values.tolist()[1:] == ["hook_resid_post"] * 2 + ["ln_final.hook_normalized"]
        assert np.array_equal(array["layer"], [np.nan, 1, 2, np.nan], equal_nan=True)
        for site in array["site"].values:
            for span in store.spans:
                assert np.array_equal(array.sel(site=site, span=span), store.read(site, span))

    def test_a_span_per_token_has_its_items_positions_and_places(self, tmp_path):
        _, counts = write(tmp_path)
        store = ActivationStore.open(tmp_path)
        array = store.to_xarray(RESID, "image")
        assert array.dims == ("layer", "token", "width")
        assert array["item_id"].values.tolist() == store.tokens("image")["item_id"].tolist()
        assert array["position"].values.tolist() == store.tokens("image")["position"].tolist()
        assert array["place"].values.tolist() == [at for count in counts for at in range(count)]
        leaves = np.repeat(store.columns["leaf"].to_numpy(), counts)
        assert array["leaf"].values.tolist() == leaves.tolist()
        assert np.array_equal(array[0, 4:9, [2, 0]], store.read(RESID, "image")[4:9][:, [2, 0]])
        first = array[0, array["place"].values == 0]
        assert np.array_equal(
            first.values, store.read(RESID, "image")[np.cumsum(counts)[counts > 0] - counts[counts > 0]]
        )

    def test_only_the_sites_and_spans_of_the_numbers_asked_for_are_read(self, tmp_path, monkeypatch):
        write(tmp_path)
        store, read = ActivationStore.open(tmp_path), []
        own = ActivationStore.read
        monkeypatch.setattr(ActivationStore, "read", lambda self, *key: read.append(key) or own(self, *key))
        array = store.to_xarray("blocks.*.hook_resid_post")
        array.sel(span="last").isel(item=slice(3))
        assert repr(array)
        assert not read
        array.sel(span="last", layer=0).values  # noqa: B018
        assert read == [(RESID, "last")]

    @pytest.mark.parametrize(
        ("sites", "spans", "error", "message"),
        [
            (
                None,
                None,
                ValueError,
                r"rows of different shapes \(\[3\] at blocks.0.hook_resid_post, \[2, 4\] at",
            ),
            (RESID, ["image", "last"], ValueError, r"'image' has a row for each token .*: spans='image'"),
            (RESID, "cue", KeyError, "has no span 'cue'; it has image, last"),
            ("blocks.7.hook_resid_post", None, KeyError, "no site matches 'blocks.7.hook_resid_post'"),
        ],
    )
    def test_what_is_no_one_array_is_refused(self, tmp_path, sites, spans, error, message):
        write(tmp_path)
        with pytest.raises(error, match=message):
            ActivationStore.open(tmp_path).to_xarray(sites, spans)
