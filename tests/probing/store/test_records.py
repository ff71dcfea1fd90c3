"""Records: files with their SHA-256 and makers; a flipped bit is found, a kill in between is no damage."""

import json

import pytest

from probing.store import files, records
from probing.store.records import DamagedError


def _flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(bytes(data))


def test_a_file_has_what_it_was_made_from(tmp_path):
    path = tmp_path / "deep" / "scores.h5"
    records.write(path, lambda part: part.write_bytes(b"scores"), {"projector": "abc", "step": 3})
    assert path.read_bytes() == b"scores"
    assert records.made_from(path) == {"projector": "abc", "step": 3}
    assert records.recorded(path.parent) == ["scores.h5"]


def test_a_file_without_a_record_has_no_maker(tmp_path):
    (tmp_path / "old.csv").write_text("a\n1\n")
    records.write(tmp_path / "new.csv", lambda part: part.write_text("b\n"), {})
    assert records.made_from(tmp_path / "old.csv") is None


@pytest.mark.parametrize("bit", [0, 13, 47])
def test_a_flipped_bit_is_found_and_the_file_named(tmp_path, bit):
    path = tmp_path / "scores.h5"
    records.write(path, lambda part: part.write_bytes(b"scores"), {})
    _flip(path, bit)
    with pytest.raises(DamagedError, match=r"scores\.h5 is damaged.*evaluate again"):
        records.made_from(path, "evaluate again")


@pytest.mark.parametrize("bit", range(3, 1400, 97))
def test_a_flipped_bit_of_the_record_is_found(tmp_path, bit):
    path = tmp_path / "scores.h5"
    records.write(path, lambda part: part.write_bytes(b"scores"), {"projector": "abc"})
    _flip(tmp_path / records.FILE, bit)
    try:
        made_from = records.made_from(path)
    except DamagedError as error:
        made_from, said = None, str(error)
    if made_from is None:
        assert records.FILE in said
    else:
        assert made_from == {"projector": "abc"}  # white space that means nothing


def test_a_process_that_dies_between_record_and_name_leaves_no_damage(tmp_path, monkeypatch):
    path, move = tmp_path / "checkpoint.pt", files.move_into_place

    def killed(part, target):
        if target == path:
            raise KeyboardInterrupt
        move(part, target)

    records.write(path, lambda part: part.write_bytes(b"one"), {"step": 1})
    with monkeypatch.context() as patched:
        patched.setattr(files, "move_into_place", killed)
        for content in (b"two", b"three"):
            with pytest.raises(KeyboardInterrupt):
                records.write(
                    path, lambda part, content=content: part.write_bytes(content), {"step": content.decode()}
                )
            assert path.read_bytes() == b"one"
            assert records.made_from(path) == {"step": 1}
    records.write(path, lambda part: part.write_bytes(b"four"), {"step": 4})
    assert records.made_from(path) == {"step": 4}
    path.write_bytes(b"two")
    with pytest.raises(DamagedError):
        records.made_from(path)


def test_a_stale_part_never_blocks_and_a_link_in_its_place_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "a.json.part").symlink_to(precious)
    files.write_json(tmp_path / "a.json", {"x": 1})
    (tmp_path / "b.json.part").mkdir()
    (tmp_path / "b.json.part" / "inside").write_text("")
    files.write_json(tmp_path / "b.json", {"x": 2})
    assert precious.read_text() == "keep"
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "precious"]


def test_sealed_data_is_read_with_its_digest_and_a_change_is_refused(tmp_path):
    path = tmp_path / "world.json"
    records.write_sealed(path, {"lm": {"name": "smol"}, "asked": 3})
    sealed = records.read_sealed(path)
    assert sealed["lm"] == {"name": "smol"}
    assert sealed["digest"] == records.digest_of({"lm": {"name": "smol"}, "asked": 3})
    for changed in (path.read_text().replace("smol", "smal"), "[]", "{", '"x"', "{}"):
        path.write_text(changed)
        with pytest.raises(DamagedError, match=r"world\.json is damaged"):
            records.read_sealed(path)
