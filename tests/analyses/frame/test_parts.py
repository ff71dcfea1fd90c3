"""Parts on disk: made once, whole or not there, found again under the same names; tables and arrays alike."""

import numpy as np
import pandas as pd
import pytest

from analyses.cohesion import rows as cohesion
from analyses.frame import parts as parts_module
from analyses.frame.parts import ARRAYS, TABLE, Parts, Progress, stored, tracked
from analyses.geometry import rows as geometry
from analyses.text_alignment import rows as text_alignment
from probing.store import records
from tests.analyses.leaf_stores import TAXONOMY, planted


def never(*_):
    raise AssertionError("a part that is on disk was made again")


VALUES = {
    "table": (TABLE, pd.DataFrame({"leaf": ["crow", "owl"], "margin": [0.5, np.nan]})),
    "arrays": (ARRAYS, {"kl": np.eye(3, dtype=np.float32), "base": np.array([1.0, np.nan])}),
}


def same(first, second):
    if isinstance(first, pd.DataFrame):
        pd.testing.assert_frame_equal(first, second, check_exact=True)
        return
    assert list(first) == list(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], strict=True)


@pytest.mark.parametrize("codec, value", VALUES.values(), ids=VALUES)
def test_a_value_is_made_once_and_read_back_equal(tmp_path, codec, value):
    same(stored(tmp_path / "parts", "one", lambda: value, codec), value)
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {f"one{codec.suffix}", "made.json"}
    same(stored(tmp_path / "parts", "one", never, codec), value)
    other = stored(tmp_path / "parts", "two", lambda: value, codec)
    same(other, value)


@pytest.mark.parametrize("codec", [TABLE, ARRAYS], ids=VALUES)
def test_what_breaks_off_leaves_no_file(tmp_path, codec):
    with pytest.raises(AssertionError, match="made again"):
        stored(tmp_path, "one", never, codec)
    with pytest.raises((AttributeError, TypeError)):
        stored(tmp_path, "one", lambda: "no value of this kind", codec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec, value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.99])
def test_a_damaged_part_is_made_again_with_one_line_that_names_it(tmp_path, codec, value, place, caplog):
    stored(tmp_path, "one", lambda: value, codec, {"projector": "a"})
    stored(tmp_path, "other", lambda: value, codec)
    path = tmp_path / f"one{codec.suffix}"
    whole = path.read_bytes()
    path.write_bytes(flipped(whole, place))
    same(stored(tmp_path, "one", lambda: value, codec, {"projector": "b"}), value)
    assert path.read_bytes() == whole
    assert records.made_from(path) == {"projector": "b"}
    (line,) = caplog.messages
    assert str(path) in line
    assert line.endswith("it is made again")
    same(stored(tmp_path, "other", never, codec), value)


def test_records_of_parts_that_cannot_be_read_are_set_aside(tmp_path, caplog):
    stored(tmp_path, "one", lambda: VALUES["arrays"][1], ARRAYS)
    record = tmp_path / records.FILE
    record.write_bytes(flipped(record.read_bytes(), 0.5))
    stored(tmp_path, "two", lambda: VALUES["arrays"][1], ARRAYS)
    assert records.recorded(tmp_path) == ["two.npz"]
    (line,) = caplog.messages
    assert str(record) in line
    assert "set aside" in line


def flipped(data, place):
    """Bytes with one bit flipped."""
    at = int(place * len(data))
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_files_are_those_of_earlier_versions(tmp_path):
    """A table under NAME.parquet in a folder named by the settings; arrays as compressed npz."""
    parts = Parts.of(tmp_path, {"width": 5, "paths": ("slot → cue",), "step": 60})
    assert parts.folder == tmp_path / "parts" / "df459b80585d"
    pd.DataFrame({"first": [3]}).to_parquet(parts.folder / "3-5.parquet", index=False)
    assert parts.collect(["3-5"], never, "read")["first"].tolist() == [3]
    np.savez_compressed(tmp_path / "patched.npz", kl=np.arange(3.0))
    assert stored(tmp_path, "patched", never, ARRAYS)["kl"].tolist() == [0, 1, 2]


