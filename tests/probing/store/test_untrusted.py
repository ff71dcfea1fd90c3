"""Stores from anywhere: nothing outside the folder is read or moved, no memory is taken on a shard's word."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_job import SITES, header, write

from probing import doctor
from probing.capture.health import damage
from probing.capture.plan import Plan
from probing.store import ActivationStore, CorruptShardError, MismatchError, records
from probing.store.files import write_json
from probing.store.shard_files import Extent, checksum, read_columns
from probing.store.shards import ShardWriter

DATA = f"activations/{SITES[0]}/last"
SHARD = "shard-00001.h5"


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    write(folder)
    return folder


def change_index(folder, change, *, seal):
    """A changed index.json, which is sealed again as an adversary would, or is left as an accident leaves it."""
    index = json.loads((folder / "index.json").read_text())
    change(index)
    index.pop("digest", None)
    write_json(folder / "index.json", {**index, "digest": records.digest_of(index)} if seal else index)


ELSEWHERE = [
    "../../../precious",
    "../store/shard-00001.h5",
    "/etc/passwd",
    "./shard-00001.h5",
    "sub/shard-00001.h5",
    "shard-00001.h5/..",
    "shard-1.h5",
    "shard-٠٠٠٠١.h5",
    "shard-00001.h5\n",
    "",
    7,
    None,
    ["shard-00001.h5"],
]


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_index_names_only_shards_of_its_folder(store, name, older):
    (store.parent / "precious").write_text("mine")

    def change(index):
        index["shards"][1]["file"] = name
        if older:
            del index["header"]

    change_index(store, change, seal=not older)
    before = sorted(path.name for path in store.parent.rglob("*"))
    for read in (ActivationStore.open, lambda path: ActivationStore.open(path, unfinished=True)):
        with pytest.raises(
            CorruptShardError, match=r"(?s)index\.json of .* is no shard of this folder; remove it and run"
        ):
            read(store)
    assert list(damage(store)) == ["index.json"]
    assert sorted(path.name for path in store.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is no JSON"),
        ("", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ('{"a": ' * 100_000, "it is no JSON"),
        ('{"format": ' + "9" * 5000 + "}", "it is no JSON"),
        ("[]", "it holds no table"),
        ("null", "it holds no table"),
        ("{}", "it (lacks|holds)"),
    ],
)
@pytest.mark.parametrize("name", ["store.json", "index.json"])
def test_json_that_is_none_is_refused_by_name(store, name, text, said):
    (store / name).write_text(text)
    with pytest.raises(CorruptShardError, match=rf"^{name} of .* is damaged: {said}"):
        ActivationStore.open(store)
    assert list(damage(store)) == [name]


def test_bytes_that_are_no_text_are_refused_by_name(store):
    (store / "store.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(CorruptShardError, match=r"^store\.json of .* it is no JSON.*restore it from a copy"):
        ActivationStore.open(store)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 1),
        ("site_spelling", "1"),
        ("sites", "blocks"),
        ("sites", []),
        ("sites", [1]),
        ("sites", [SITES[0]] * 2),
        ("spans", ["last"]),
        ("spans", {"last": "first"}),
        ("spans", {"last": []}),
        ("dtype", "float64"),
        ("dtype", []),
        ("compression", "gzip"),
        ("compression", {}),
        ("shard_rows", 0),
        ("shard_rows", True),
        ("attributes", None),
    ],
)
def test_a_value_that_does_not_fit_the_header_is_refused_by_name(store, key, value):
    write_json(store / "store.json", header(**{key: value}))
    with pytest.raises(CorruptShardError, match=rf"store\.json of .* is damaged: {key} cannot be"):
        ActivationStore.open(store)


@pytest.mark.parametrize("key", list(header()))
def test_a_key_that_the_header_lacks_is_named(store, key):
    write_json(store / "store.json", {name: value for name, value in header().items() if name != key})
    with pytest.raises(CorruptShardError, match=rf"store\.json of .* is damaged: it lacks {key}"):
        Plan.make(store, header())


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(shards={}),
        lambda index: index.update(shards=[1]),
        lambda index: index["shards"][0].pop("file"),
        lambda index: index["shards"][0].update(rows=-1),
        lambda index: index["shards"][0].update(rows="8"),
        lambda index: index["shards"].append(index["shards"][0]),
        lambda index: index.update(more=1),
        lambda index: index.pop("rows"),
    ],
)
def test_an_index_of_another_shape_is_refused(store, change):
    change_index(store, change, seal=True)
    with pytest.raises(CorruptShardError, match=r"index\.json of .* is damaged"):
        ActivationStore.open(store)


def test_a_header_that_is_not_the_closed_one_is_refused(store):
    write_json(store / "store.json", header(attributes={"manifest_hash": "xyz"}), sort_keys=False)
    with pytest.raises(CorruptShardError, match=r"^store\.json of .* SHA-256 is not the one in index\.json"):
        ActivationStore.open(store)
    assert list(damage(store)) == ["store.json"]


def test_a_store_without_checksums_of_files_is_read_and_examined_as_before(store):
    def older(index):
        del index["header"]
        for entry in index["shards"]:
            del entry["checksum"]

    change_index(store, older, seal=False)
    assert len(ActivationStore.open(store)) == 20
    assert damage(store) == {}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damage_finds_a_flipped_bit_in_any_file(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("store")
    write(folder)
    names = sorted(path.name for path in folder.iterdir())
    name = data.draw(st.sampled_from(names))
    raw = bytearray((folder / name).read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(raw)
    try:
        found = list(damage(folder))
    except MismatchError as error:
        found = [name] if name == "store.json" and "is written as" in str(error) else []
    assert found == [name]


def test_shards_of_another_store_are_found(store, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write(other, attributes={"manifest_hash": "xyz", "layers": 2, "nested": {"a": [1]}})
    shutil.copy(other / SHARD, store / SHARD)
    (store / "index.json").unlink()
    assert "its manifest_hash is not that of store.json" in damage(store)[SHARD]


def test_a_shard_that_the_index_does_not_know_is_found(store):
    shutil.copy(store / SHARD, store / "shard-00009.h5")
    assert damage(store) == {"shard-00009.h5": "it is in the folder but not in the index"}


def test_other_files_are_no_shards(store):
    for name in ("shard-copy.h5", "shard-00001 (1).h5", "shard-1.h5"):
        shutil.copy(store / SHARD, store / name)
    assert damage(store) == {}
    (store / "index.json").unlink()
    assert len(ActivationStore.open(store, unfinished=True)) == 20


def replace_by(link):
    """A change of a shard that puts something else in a data set's place."""

    def change(shard, outside):
        values = shard[DATA][:]
        attrs = dict(shard[DATA].attrs)
        with h5py.File(outside / "other.h5", "w") as other:
            other["values"] = values
            other["values"].attrs.update(attrs)
        (outside / "raw.bin").write_bytes(values.tobytes())
        del shard[DATA]
        link(shard, outside, values)
        if isinstance(shard.get(DATA, getlink=True), h5py.HardLink):
            shard[DATA].attrs.update(attrs)

    return change


