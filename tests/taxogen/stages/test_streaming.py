"""Features that are read row by row: the same results as those held in memory, in little memory."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from taxogen.models.features import cache
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.world import toy_config, write_world

ROOT = Path(__file__).parents[3]
SETTINGS = ("model.encoder_tokens=4", "model.image_tokens=4", "model.projector=gelu-mlp", "capture.at=last")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, toy_lm):
    return write_world(tmp_path_factory.mktemp("world"), toy_lm)


def results(folder: Path, settings, *more: str) -> dict[str, str]:
    """A digest of every snapshot, loss, score, baseline and capture of a run, by name."""
    run = Run.create(folder, toy_config(settings, *SETTINGS, *more))
    pipeline.train_run(run)
    pipeline.evaluate_run(run)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".h5", ".safetensors", ".csv"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("dtype", "standardise"), [("float32", "true"), ("bfloat16", "false"), ("float16", "true")]
)
def test_no_byte_depends_on_whether_features_are_held_or_read(
    tmp_path, settings, monkeypatch, dtype, standardise
):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    more = (f"model.feature_dtype={dtype}", f"model.standardise={standardise}")
    held = results(tmp_path / "held" / "run", settings, *more)
    monkeypatch.setattr(cache, "IN_MEMORY", 0)
    monkeypatch.setattr(cache, "SHARD", 7)
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("taxogen.models.features.rows.PART", 3000)
    assert results(tmp_path / "read" / "run", settings, *more) == held
    assert {"training.csv", "scores.h5", "baselines.h5"} < set(held)
    assert any(name.startswith("captures/") for name in held)


def test_the_number_type_of_features_is_part_of_a_run(tmp_path, settings, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    whole, half = (
        results(tmp_path / dtype / "run", settings, f"model.feature_dtype={dtype}")["training.csv"]
        for dtype in ("float32", "bfloat16")
    )
    assert whole != half


@pytest.mark.parametrize(
    ("pictures", "most"), [(600, 1.35e9), pytest.param(17_000, 6e9, marks=pytest.mark.nightly)]
)
def test_no_stage_holds_all_features(tmp_path, toy_lm, pictures, most):
    """1 MB a picture as float32, of which little is in memory at a time; with all 600 held it would be 1.7 GB."""
    command = [sys.executable, "-m", "tests.taxogen.stages.streaming_job", str(tmp_path), str(toy_lm)]
    done = subprocess.run([*command, str(pictures)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0.3e9 < int(done.stdout) < most
