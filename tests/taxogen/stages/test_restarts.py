"""Order and locks: a refused start does not block the mended one; of two starts at once, one waits or is refused."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from probing.store import MismatchError, cache
from taxogen.__main__ import main
from taxogen.models.features import cache as feature_cache
from taxogen.runs.run import Run
from tests.world import toy_config, write_world

QUICK = ("train.steps=1", "capture.at=last", "capture.sites=hook_embed", "train.snapshots=last")


def words(settings, *more: str) -> list[str]:
    return [word for setting in (*settings, *QUICK, *more) for word in ("--set", setting)]


@pytest.fixture
def settings(tmp_path, toy_lm, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    return write_world(tmp_path, toy_lm)


REFUSED = {
    "model.lm=./nowhere": "language model",
    "model.encoder=./nowhere": "image encoder",
    "model.projector=spline": "projector",
    "model.dtype=float7": "float7",
    "model.encoder_tokens=7": "tokens=7",
    "model.init=borrowed": "borrowed",
    "capture.sites=blocks.9.hook_resid_post": "blocks.9",
    "capture.sites=attention": "attention",
    "capture.spans=verb": "verb",
    "capture.spans=cue:max": "max",
    "capture.dtype=int8": "int8",
    "capture.at=0,soon": "soon",
    "train.snapshots=often": "often",
    "evaluate.templates=riddle": "riddle",
    "evaluate.templates=study": "study",
    "data.templates=riddle": "riddle",
    "data.taxonomy=": "taxonomy",
    "data.pictures=./nowhere": "nowhere",
    "data.ablation=lesion": "lesion",
    "data.shuffle=sideways": "sideways",
    "data.split=thirds": "thirds",
    "data.chat=true": "chat",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_a_refused_start_leaves_nothing_that_blocks_the_mended_one(
    settings, setting, tmp_path, caplog, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "_encode", lambda *_: pytest.fail("features were computed"))
        assert main(["train", "--run", str(run), *words(settings, setting)]) == 2
    message = caplog.records[-1].getMessage()
    assert REFUSED[setting] in message
    assert message.count("\n") == 0
    assert not run.exists()
    assert main(["train", "--run", str(run), *words(settings)]) == 0
    assert Run.open(run).complete


def _broken_picture(folder):
    path = folder / "pictures" / "crow" / "bird0.png"
    content = path.read_bytes()
    path.write_bytes(content[:40])
    return lambda: path.write_bytes(content)


def _stranger(folder):
    path = folder / "taxonomy.csv"
    content = path.read_text()
    path.write_text(content.replace("crow,bird\n", ""))
    return lambda: path.write_text(content)


def _no_disk(folder):
    patch = pytest.MonkeyPatch()
    patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 5, 5))
    return patch.undo


def _stray_part(folder):
    (folder / "run").mkdir()
    (folder / "run" / "thesis.txt").write_text("mine")
    return lambda: (folder / "run" / "thesis.txt").unlink()


@pytest.mark.parametrize("spoil", [_broken_picture, _stranger, _no_disk, _stray_part])
def test_a_world_that_is_mended_starts_where_the_spoilt_one_was_refused(settings, spoil, tmp_path, caplog):
    mend = spoil(tmp_path)
    assert main(["train", "--run", str(tmp_path / "run"), *words(settings)]) == 2
    mend()
    assert main(["train", "--run", str(tmp_path / "run"), *words(settings)]) == 0


@pytest.mark.parametrize("name", ["config.json.part", "world.json.part", "train.csv.part", "made.json.part"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_stale_part_does_not_block(settings, tmp_path, name, kind):
    run, precious = tmp_path / "run", tmp_path / "precious"
    run.mkdir()
    precious.write_text("keep")
    part = run / name
    if kind == "file":
        part.write_text("{")
    elif kind == "folder":
        part.mkdir()
    else:
        part.symlink_to(precious)
    assert main(["train", "--run", str(run), *words(settings)]) == 0
    assert precious.read_text() == "keep"
    assert not list(run.rglob("*.part"))


def test_a_refused_setting_of_evaluation_does_not_stay_in_the_config(settings, tmp_path, caplog):
    run = tmp_path / "run"
    assert main(["train", "--run", str(run), *words(settings)]) == 0
    assert main(["evaluate", "--run", str(run), "--set", "evaluate.templates=riddle"]) == 2
    assert "riddle" in caplog.text
    assert main(["evaluate", "--run", str(run)]) == 0


def start(command: str, run: Path, given: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "taxogen", command, "--run", str(run), *given],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def test_of_two_starts_with_other_settings_one_is_trained_and_the_other_refused(settings, tmp_path):
    run = tmp_path / "run"
    both = {rate: start("train", run, words(settings, f"train.lr={rate}")) for rate in (0.5, 0.25)}
    said = {rate: process.communicate()[1] for rate, process in both.items()}
    codes = {rate: process.returncode for rate, process in both.items()}
    assert sorted(codes.values()) == [0, 2], said
    (winner,) = (rate for rate, code in codes.items() if code == 0)
    (loser,) = set(codes) - {winner}
    assert f"train.lr: asked {loser}, found {winner}" in said[loser]
    assert Run.open(run).config.train.lr == winner
    assert Run.open(run).table("training")["lr"][0] == winner


def test_files_of_a_start_that_overtakes_this_one_are_no_strangers(settings, tmp_path):
    run, iterdir, patch = tmp_path / "run", Path.iterdir, pytest.MonkeyPatch()
    run.mkdir()

    def overtaken(folder):
        patch.undo()
        assert main(["prepare", "--run", str(run), *words(settings, "train.lr=.5")]) == 0
        return iterdir(folder)

    patch.setattr(Path, "iterdir", overtaken)
    with pytest.raises(MismatchError, match=r"train.lr: asked 0.25, found 0.5"):
        Run.create(run, toy_config(settings, *QUICK, "train.lr=.25"))


def test_of_two_starts_with_the_same_settings_the_second_waits_and_finds_it_done(settings, tmp_path):
    run = tmp_path / "run"
    with cache.locked(run / "run"):
        waiting = start("train", run, words(settings))
        for line in waiting.stderr:
            if "waiting for" in line:
                break
        assert f"process {os.getpid()}" in line
        assert str(run) in line
    assert waiting.wait() == 0
    waiting.stderr.close()
    waiting.stdout.close()
    assert Run.open(run).complete
    assert not list(run.glob("*.holder"))


def test_training_and_evaluation_at_once_end_with_the_same_scores(settings, tmp_path):
    for name in ("alone", "together"):
        assert main(["train", "--run", str(tmp_path / name), *words(settings)]) == 0
    assert main(["evaluate", "--run", str(tmp_path / "alone")]) == 0
    both = [start("evaluate", tmp_path / "together", []) for _ in range(2)]
    assert [(process.communicate(), process.returncode)[1] for process in both] == [0, 0]
    scores = [(tmp_path / name / "scores.h5").read_bytes() for name in ("alone", "together")]
    assert scores[0] == scores[1]
