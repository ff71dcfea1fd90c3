import json
import shutil
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_job import SITES, SPANS, header, write

from probing.capture.plan import Plan
from probing.store import ActivationStore, CorruptShardError, MismatchError
from probing.store.files import write_json, write_whole
from probing.store.shard_files import Extent, checksum, decode
from probing.store.shards import ShardWriter


def test_what_was_written_is_read(tmp_path):
    values, counts = write(tmp_path)
    store = ActivationStore.open(tmp_path)
    for (site, span), value in values.items():
        assert np.array_equal(store.read(site, span), value)
    assert len(store) == 20
    assert store.item_ids.tolist() == [f"item-{i}" for i in range(20)]
    assert store.spans == ("image", "last")
    assert store.pooling == SPANS
    assert store.attributes == {"manifest_hash": "abc", "layers": 2, "nested": {"a": [1]}}
    expected = pd.DataFrame(
        {"leaf": [f"ö{i % 3}" for i in range(20)], "answer": [i % 2 == 0 for i in range(20)], "n": range(20)},
        index=pd.Index([f"item-{i}" for i in range(20)], name="item_id", dtype=object),
    )
    pd.testing.assert_frame_equal(store.columns, expected, check_dtype=False, check_index_type=False)
    tokens = store.tokens("image")
    assert tokens["item_id"].tolist() == [f"item-{i}" for i in range(20) for _ in range(counts[i])]
    assert tokens["position"].tolist() == [p + 1 for count in counts for p in range(count)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 19), max_size=12))