def test_a_second_start_makes_what_is_missing_and_keeps_the_order(tmp_path):
    parts, calls = Parts.of(tmp_path, {"seed": 0}), []

    def make(name):
        calls.append(name)
        if name == "c" and calls.count("c") == 1:
            raise KeyboardInterrupt
        return pd.DataFrame({"name": [name, name]})

    with pytest.raises(KeyboardInterrupt):
        parts.collect(["b", "a", "c", "d"], make, "killed")
    assert parts.missing(["b", "a", "c", "d"]) == ["c", "d"]
    again = parts.collect(["b", "a", "c", "d"], make, "again")
    assert again["name"].tolist() == ["b", "b", "a", "a", "c", "c", "d", "d"]
    assert calls == ["b", "a", "c", "c", "d"]
    assert Parts.of(tmp_path, {"seed": 1}).missing(["a"]) == ["a"]


def said_by(work, capsys, monkeypatch, times):
    """The lines that work says in no terminal, at these seconds of the clock."""
    clock = iter(times)
    monkeypatch.setattr(parts_module.time, "monotonic", lambda: next(clock))
    work()
    return capsys.readouterr().err.splitlines()


def test_the_size_is_said_before_and_the_time_left_once_measured(capsys, monkeypatch):
    def work():
        with Progress("patch", "patched runs", spans=3, cells=40) as progress:
            progress.known(60)
            progress.done(6)
            progress.done(24)
            progress.done(30)

    said = said_by(work, capsys, monkeypatch, [100.0, 101.0, 130.0, 130.0, 150.0])
    assert said == [
        "patch: 3 spans × 40 cells = 120 patched runs",
        "patch: 90 of 120 patched runs, about 30 s left",
    ]


def test_what_is_there_is_not_counted_as_work_and_nothing_is_said_of_work_that_is_done(capsys, tmp_path):
    parts, made = Parts.of(tmp_path, {}), []

    def make(name):
        made.append(name)
        return pd.DataFrame({"name": [name]})

    parts.collect(["a", "b"], make, "cells")
    assert capsys.readouterr().err.splitlines() == ["cells: 2 parts"]
    parts.collect(["a", "b"], make, "cells")
    assert capsys.readouterr().err == ""
    assert list(tracked("ab", "letters", "letters")) == made == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["letters: 2 letters"]


def test_a_long_piece_is_heard_of_while_it_is_made(capsys, monkeypatch, tmp_path):
    def make(name, done):
        done(2)
        done(1)
        return pd.DataFrame({"name": [name]})

    def work():
        with Progress("look", "layers", layers=7) as progress:
            for name, size in (("a", 4), ("b", 3)):
                assert progress.piece(make, name, size)["name"].tolist() == [name]
            assert progress.ended == 7

    said = said_by(work, capsys, monkeypatch, [0.0, 6.0, 6.0, 10.0, 36.0, 36.0, 40.0, 41.0])
    assert said == [
        "look: 7 layers",
        "look: 2 of 7 layers, about 15 s left",
        "look: 4 of 7 layers, about 27 s left",
    ]
    monkeypatch.undo()
    parts = Parts.of(tmp_path, {})
    for sizes in ({"a": 4, "b": 3}, {"a": 4, "c": 3}):
        assert parts.collect_sized(sizes, make, "look", "layers")["name"].tolist() == list(sizes)
        assert capsys.readouterr().err.splitlines() == ["look: 7 layers"]


@pytest.mark.parametrize(
    ("options", "table"),
    [
        (cohesion.Options, cohesion.cohesion_table),
        (text_alignment.Options, text_alignment.alignment_table),
        (geometry.Options, geometry.geometry_table),
    ],
)
def test_each_place_says_how_many_of_its_layers_are_done(options, table):
    pieces = []

    def heard(sizes, make, *_):
        for name, size in sizes.items():
            told = []
            pieces.append(make(name, told.append))
            assert len(told) > 3
            assert size / 2 < sum(told) <= size
        return pd.concat(pieces, ignore_index=True)

    image, text = planted(pictures=2)
    table({9: image}, text, TAXONOMY, options(draws=20, permutations=20), collect=heard)
    assert pieces
