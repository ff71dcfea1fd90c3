import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from analyses import capture
from probing.store import MismatchError
from taxogen.answers.evaluate import Scores
from taxogen.models.vlm import Vlm
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import pipeline, train
from tests.world import toy_config, write_world


@pytest.fixture(scope="module")
def settings(tmp_path_factory, toy_lm):
    return write_world(tmp_path_factory.mktemp("world"), toy_lm)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def finished(path: Path, settings, *more: str) -> Run:
    run = Run.create(path, toy_config(settings, *more))
    pipeline.train_run(run)
    pipeline.evaluate_run(run)
    return run


@pytest.fixture(scope="module")
def done(tmp_path_factory, settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return finished(tmp_path_factory.mktemp("runs") / "done", settings)


def digests(run: Run) -> dict[str, str]:
    """A digest of every file that holds results, by name."""
    kinds = (".h5", ".safetensors", ".csv")
    found = sorted(path for path in run.path.rglob("*") if path.suffix in kinds)
    return {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_run_directory_holds_what_it_promises(done):
    assert done.complete
    assert done.steps == (0, 4, 12)
    assert done.snapshots == (0, 4, 12)
    names = set(digests(done))
    assert {"train.csv", "test.csv", "capture.csv", "taxonomy.csv", "training.csv", "scores.h5"} <= names
    assert not list(done.path.rglob("*.part"))
    assert not done.file("checkpoint.pt").exists()


def test_no_training_item_names_a_hypernym_when_all_evidence_is_removed(done):
    frame = done.manifest("train").frame
    assert set(frame["task"]) == {"leaf"}
    assert not set(frame["answer"]) & set(done.taxonomy.hypernyms)


def test_the_loss_falls(tmp_path, settings):
    run = finished(tmp_path / "longer", settings, "train.steps=60", "train.lr=0.01", "capture.at=last")
    losses = run.table("training")["loss"]
    assert losses.tail(15).mean() < losses.head(15).mean() - 0.2


def test_picture_and_text_rows_can_be_joined_by_leaf(done):
    image, text = done.store(12), done.store(None, "text")
    assert image.sites == text.sites
    assert set(image.columns["leaf"]) == set(text.columns["leaf"])
    assert set(image.spans) == {"image", "cue", "last"}
    assert set(text.spans) == {"noun", "cue", "last"}
    assert image.attributes["step"] == 12
    assert image.attributes["manifest_hash"] == done.manifest("capture").where(modality="image").hash


def test_scores_survive_the_disk(done):
    scores = Scores.read(done)
    assert scores.image_scores.shape == (len(scores.image), 3)
    assert scores.text_scores.shape == (11, 3)
    assert np.isfinite(scores.image_scores).all()
    assert scores.leaf_choices == 4
    assert set(scores.image["picture"]) == set(done.manifest("test").where(modality="image").frame["picture"])


@pytest.mark.parametrize("moment", [1, 5, 11])
def test_a_run_killed_in_training_ends_with_the_same_bytes(tmp_path, settings, done, monkeypatch, moment):
    calls = []
    step = train._step

    def killed(*given):
        calls.append(1)
        if len(calls) > moment:
            raise KeyboardInterrupt
        return step(*given)

    path = tmp_path / "done"
    monkeypatch.setattr(train, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        finished(path, settings)
    assert not Run.open(path).complete
    monkeypatch.setattr(train, "_step", step)
    assert digests(finished(path, settings)) == digests(done)


def test_a_run_computes_with_the_threads_that_it_was_closed_with(tmp_path, settings):
    """Every forward pass of training, capturing and scoring, whatever number the process has when it goes on."""
    counts, before = [], torch.get_num_threads()
    run = Run.create(tmp_path / "run", toy_config(settings, "capture.at=last"))
    try:
        torch.set_num_threads(3)
        bench = open_bench(run)
        bench.vlm.model.base_model.register_forward_pre_hook(
            lambda *_: counts.append(torch.get_num_threads())
        )
        torch.set_num_threads(2)
        for stage in (pipeline.train_run, pipeline.evaluate_run):
            stage(run, bench)
            assert set(counts) == {3}
            counts.clear()
        shutil.rmtree(run.path / "captures")
        pipeline.capture_step(bench, 12)
        assert set(counts) == {3}
        assert torch.get_num_threads() == 2
        assert run.record["threads"] == 3
    finally:
        torch.set_num_threads(before)


def test_a_run_killed_in_a_capture_ends_with_the_same_bytes(tmp_path, settings, done, monkeypatch):
    whole = pipeline.capture

    def killed(model, batches, path, **options):
        if path.name == "step-000004":
            raise KeyboardInterrupt
        return whole(model, batches, path, **options)

    path = tmp_path / "done"
    monkeypatch.setattr(pipeline, "capture", killed)
    with pytest.raises(KeyboardInterrupt):
        finished(path, settings)
    monkeypatch.setattr(pipeline, "capture", whole)
    assert digests(finished(path, settings)) == digests(done)


def test_a_later_capture_from_a_snapshot_has_the_same_bytes(tmp_path, settings, done):
    path = tmp_path / "done"
    shutil.copytree(done.path, path)
    shutil.rmtree(path / "captures")
    capture.main(["--run", str(path), "--step", "0", "--step", "4", "--step", "last"])
    assert digests(Run.open(path)) == digests(done)


def test_a_step_without_a_snapshot_is_refused(done, capsys):
    with pytest.raises(SystemExit):
        capture.main(["--run", str(done.path), "--step", "7"])
    assert "no projector of step 7; there are [0, 4, 12]" in capsys.readouterr().err


def test_the_seed_decides_the_projector_and_the_random_lm(tmp_path, settings, done):
    other = finished(tmp_path / "other", settings, "seed=1")
    assert other.table("training")["loss"][0] != done.table("training")["loss"][0]


def test_a_directory_of_another_config_is_refused_and_left_alone(done, settings):
    before = digests(done)
    with pytest.raises(MismatchError, match=r"train\.lr: asked 0\.5, found 0\.001"):
        Run.create(done.path, toy_config(settings, "train.lr=0.5"))
    assert digests(done) == before


def test_a_directory_that_holds_something_else_is_refused(tmp_path, settings):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(MismatchError, match="holds no run"):
        Run.create(tmp_path, toy_config(settings))


def test_a_missing_run_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m taxogen train"):
        Run.open(tmp_path / "none")


def test_a_missing_capture_names_the_command_that_makes_it(done):
    with pytest.raises(FileNotFoundError, match="--step 7"):
        done.store(7)


def test_a_full_disk_is_noticed_before_anything_starts(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 5, 5))
    with pytest.raises(OSError, match="MB free"):
        Run.create(tmp_path / "run", toy_config(settings))


def test_pictures_without_a_taxonomy_are_refused(tmp_path, settings):
    with pytest.raises(ValueError, match="come without a taxonomy"):
        finished(tmp_path / "run", settings, "data.taxonomy=")


def test_a_leaf_that_the_taxonomy_lacks_is_named(tmp_path, settings):
    table = tmp_path / "taxonomy.csv"
    table.write_text("leaf,hypernym\ncrow,bird\nduck,bird\n")
    with pytest.raises(KeyError, match=r"not in the taxonomy: .'apple'"):
        finished(tmp_path / "run", settings, f"data.taxonomy={table}")
    assert not (tmp_path / "run" / "train.csv").exists()
    assert finished(
        tmp_path / "run", settings
    ).complete  # the refused start is not in the way of the mended one


def test_an_unknown_hypernym_is_refused(tmp_path, settings):
    with pytest.raises(KeyError, match=r"unknown hypernyms .'fish'.; known: bird, fruit, vegetable"):
        finished(tmp_path / "run", settings, "data.ablation=systematic", "data.held_out=fish")


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(Vlm, "answer_loss", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(FloatingPointError, match="step 0 with learning rate"):
        finished(tmp_path / "run", settings)