def test_rows_may_be_asked_for_in_any_order(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("store")
    values, counts = write(folder)
    store = ActivationStore.open(folder)
    for site in SITES:
        assert np.array_equal(store.read(site, "last", rows), values[site, "last"][rows])
        split = np.split(values[site, "image"], np.cumsum(counts)[:-1])
        assert np.array_equal(
            store.read(site, "image", rows),
            np.concatenate([values[site, "image"][:0], *(split[row] for row in rows)]),
        )
    mask = np.isin(np.arange(20), rows)
    assert np.array_equal(store.read(SITES[0], "last", mask), values[SITES[0], "last"][mask])


@pytest.mark.parametrize("rows", [1, 8, 9])
def test_shards_of_any_filling(tmp_path, rows):
    values, _ = write(tmp_path, rows=rows)
    assert np.array_equal(ActivationStore.open(tmp_path).read(SITES[0], "last"), values[SITES[0], "last"])
    assert sum(ActivationStore.open(tmp_path).rows_per_shard) == rows


def test_rows_that_fill_many_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("probing.store.shards.CHUNK_BYTES", (16, 64))
    values, _ = write(tmp_path, rows=50, shard_rows=40)
    store = ActivationStore.open(tmp_path)
    assert all(np.array_equal(store.read(*key), value) for key, value in values.items())
    extent = Extent.of(tmp_path / "shard-00000.h5", f"activations/{SITES[0]}/last")
    assert extent.chunk_rows == 64 // 12
    assert extent.chunks is not None
    assert len(extent.chunks) == 8


@pytest.mark.parametrize("compression", [None, "blosc2"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_dtype_comes_back_exactly(tmp_path, dtype, compression):
    pytest.importorskip("hdf5plugin")
    values, _ = write(tmp_path, dtype=dtype, compression=compression)
    store = ActivationStore.open(tmp_path)
    for key, value in values.items():
        found = store.read(*key)
        assert found.dtype == (np.float16 if dtype == "float16" else np.float32)
        assert np.array_equal(found, decode(value, dtype))


def test_bfloat16_bits_mean_what_torch_means():
    torch = pytest.importorskip("torch")
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    assert np.array_equal(
        decode(values.view(torch.int16).numpy().view(np.uint16), "bfloat16"), values.float().numpy()
    )


def test_compression_saves_space(tmp_path):
    pytest.importorskip("hdf5plugin")
    for name, compression in (("plain", None), ("packed", "blosc2")):
        head = header(compression=compression, spans={"last": "last"}, sites=SITES[:1])
        (tmp_path / name).mkdir()
        writer = ShardWriter(tmp_path / name / "shard-00000.h5", head, {})
        same = np.ones((2000, 8), np.float32)
        writer.append(
            [str(i) for i in range(2000)], {}, {"last": [np.array([1])] * 2000}, {(SITES[0], "last"): same}
        )
        writer.finish()
    sizes = {name: (tmp_path / name / "shard-00000.h5").stat().st_size for name in ("plain", "packed")}
    assert sizes["packed"] < sizes["plain"] - 60_000


def test_plain_h5py_reads_a_shard(tmp_path):
    values, _ = write(tmp_path, dtype="bfloat16")
    with h5py.File(tmp_path / "shard-00000.h5") as shard:
        data = shard["activations/blocks.0.hook_resid_post/last"]
        assert data.attrs["dtype"] == b"bfloat16"
        assert data.chunks is not None
        assert np.array_equal(data[:], values[SITES[0], "last"][:8])
        assert shard["item_id"][:2].tolist() == [b"item-0", b"item-1"]
        assert shard.attrs["manifest_hash"] == b"abc"
        assert json.loads(shard.attrs["versions"]) == {"torch": "1"}
        assert json.loads(shard.attrs["sites"]) == SITES


def test_reading_one_layer_reads_only_that_layer(tmp_path):
    """Other layers may even be destroyed."""
    values, _ = write(tmp_path)
    other = Extent.of(tmp_path / "shard-00001.h5", f"activations/{SITES[1]}/last")
    assert other.chunks is not None
    with (tmp_path / "shard-00001.h5").open("r+b") as file:
        file.seek(other.chunks[0][1])
        file.write(b"\xff" * 16)
    store = ActivationStore.open(tmp_path)
    assert np.array_equal(store.read(SITES[0], "last"), values[SITES[0], "last"])
    with pytest.raises(
        CorruptShardError, match=r"shard-00001\.h5 of .* is damaged: the checksum of activations/blocks\.1"
    ):
        store.read(SITES[1], "last")


def _sum(path):
    return float(ActivationStore.open(path).read(SITES[0], "last").sum())


def test_many_processes_read_the_same(tmp_path):
    values, _ = write(tmp_path)
    store = ActivationStore.open(tmp_path)
    store.read(SITES[0], "last")
    with get_context("fork").Pool(3) as pool:
        assert pool.map(_sum, [tmp_path] * 6) == [float(values[SITES[0], "last"].sum())] * 6


def test_slot_is_the_picture_or_the_noun_that_fills_it(tmp_path):
    write(tmp_path)
    store = ActivationStore.open(tmp_path)
    np.testing.assert_array_equal(store.read(SITES[0], "slot"), store.read(SITES[0], "image"))
    assert store.read(SITES[0], "slot", rows=[1]).shape == store.read(SITES[0], "image", rows=[1]).shape
    assert store.tokens("slot").equals(store.tokens("image"))
    for slot, image in zip(store.batches("slot"), store.batches("image"), strict=True):
        np.testing.assert_array_equal(slot[SITES[0]], image[SITES[0]])
    store.pooling["noun"] = "mean"
    with pytest.raises(KeyError, match="no span 'slot'; it has image, last, noun"):
        store.span_named("slot")


def test_unknown_names_list_the_known(tmp_path):
    write(tmp_path)
    store = ActivationStore.open(tmp_path)
    with pytest.raises(KeyError, match=r"no site 'blocks\.9\.x'; it has blocks\.0\.hook_resid_post"):
        store.read("blocks.9.x", "last")
    with pytest.raises(KeyError, match="no span 'noun'; it has image, last"):
        store.read(SITES[0], "noun")


def test_a_store_of_another_manifest_is_refused(tmp_path):
    write(tmp_path)
    store = ActivationStore.open(tmp_path)
    store.require(manifest_hash="abc")
    with pytest.raises(
        MismatchError, match="does not belong to this manifest_hash: expected 'xyz', the store has 'abc'"
    ):
        store.require(manifest_hash="xyz")


def test_missing_unfinished_and_foreign_stores_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no activation store in .*store\.json is missing.*capture"):
        ActivationStore.open(tmp_path)
    write(tmp_path)
    (tmp_path / "index.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"did not end: 3 shards are finished; run the same capture again"
    ):
        ActivationStore.open(tmp_path)
    assert len(ActivationStore.open(tmp_path, unfinished=True)) == 20
    write_json(tmp_path / "store.json", {**header(), "format": "another 7"})
    with pytest.raises(MismatchError, match="is written as 'another 7'; this version reads"):
        ActivationStore.open(tmp_path, unfinished=True)


def test_a_lost_shard_is_noticed(tmp_path):
    write(tmp_path)
    (tmp_path / "shard-00001.h5").unlink()
    with pytest.raises(CorruptShardError, match=r"shard-00001\.h5 .* in the index but not in the folder"):
        len(ActivationStore.open(tmp_path))


@pytest.mark.parametrize("attributes", [{"manifest_hash": "xyz"}, {"layers": 3}, {"nested": {"a": [2]}}, {}])
def test_a_shard_of_another_store_is_refused(tmp_path, attributes):
    own = {"manifest_hash": "abc", "layers": 2, "nested": {"a": [1]}, "projector": "p"}
    for name, of_store in (("own", own), ("other", {**own, "projector": "q", **attributes})):
        (tmp_path / name).mkdir()
        write(tmp_path / name, attributes=of_store)
    shutil.copy(tmp_path / "other" / "shard-00001.h5", tmp_path / "own")
    different = min({*attributes, "projector"}, key=list(own).index)
    with pytest.raises(CorruptShardError, match=rf"shard-00001\.h5 .* its {different} is not that of store"):
        ActivationStore.open(tmp_path / "own").read(SITES[0], "last")


def test_a_store_without_shards_says_so(tmp_path):
    Plan.make(tmp_path, header())
    store = ActivationStore.open(tmp_path, unfinished=True)
    assert len(store) == 0
    assert store.columns.empty
    with pytest.raises(ValueError, match="no finished shard yet"):
        store.read(SITES[0], "last")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_gives_a_wrong_number(tmp_path_factory, data):
    """Every read after a flip gives the very values, or one clear error."""
    folder = tmp_path_factory.mktemp("store")
    values, _ = write(folder)
    file = folder / "shard-00001.h5"
    raw = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(raw)
    for key, value in values.items():
        try:
            found = ActivationStore.open(folder).read(*key)
        except CorruptShardError:
            continue
        assert np.array_equal(found, value)
    try:
        ids = ActivationStore.open(folder).item_ids.tolist()
    except CorruptShardError:
        return
    assert ids == [f"item-{i}" for i in range(20)]


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 0.999))
def test_a_truncated_shard_is_one_clear_error(tmp_path_factory, kept):
    folder = tmp_path_factory.mktemp("store")
    write(folder)
    file = folder / "shard-00002.h5"
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(CorruptShardError, match=r"shard-00002\.h5 of .* is damaged.*probing\.doctor --store"):
        ActivationStore.open(folder).read(SITES[1], "last")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from(["u1", "f2", "f4", "f8", "S3"]),
    st.integers(0, 2**32),
)
def test_the_checksum_adds_up_and_sees_every_bit(rows, width, kind, seed):
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 255, (rows, width * np.dtype(kind).itemsize), dtype=np.uint8)
    array = raw.view(kind)
    cut = int(rng.integers(0, rows + 1))
    assert checksum(array) == (checksum(array[:cut]) + checksum(array[cut:])) % 2**64
    padded = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8))).tobytes()
    words = [int.from_bytes(padded[i : i + 8], "little") for i in range(0, len(padded), 8)]
    assert checksum(array) == sum(words) % 2**64
    flipped = raw.copy()
    flipped[int(rng.integers(rows)), int(rng.integers(raw.shape[1]))] ^= 1 << int(rng.integers(8))
    assert checksum(flipped.view(kind)) != checksum(array)


