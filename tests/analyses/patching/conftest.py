"""A toy run of a pretrained language model and one of random init, to patch."""

import pytest

from analyses.inputs.subject import Subject
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.world import toy_config, write_world

SETTINGS = ("train.steps=4", "capture.at=")


@pytest.fixture(scope="package")
def runs(tmp_path_factory, toy_lm):
    """A trained toy run, and one of a random-init language model."""
    folder = tmp_path_factory.mktemp("toy_patching")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        world = write_world(folder, toy_lm)
        trained = {}
        for init in ("pretrained", "random"):
            trained[init] = Run.create(folder / init, toy_config(world, *SETTINGS, f"model.init={init}"))
            train_run(trained[init])
        yield trained


@pytest.fixture(scope="package")
def toy(runs):
    return Subject.of(runs["pretrained"], dtype="float32")
