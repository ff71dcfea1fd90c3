import json
import subprocess
import sys

import pytest
from capture_job import folder_bytes, job, rebuildable
from tiny_models import tiny

from probing import doctor
from probing.capture.health import damage, rebuild
from probing.store import ActivationStore, CorruptShardError, MismatchError
from probing.store.shard_files import Extent


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "store"
    job(path)
    return path


def flip(path, shard, name):
    """Flip one bit of a data set."""
    extent = Extent.of(path / shard, name)
    assert extent.chunks is not None
    with (path / shard).open("r+b") as file:
        file.seek(extent.chunks[0][1])
        byte = file.read(1)[0]
        file.seek(extent.chunks[0][1])
        file.write(bytes([byte ^ 4]))


def test_a_whole_store_has_no_damage(store):
    assert damage(store) == {}


def test_each_kind_of_damage_is_listed_by_shard(store):
    flip(store, "shard-00001.h5", "activations/hook_embed/cue")
    (store / "shard-00003.h5").write_bytes((store / "shard-00003.h5").read_bytes()[:5000])
    (store / "shard-00002.h5").unlink()
    found = damage(store)
    assert list(found) == ["shard-00001.h5", "shard-00002.h5", "shard-00003.h5"]
    assert "the checksum of activations/hook_embed/cue differs" in found["shard-00001.h5"]
    assert "in the index but not in the folder" in found["shard-00002.h5"]
    assert "HDF5 says" in found["shard-00003.h5"]


def test_exactly_the_bad_shards_are_made_again(store):
    before = folder_bytes(store)
    times = {file.name: file.stat().st_mtime_ns for file in store.glob("*.h5")}
    flip(store, "shard-00001.h5", "activations/hook_embed/cue")
    (store / "shard-00003.h5").unlink()
    calls = []
    _, made = rebuildable(calls)
    assert set(rebuild(store, tiny("llama"), made)) == {"shard-00001.h5", "shard-00003.h5"}
    assert folder_bytes(store) == before
    after = {file.name: file.stat().st_mtime_ns for file in store.glob("*.h5")}
    assert {name for name in times if times[name] != after[name]} == {"shard-00001.h5", "shard-00003.h5"}
    assert 0 < len(calls) < len(made)


def test_a_bad_last_shard_is_made_again(store):
    before = folder_bytes(store)
    last = sorted(before)[-2]
    flip(store, last, "activations/hook_embed/last")
    rebuild(store, *rebuildable())
    assert folder_bytes(store) == before


def test_a_bad_index_is_written_anew_and_moves_nothing_that_it_names(store, tmp_path):
    before = folder_bytes(store)
    (tmp_path / "precious").write_text("mine")
    index = json.loads(before["index.json"])
    index["shards"][1]["file"] = "../precious"
    older = {name: index[name] for name in ("shards", "rows")}
    (store / "index.json").write_text(json.dumps(older))
    with pytest.raises(
        CorruptShardError, match=r"index\.json of .* names '\.\./precious'.* remove it and run"
    ):
        job(store)
    calls = []
    _, made = rebuildable(calls)
    assert list(rebuild(store, tiny("llama"), made)) == ["index.json"]
    assert not calls
    assert folder_bytes(store) == before
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_link_in_a_shards_place_is_replaced_and_its_target_stays(store, tmp_path):
    before = folder_bytes(store)
    (store / "shard-00001.h5").rename(tmp_path / "moved.h5")
    (store / "shard-00001.h5").symlink_to(tmp_path / "moved.h5")
    assert list(rebuild(store, *rebuildable())) == ["shard-00001.h5"]
    assert folder_bytes(store) == before
    assert not (store / "shard-00001.h5").is_symlink()
    assert (tmp_path / "moved.h5").read_bytes() == before["shard-00001.h5"]


def test_a_damaged_header_is_not_rebuilt(store):
    (store / "store.json").write_bytes((store / "store.json").read_bytes().replace(b"float", b"fload"))
    before = folder_bytes(store)
    with pytest.raises(CorruptShardError, match=r"store\.json of .* restore it from a copy"):
        rebuild(store, *rebuildable())
    assert folder_bytes(store) == before


def test_a_capture_of_nothing_new_does_not_bless_what_is_there(store):
    with (store / "shard-00001.h5").open("ab") as file:
        file.write(b"\1")  # behind all data sets, so that only the checksum of the file sees it
    job(store)
    assert list(damage(store)) == ["shard-00001.h5"]


def test_a_whole_store_is_left_alone(store):
    calls = []
    assert rebuild(store, *rebuildable(calls)) == {}
    assert not calls


def test_another_model_is_refused_and_the_bad_shard_comes_back(store):
    flip(store, "shard-00001.h5", "activations/hook_embed/cue")
    before = folder_bytes(store)
    with pytest.raises(MismatchError, match="holds another capture"):
        rebuild(store, tiny("qwen2"), rebuildable()[1])
    assert folder_bytes(store) == before


def test_a_capture_over_a_damaged_shard_is_refused(store):
    (store / "shard-00001.h5").write_bytes(b"no HDF5")
    with pytest.raises(CorruptShardError, match=r"shard-00001\.h5 .*probing\.doctor --store"):
        job(store)
    assert (store / "shard-00000.h5").is_file()


def test_the_doctor_lists_and_rebuilds(store, capsys):
    assert doctor.main(["--store", str(store)]) == 0
    assert "4 shards, 0 bad" in capsys.readouterr().out
    before = folder_bytes(store)
    flip(store, "shard-00001.h5", "activations/hook_embed/cue")
    assert doctor.main(["--store", str(store)]) == 1
    said = capsys.readouterr().out
    assert "RED  shard-00001.h5" in said
    assert "--rebuild module:function" in said
    assert doctor.main(["--store", str(store), "--rebuild", "capture_job:rebuildable"]) == 0
    assert "rebuilt shard-00001.h5" in capsys.readouterr().out
    assert folder_bytes(store) == before


def test_the_doctor_names_the_command_that_made_a_store(tmp_path, capsys):
    job(tmp_path, attributes={"command": "python -m toy capture"})
    flip(tmp_path, "shard-00001.h5", "activations/hook_embed/cue")
    assert doctor.main(["--store", str(tmp_path)]) == 1
    assert "python -m toy capture" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["qwen2", "llava", "smolvlm", "qwen3_vl", "gemma3_multimodal"])
def test_the_doctor_examines_a_model(tmp_path, capsys, name):
    tiny(name).save_pretrained(tmp_path)
    assert doctor.main(["--model", str(tmp_path)]) == 0
    assert "green  resid_pre + attn_out + mlp_out = resid_post" in capsys.readouterr().out


def test_what_the_doctor_cannot_open_is_one_clear_error(tmp_path, capsys):
    for arguments, said in (
        (["--model", str(tmp_path / "none")], "none"),
        (["--store", str(tmp_path)], "no activation store in"),
    ):
        with pytest.raises(SystemExit) as ended:
            doctor.main(arguments)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_a_store_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no activation store in"):
        damage(tmp_path)


def test_the_doctor_is_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "probing.doctor"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "one of the arguments --model --store is required" in done.stderr
    assert ActivationStore.__name__ not in done.stderr
