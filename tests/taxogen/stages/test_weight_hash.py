"""A run, its language model and its own stores carry one and the same hash of the weights."""

import pytest
import torch

from probing.hooks.provenance import weight_hash
from taxogen.models import lms
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.world import toy_config, write_world


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_a_run_and_its_stores_carry_the_hash_of_the_same_weights(tmp_path, monkeypatch, toy_lm, init):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    settings = write_world(tmp_path / "world", toy_lm)
    run = Run.create(
        tmp_path / "run", toy_config(settings, f"model.init={init}", "train.steps=2", "capture.at=0,last")
    )
    pipeline.train_run(run)
    recorded = run.record["lm"]["weight_hash"]
    stores = [*(run.store(step) for step in run.steps), run.store(None, "text")]
    assert len(stores) == 3
    assert {store.attributes["weight_hash"] for store in stores} == {recorded}
    assert (recorded == weight_hash(lms.load(str(toy_lm), dtype=torch.float32).model)) == (
        init == "pretrained"
    )
