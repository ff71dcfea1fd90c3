import hashlib
import importlib.util
import shutil
from pathlib import Path

import pandas as pd
import pytest
from accelerate import tracking as trackers
from accelerate.state import PartialState

from taxogen.__main__ import main
from taxogen.runs.run import Run
from taxogen.stages import doctor, pipeline, train
from taxogen.stages.sweeping.main_scores import main_scores
from tests.world import toy_config, write_world


class Recorder:
    """A tracker that keeps what it is told."""

    name = "wandb"
    fails_at: int | None = None

    def __init__(self, project, **told):
        self.project, self.told, self.logged, self.ended = project, told, [], 0
        made.append(self)

    def start(self):
        if self.fails_at == 0:
            raise RuntimeError("no login\nfound")

    def log(self, values, step):
        if step == self.fails_at:
            raise ConnectionError("the line is cut")
        self.logged.append((step, values))

    def finish(self):
        self.ended += 1


made: list[Recorder] = []


@pytest.fixture(scope="module")
def settings(tmp_path_factory, toy_lm):
    return (*write_world(tmp_path_factory.mktemp("world"), toy_lm), "train.steps=6", "capture.at=last")


@pytest.fixture(autouse=True)
def _own_cache_and_recorder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setitem(trackers.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr(Recorder, "fails_at", None)
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: installed("json" if name == "wandb" else name)
    )
    made.clear()
    yield
    PartialState._reset_state()


def finished(path: Path, settings, *more: str) -> Run:
    run = Run.create(path, toy_config(settings, *more))
    pipeline.train_run(run)
    pipeline.evaluate_run(run)
    return run


def digests(run: Run) -> dict[str, str]:
    """A digest of every file that holds results, by name."""
    found = [path for path in run.path.rglob("*") if path.suffix in (".h5", ".safetensors", ".csv")]
    return {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_what_is_tracked_is_what_the_run_stores_and_no_byte_depends_on_it(tmp_path, settings):
    plain = digests(finished(tmp_path / "run", settings))
    assert len(plain) > 8
    assert not made
    shutil.rmtree(tmp_path / "run")  # stores say how they are made again, with the folder's name
    tracked = finished(tmp_path / "run", settings, "train.track=wandb")
    assert digests(tracked) == plain
    of_training, of_scores = made
    assert of_training.project == "taxoprobe"
    assert of_training.told["config"]["train.steps"] == 6
    assert of_training.told["id"] == of_scores.told["id"]
    assert [one.ended for one in made] == [1, 1]
    curve = pd.read_csv(tracked.file("training.csv"))
    assert [step for step, _ in of_training.logged] == curve["step"].tolist()
    assert [values["train/loss"] for _, values in of_training.logged] == curve["loss"].tolist()
    assert [values["train/lr"] for _, values in of_training.logged] == curve["lr"].tolist()
    scores = {f"evaluate/{name}": value for name, value in main_scores(tracked).items()}
    assert of_scores.logged == [(7, scores)]
    pipeline.evaluate_run(tracked)
    assert len(made) == 2


def test_a_training_that_was_stopped_is_tracked_on_from_its_checkpoint(tmp_path, settings, monkeypatch):
    run, own = Run.create(tmp_path / "run", toy_config(settings, "train.track=wandb")), train._step

    def stop_at_4(*words):
        if words[-1] == 4:
            raise KeyboardInterrupt
        return own(*words)

    with monkeypatch.context() as patch:
        patch.setattr(train, "_step", stop_at_4)
        with pytest.raises(KeyboardInterrupt):
            pipeline.train_run(run)
    pipeline.train_run(run)
    assert [step for one in made for step, _ in one.logged] == [1, 2, 3, 4, 5, 6]
    assert [one.ended for one in made] == [1, 1]


def test_a_tracker_that_fails_meanwhile_is_left_alone_and_one_that_cannot_start_is_refused(
    tmp_path, settings, monkeypatch, caplog
):
    monkeypatch.setattr(Recorder, "fails_at", 3)
    run = finished(tmp_path / "run", settings, "train.track=wandb")
    assert run.complete
    assert [step for step, _ in made[0].logged] == [1, 2]
    assert [text for text in caplog.messages if "left alone from step 3 on: the line is cut" in text]
    assert len([text for text in caplog.messages if "left alone" in text]) == 1
    monkeypatch.setattr(Recorder, "fails_at", 0)
    words = [word for one in (*settings, "train.track=wandb") for word in ("--set", one)]
    assert main(["train", "--run", str(tmp_path / "other"), *words]) == 2
    assert "train.track=wandb was asked for, and it cannot start (no login found)" in caplog.messages[-1]
    assert main(["evaluate", "--run", str(run.path)]) == 0


def test_a_missing_tracker_is_refused_before_anything_is_loaded(tmp_path, settings, monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(pipeline, "open_bench", lambda run: pytest.fail("the run was opened"))
    words = [word for one in (*settings, "train.track=trackio") for word in ("--set", one)]
    assert main(["train", "--run", str(tmp_path / "run"), *words]) == 2
    assert "trackio is not installed: pip install 'taxoprobe[trackio]'" in caplog.messages[-1]


def test_tensorboard_reads_the_curve_and_doctor_has_nothing_against_it(tmp_path, settings):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = finished(tmp_path / "run", settings, "train.track=tensorboard")
    events = EventAccumulator(str(run.path / "tracking")).Reload()
    curve = pd.read_csv(run.file("training.csv"))
    for name, column in {"train/loss": "loss", "train/lr": "lr"}.items():
        assert [one.step for one in events.Scalars(name)] == curve["step"].tolist()
        assert [one.value for one in events.Scalars(name)] == pytest.approx(curve[column].tolist(), rel=1e-6)
    (auroc,) = events.Scalars("evaluate/auroc")
    assert auroc.value == pytest.approx(main_scores(run)["auroc"], rel=1e-6)
    assert doctor.examine(run).holds
