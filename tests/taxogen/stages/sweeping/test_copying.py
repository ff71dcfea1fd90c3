"""Copies of runs behind a URL: every byte, once everything of a run is done, and whole or not there."""

import json
from pathlib import Path

import fsspec
import pytest

from taxogen.__main__ import main
from taxogen.runs.run import PASSING, Run
from taxogen.stages.sweeping import copying
from taxogen.stages.sweeping.copying import RECORD, copy_folder, is_copied
from tests.world import toy_folder


@pytest.fixture
def system():
    """An empty store in memory."""
    system = fsspec.filesystem("memory")
    yield system
    if system.exists("/store"):
        system.rm("/store", recursive=True)


def files_of(folder):
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in PASSING]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def copied(system, path):
    found = system.find(path)
    return {name.removeprefix(f"{path}/"): system.cat_file(name) for name in found}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    (folder / "captures").mkdir(parents=True)
    for name in ("run.json", "captures/a.h5", "captures/b.h5"):
        (folder / name).write_text(name)
    (folder / "run.lock").write_text("")
    return folder


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_copy_has_every_byte_and_a_record_of_it(folder, system, tmp_path, kind):
    url = "memory://store/run" if kind == "memory" else f"file://{tmp_path}/store/run"
    copy_folder(folder, url)
    there = copied(fsspec.filesystem(kind), "/store/run" if kind == "memory" else f"{tmp_path}/store/run")
    record = json.loads(there.pop(RECORD))["files"]
    assert there == files_of(folder)
    assert set(record) == set(there)
    assert {about["size"] for about in record.values()} == {len(data) for data in there.values()}


def test_only_what_changed_is_copied_again_and_what_is_gone_goes(folder, system, monkeypatch):
    copy_folder(folder, "memory://store/run")
    put, sent = system.put_file, []
    monkeypatch.setattr(system, "put_file", lambda here, there: sent.append(there) or put(here, there))
    copy_folder(folder, "memory://store/run")
    assert not sent
    (folder / "captures" / "a.h5").write_text("more")
    (folder / "run.json").unlink()
    copy_folder(folder, "memory://store/run")
    assert [name.rpartition("/")[2] for name in sent] == ["a.h5"]
    there = copied(system, "/store/run")
    del there[RECORD]
    assert there == files_of(folder)


def test_a_copy_that_is_cut_off_is_none(folder, system, monkeypatch):
    copy_folder(folder, "memory://store/run")
    (folder / "captures" / "b.h5").write_text("changed")

    def killed(here, there):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(system, "put_file", killed)
        with pytest.raises(KeyboardInterrupt):
            copy_folder(folder, "memory://store/run")
    assert not system.exists(f"/store/run/{RECORD}")
    copy_folder(folder, "memory://store/run")
    assert system.cat_file("/store/run/captures/b.h5") == b"changed"
    assert system.exists(f"/store/run/{RECORD}")


def test_a_sweep_copies_its_runs_once_everything_is_done(tmp_path_factory, toy_lm, system, monkeypatch):
    with toy_folder(tmp_path_factory.mktemp("copies"), toy_lm) as settings:
        chosen = (*settings, "train.steps=1", "capture.at=last")
        words = [word for setting in chosen for word in ("--set", setting)]
        line = ["sweep", "--vary", "seed=0,1", "--out", "runs", "--jobs", "1", *words]
        assert main([*line, "--copy-to", "memory://store/study"]) == 0
        runs = {path.name: path for path in Path("runs").iterdir() if path.is_dir()}
        assert len(runs) == 2
        for name, path in runs.items():
            there = copied(system, f"/store/study/{name}")
            del there[RECORD]
            assert there == files_of(path)
            assert "scores.h5" in there
            assert is_copied(Run.open(path), "memory://store/study")
        assert b"sweep_seed-1" in system.cat_file("/store/study/sweep.csv")
        with monkeypatch.context() as patch:
            patch.setattr(copying, "copy_folder", lambda *_: pytest.fail("copied again"))
            assert main([*line, "--copy-to", "memory://store/study"]) == 0
        system.rm_file("/store/study/sweep_seed-0/copied.json")
        assert not is_copied(Run.open("runs/sweep_seed-0"), "memory://store/study")
        assert main([*line, "--copy-to", "memory://store/study"]) == 0
        assert is_copied(Run.open("runs/sweep_seed-0"), "memory://store/study")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--copy-to", "nfs://server/study"), "nfs://server/study was asked for; Protocol not known"),
        (("--copy-to", "memory://store", "--dry-run"), "--copy-to was given beside --dry-run"),
    ],
)
def test_a_copy_that_cannot_be_is_refused_before_anything_is_made(tmp_path, words, message, caplog):
    assert main(["sweep", "--vary", "seed=0,1", "--out", str(tmp_path / "runs"), *words]) == 2
    assert message in caplog.text
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_store_that_takes_nothing_is_refused(tmp_path, monkeypatch, system, caplog):
    def full(*_):
        raise RuntimeError("access denied")

    monkeypatch.setattr(type(system), "pipe_file", full)
    words = ["sweep", "--vary", "seed=0,1", "--out", str(tmp_path / "runs"), "--copy-to", "memory://store/a"]
    assert main(words) == 2
    assert "--copy-to memory://store/a cannot be written to: access denied" in caplog.text
