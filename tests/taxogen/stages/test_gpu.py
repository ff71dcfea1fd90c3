"""On a GPU a run gives the numbers that it gives on the CPU (`pytest -m gpu`, where torch sees one)."""

import numpy as np
import pandas as pd
import pytest
import torch

from probing.store import ActivationStore
from taxogen.answers.scores import Scores
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.world import toy_config, write_world

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, toy_lm):
    """A toy run in float32 on each device, trained, captured and scored."""
    folder = tmp_path_factory.mktemp("devices")
    settings = write_world(folder / "world", toy_lm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        for device in ("cpu", "cuda"):
            run = Run.create(folder / device, toy_config(settings, f"model.device={device}"))
            pipeline.train_run(run)
            pipeline.evaluate_run(run)
        yield Run.open(folder / "cpu"), Run.open(folder / "cuda")


def test_losses_and_scores_are_those_of_the_cpu(runs):
    losses = [pd.read_csv(run.file("training.csv"))["loss"] for run in runs]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-3)
    scores = [Scores.read(run) for run in runs]
    for part in ("image_scores", "text_scores"):
        np.testing.assert_allclose(*(getattr(one, part) for one in scores), rtol=0, atol=1e-2)


@pytest.mark.parametrize("step", [0, None])
def test_captures_are_those_of_the_cpu(runs, step):
    stores = [ActivationStore.open(run.store_path(step, pipeline.modality(step))) for run in runs]
    for site in stores[0].sites:
        for span in stores[0].spans:
            states = [store.read(site, span).astype(np.float32) for store in stores]
            np.testing.assert_allclose(*states, rtol=1e-2, atol=1e-2)