def test_patterns_over_more_keys_are_filled_with_zeros(tmp_path):
    head = header(sites=["blocks.0.attn.hook_pattern"], spans={"last": "last"})
    plan = Plan.make(tmp_path, head)
    rng = np.random.default_rng(0)
    parts = [rng.random((2, 3, keys), dtype=np.float32) for keys in (16, 48, 32, 16)]
    for number in range(2):
        writer = ShardWriter(tmp_path / f"shard-{number:05d}.h5", head, {})
        for i in (0, 1):
            part = parts[2 * number + i]
            writer.append(
                [f"{number}{i}a", f"{number}{i}b"],
                {},
                {"last": [np.array([1])] * 2},
                {("blocks.0.attn.hook_pattern", "last"): part},
            )
        writer.finish()
    plan.finish()
    found = ActivationStore.open(tmp_path).read("blocks.0.attn.hook_pattern", "last")
    assert found.shape == (8, 3, 48)
    for i, part in enumerate(parts):
        assert np.array_equal(found[2 * i : 2 * i + 2, :, : part.shape[2]], part)
        assert not found[2 * i : 2 * i + 2, :, part.shape[2] :].any()


@pytest.mark.parametrize(
    ("column", "message"),
    [(["a", 1], r"column 'x' has to be all text.*found \['int', 'str'\]"), ([None, None], "found.*NoneType")],
)
def test_columns_of_mixed_kinds_are_refused(tmp_path, column, message):
    writer = ShardWriter(tmp_path / "shard-00000.h5", header(), {})
    writer.append(["a", "b"], {"x": column}, {"image": [np.array([0])] * 2, "last": [np.array([0])] * 2}, {})
    with pytest.raises(ValueError, match=message):
        writer.finish()
    writer.abandon()
    assert not list(tmp_path.iterdir())


def test_batches_with_other_columns_are_refused(tmp_path):
    writer = ShardWriter(tmp_path / "shard-00000.h5", header(), {})
    positions = {"image": [np.array([0])], "last": [np.array([0])]}
    writer.append(["a"], {"x": [1]}, positions, {})
    with pytest.raises(
        ValueError, match=r"every batch needs the same columns: expected \['x'\], found \['y'\]"
    ):
        writer.append(["b"], {"y": [1]}, positions, {})
    writer.abandon()


def test_compression_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(ValueError, match="compression is None or 'blosc2', found 'zip'"):
        ShardWriter(tmp_path / "shard-00000.h5", header(compression="zip"), {})


def test_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": "é"})
    assert path.read_bytes() == '{\n "a": "é",\n "b": 1\n}\n'.encode()
    write_json(path, {"b": 1, "a": 2}, sort_keys=False)
    assert path.read_bytes() == b'{\n "b": 1,\n "a": 2\n}\n'

    def fail(part):
        part.write_text("half")
        raise OSError("full disk")

    with pytest.raises(OSError, match="full disk"):
        write_whole(path, fail)
    assert json.loads(path.read_text()) == {"a": 2, "b": 1}
    assert [file.name for file in Path(tmp_path).iterdir()] == ["x.json"]
