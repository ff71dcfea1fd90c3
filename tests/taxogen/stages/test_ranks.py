"""Two processes under torchrun: losses, stores and scores of one; one message where something is refused."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from taxogen.__main__ import main
from taxogen.answers.baselines import baselines
from taxogen.answers.scores import Scores
from taxogen.models import ranks
from taxogen.runs.run import Run
from taxogen.stages.train import shares
from tests.world import toy_folder

ROOT = Path(__file__).parents[3]
JOB = "tests.taxogen.stages.ranks_job"
LIMIT = 300  # seconds, far above what any takes: a process that waits for ever
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def flags(tmp_path_factory, toy_lm):
    """The settings of a toy world, as flags; the working directory holds the world."""
    with toy_folder(tmp_path_factory.mktemp("ranks"), toy_lm) as settings:
        yield [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def one(flags):
    """A run that one process trained and scored."""
    return run_of_one("one/toy", flags)


def run_of_one(path, flags):
    assert main(["train", "--out", path, *flags]) == 0
    assert main(["evaluate", "--out", path]) == 0
    return Run.open(path)


def launched(*words, module="taxogen", processes=2):
    """The exit code of torchrun, and all that its processes with this command line say."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(processes), "-m"]
    process = subprocess.Popen(
        [*torchrun, module, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = process.communicate(timeout=LIMIT)[0]
    finally:
        process.terminate()  # torchrun ends those that it started
        code = process.wait()
    return code, said


def two(*words):
    """What two processes say; they have to succeed."""
    code, said = launched(*words)
    assert code == 0, said
    return said


def files(folder):
    """Name → content, of everything in a folder and below."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.nightly
def test_two_processes_killed_on_their_way_train_and_score_as_one(one, flags, monkeypatch):
    path = Path("two/toy")
    monkeypatch.setenv("TROUBLE", "killed")
    assert launched("train", "--out", path, *flags, module=JOB)[0] == 1
    assert (path / "checkpoint.pt").exists()
    assert not (path / "run.json").exists()
    said = two("train", "--out", path)
    assert said.count("is trained") == 1
    run = Run.open(path)
    pd.testing.assert_frame_equal(run.table("training"), one.table("training"), check_exact=False, **CLOSE)
    for name in ("captures/step-000000", "captures/text"):
        assert files(run.file(name)) == files(one.file(name))
    for at in (4, 12):
        site = run.store(at).sites[-1]
        np.testing.assert_allclose(
            run.store(at).read(site, "cue"), one.store(at).read(site, "cue"), atol=1e-3
        )
    assert two("evaluate", "--out", path).count("scored") == 1
    mine, theirs = Scores.read(run), Scores.read(one)
    np.testing.assert_allclose(mine.image_scores, theirs.image_scores, **CLOSE)
    np.testing.assert_allclose(mine.text_scores, theirs.text_scores, **CLOSE)
    assert mine.image.equals(theirs.image)
    for name, expected in baselines(one).items():
        np.testing.assert_allclose(baselines(run)[name], expected, **CLOSE)


def test_two_processes_capture_and_score_one_projector_to_the_same_bytes(one):
    expected = files(one.path)
    path = Path("captured/toy")
    shutil.copytree(one.path, path)
    shutil.rmtree(path / "captures")
    for name in ("scores.h5", "baselines.h5"):
        (path / name).unlink()
    two("train", "--out", path)
    two("evaluate", "--out", path)
    again = files(path)
    passing = (".lock", ".holder")
    assert {name for name in again if again[name] != expected.get(name)} <= {
        name for name in again if name.endswith(passing)
    }
    assert {name for name in expected if not name.endswith(passing)} <= set(again)


@pytest.mark.nightly
def test_a_process_without_rows_takes_part(flags):
    few = [*flags, "--set", "train.batch=1", "--set", "train.steps=3", "--set", "capture.at=last"]
    assert main(["train", "--out", "few-one/toy", *few]) == 0
    two("train", "--out", "few-two/toy", *few)
    one, shared = (Run.open(f"few-{name}/toy").table("training") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, shared, check_exact=False, **CLOSE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("train", "--set", "train.bach=8"), "train.bach", marks=pytest.mark.nightly),
        pytest.param(
            ("train", "--set", "capture.sites=blocks.9.hook_mlp_out"), "blocks.9", marks=pytest.mark.nightly
        ),
        (("sweep", "--vary", "seed=0,1"), "2 processes were started (WORLD_SIZE), but `sweep` is for one"),
    ],
)
def test_a_refusal_is_told_once_and_ends_all(flags, words, message):
    refused("taxogen", message, words[0], "--out", f"refused/{words[0]}", *flags, *words[1:])
    assert not Path("refused/train/world.json").exists()


@pytest.mark.nightly
def test_what_one_process_refuses_ends_all(flags, monkeypatch):
    monkeypatch.setenv("TROUBLE", "refused")
    refused(JOB, "taxogen train: this row cannot be read", "train", "--out", "stopped/toy", *flags)


@pytest.mark.nightly
def test_the_first_process_tells_though_the_others_refuse_before(flags, monkeypatch):
    monkeypatch.setenv("TROUBLE", "late")
    refused(
        JOB, "taxogen sweep: 2 processes were started", "sweep", "--vary", "seed=0,1", "--out", "late", *flags
    )


def test_where_the_first_process_has_nothing_to_refuse_another_tells(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks, "GRACE", 0)
    assert ranks.speaks()


def refused(module, message, *words):
    code, said = launched(*words, module=module)
    assert code == 1, said  # that of torchrun, which tells those of the processes
    assert "exitcode  : 2" in said
    assert sum(message in line for line in said.splitlines()) == 1, said
    own = said.split("torch/distributed")[0]  # what torchrun adds has tracebacks of its own
    assert "Traceback" not in own, said


def test_rows_of_a_subject_stay_together_and_loads_are_even():
    generator = np.random.default_rng(0)
    for _ in range(50):
        subjects, processes = generator.integers(0, 9, generator.integers(1, 40)), generator.integers(1, 6)
        dealt = shares(subjects.tolist(), int(processes))
        assert len(dealt) == processes
        assert sorted(row for rows in dealt for row in rows) == list(range(len(subjects)))
        assert all(rows == sorted(rows) for rows in dealt)
        owners = [
            {at for at, rows in enumerate(dealt) if subjects[rows].tolist().count(one)} for one in range(9)
        ]
        assert max(map(len, owners)) <= 1
        most = max(np.bincount(subjects))
        assert max(map(len, dealt)) - min(map(len, dealt)) <= most


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 3)
    with pytest.raises(ValueError, match=r"model.device=auto .* 4 processes .* sees 3: .* at most 3"):
        ranks.join("auto")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of two machines
    with pytest.raises(ValueError, match=r"model.device=cuda:1 .* 2 processes on this machine"):
        ranks.join("cuda:1")


def test_one_process_alone_waits_for_nobody():
    code = "import sys, taxogen.__main__; assert not {'torch', 'accelerate'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert ranks.count() == 1
    assert ranks.speaks()
    assert ranks.by_first(lambda: 3) == ranks.in_turn(lambda: 3) == 3
    assert ranks.exchange("own") == ["own"]
    assert not torch.distributed.is_initialized()