def virtual(shard, outside, values):
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(outside / "other.h5", "values", values.shape)
    shard.create_virtual_dataset(DATA, layout)


def beyond_the_file(shard, outside, values, **options):
    shard.create_dataset(DATA, shape=(2**42, 3), dtype="f4", **options)


def linked_group(shard, outside, values):
    del shard[f"activations/{SITES[0]}"]
    with h5py.File(outside / "other.h5", "a") as other:
        other.create_group("site")["last"] = values
    shard[f"activations/{SITES[0]}"] = h5py.ExternalLink(str(outside / "other.h5"), "site")


HOSTILE = {
    "external link": lambda shard, outside, values: shard.__setitem__(
        DATA, h5py.ExternalLink(str(outside / "other.h5"), "values")
    ),
    "soft link": lambda shard, outside, values: shard.__setitem__(
        DATA, h5py.SoftLink(f"/activations/{SITES[1]}/last")
    ),
    "group behind an external link": linked_group,
    "external storage": lambda shard, outside, values: shard.create_dataset(
        DATA, values.shape, values.dtype, external=[(str(outside / "raw.bin"), 0, values.nbytes)]
    ),
    "virtual": virtual,
    "10 TB without chunks": beyond_the_file,
    "10 TB in chunks": lambda *place: beyond_the_file(*place, chunks=(1024, 3)),
    "10 TB compressed": lambda *place: beyond_the_file(*place, chunks=(1024, 3), compression="gzip"),
    "another filter": lambda shard, outside, values: shard.create_dataset(
        DATA, data=values, compression="gzip"
    ),
    "text of variable length": lambda shard, outside, values: shard.create_dataset(
        DATA, data=["a"] * len(values), dtype=h5py.string_dtype()
    ),
    "compound": lambda shard, outside, values: shard.create_dataset(
        DATA, data=np.zeros(len(values), dtype=[("a", "f4")])
    ),
    "a number": lambda shard, outside, values: shard.create_dataset(DATA, data=1.0),
    "nothing": lambda shard, outside, values: shard.create_dataset(DATA, data=h5py.Empty("f4")),
    "a group": lambda shard, outside, values: shard.create_group(DATA),
    "another number type": lambda shard, outside, values: shard.create_dataset(
        DATA, data=values.astype("f8"), chunks=values.shape
    ),
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_data_set_that_is_not_plain_and_here_is_refused_wherever_it_is_read(store, tmp_path, kind):
    with h5py.File(store / SHARD, "r+") as shard:
        replace_by(HOSTILE[kind])(shard, tmp_path)
    said = rf"shard {SHARD} of .* is damaged: .*probing\.doctor"
    with pytest.raises(CorruptShardError, match=said):
        ActivationStore.open(store).read(SITES[0], "last")
    with pytest.raises(CorruptShardError, match=said):
        list(ActivationStore.open(store).batches("last"))
    assert list(damage(store)) == [SHARD]


@pytest.mark.parametrize("name", ["item_id", "columns/leaf", "columns/n", "spans/image/count"])
@pytest.mark.parametrize("link", [h5py.SoftLink("/spans/image/position"), "external"])
def test_links_in_place_of_ids_columns_and_counts_are_refused(store, tmp_path, name, link):
    with h5py.File(tmp_path / "other.h5", "w") as other, h5py.File(store / SHARD, "r+") as shard:
        shard.copy(name, other, "values")
        del shard[name]
        shard[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "values") if link == "external" else link
    opened = ActivationStore.open(store)
    with pytest.raises(CorruptShardError, match=f"{name} is a link to another place"):
        {
            "item_id": lambda: opened.item_ids,
            "columns/leaf": lambda: opened.columns,
            "columns/n": lambda: opened.columns,
            "spans/image/count": lambda: opened.tokens("image"),
        }[name]()
    assert list(damage(store)) == [SHARD]


LONG_TEXT = np.array('["leaf", "answer", "n"]', dtype=h5py.string_dtype())


@pytest.mark.parametrize(
    "value",
    [*map(np.bytes_, ("[1, 2]", '{"a": 1}', "no JSON", '["leaf", "gone"]')), 3, np.arange(3), LONG_TEXT],
    ids=str,
)
def test_column_names_that_are_none_are_refused(store, value):
    with h5py.File(store / SHARD, "r+") as shard:
        shard.attrs["columns"] = value
    with pytest.raises(CorruptShardError, match=rf"shard {SHARD} of .* is damaged"):
        read_columns(store / SHARD)


def test_values_of_another_number_type_are_refused(store):
    with h5py.File(store / SHARD, "r+") as shard:
        values = shard[DATA][:].astype(np.int32)
        del shard[DATA]
        shard[DATA] = values
        shard[DATA].attrs["checksum"] = np.uint64(checksum(values))
    with pytest.raises(CorruptShardError, match=f"{DATA} is int32 in a store of float32"):
        ActivationStore.open(store).read(SITES[0], "last")
    (store / "index.json").unlink()
    assert list(damage(store)) == [SHARD]


def test_text_that_is_no_utf8_is_refused(store):
    raw = np.array([b"\xff\xfe"] * 8)
    with h5py.File(store / SHARD, "r+") as shard:
        del shard["item_id"]
        shard["item_id"] = raw
        shard["item_id"].attrs["checksum"] = np.uint64(checksum(raw))
    with pytest.raises(CorruptShardError, match="item_id is no UTF-8 text"):
        len(ActivationStore.open(store))


def test_items_that_occur_twice_are_refused(store):
    shutil.copy(store / "shard-00000.h5", store / SHARD)
    with pytest.raises(CorruptShardError, match=r"item-0 .*twice"):
        len(ActivationStore.open(store))


def test_groups_that_hold_themselves_do_not_stop_the_doctor(store):
    with h5py.File(store / SHARD, "r+") as shard:
        for name in ("a", "b", "activations/c"):
            shard[name] = shard["/"]
    assert list(damage(store)) == [SHARD]


def test_a_column_of_another_length_is_found(store):
    (store / "index.json").unlink()
    values = np.arange(5)
    with h5py.File(store / SHARD, "r+") as shard:
        del shard["columns/n"]
        shard["columns/n"] = values
        shard["columns/n"].attrs["checksum"] = np.uint64(checksum(values))
    assert "columns/n has 5 rows and not 8, the rows" in damage(store)[SHARD]


@pytest.mark.parametrize("target", ["outside", "inside", "nowhere"])
def test_a_shard_is_no_link(store, tmp_path, target):
    where = {"outside": tmp_path / "moved.h5", "inside": store / "moved.h5", "nowhere": tmp_path / "gone"}[
        target
    ]
    (store / SHARD).rename(tmp_path / "moved.h5" if target == "nowhere" else where)
    (store / SHARD).symlink_to(where)
    with pytest.raises(CorruptShardError, match=SHARD):
        ActivationStore.open(store).read(SITES[0], "last")
    assert list(damage(store)) == [SHARD]


def test_the_folder_of_a_store_may_be_a_link(store, tmp_path):
    (tmp_path / "linked").symlink_to(store)
    assert len(ActivationStore.open(tmp_path / "linked")) == 20


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_shards_place_does_not_wait_for_ever(store):
    (store / SHARD).unlink()
    os.mkfifo(store / SHARD)
    with pytest.raises(CorruptShardError, match="a link or no file"):
        Extent.of(store / SHARD, DATA)
    assert list(damage(store)) == [SHARD]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_file_behind_an_external_link_is_not_even_opened(store, tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")  # opening it would wait for ever
    with h5py.File(store / SHARD, "r+") as shard:
        for name in (DATA, "item_id"):
            del shard[name]
            shard[name] = h5py.ExternalLink(str(tmp_path / "pipe.h5"), "values")
    opened = ActivationStore.open(store)
    for read in (lambda: opened.read(SITES[0], "last"), lambda: opened.item_ids):
        with pytest.raises(CorruptShardError, match="is a link to another place"):
            read()
    assert "is a link to another place" in damage(store)[SHARD]


def test_nothing_is_written_through_a_link_at_a_part(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "store").mkdir()
    path = tmp_path / "store" / SHARD
    path.with_name(SHARD + ".part").symlink_to(precious)
    writer = ShardWriter(path, header(), {})
    writer.append(["a"], {}, {"image": [np.array([0])], "last": [np.array([0])]}, {})
    writer.finish()
    assert precious.read_text() == "mine"
    assert path.is_file()
    assert not path.is_symlink()


def test_parts_that_stand_in_the_way_are_removed_and_their_targets_are_not(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "store.json.part").symlink_to(precious)
    (folder / "shard-00003.h5.part").symlink_to(precious)
    Plan.make(folder, header())
    assert precious.read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["store.json"]


def test_the_doctor_says_what_to_do_about_a_damaged_header(store, capsys):
    (store / "store.json").write_text("{")
    assert doctor.main(["--store", str(store)]) == 1
    said = capsys.readouterr().out
    assert "RED  store.json" in said
    assert "restore it from a copy" in said
    assert doctor.main(["--store", str(store), "--rebuild", "no_module:is_needed"]) == 1
