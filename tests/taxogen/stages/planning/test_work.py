"""Scoring and captures: what a plan expects is what a real run computes, and writes."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from taxogen.__main__ import main
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import cards, plan
from taxogen.stages.pipeline import evaluate_run
from tests.world import toy_folder

SITES = "capture.sites=hook_embed,blocks.*.hook_resid_post,blocks.0.mlp.hook_post,blocks.1.attn.hook_z"


@pytest.fixture(scope="module", params=["completion", "yes_no"])
def trained(request, tmp_path_factory, asking_lm):
    """A trained toy run of each format of questions."""
    with toy_folder(tmp_path_factory.mktemp("work"), asking_lm) as settings:
        chosen = (*settings, f"data.task={request.param}", SITES, "capture.spans=slot:all,cue,last")
        words = [word for setting in chosen for word in ("--set", setting)]
        assert main(["train", "--out", "run", *words]) == 0
        yield Run.open("run")


def test_captures_have_the_rows_and_bytes_of_the_plan(trained):
    planned = plan.plan(trained.config, cards.card("h100"))
    stored = 0
    for step in (*trained.steps, None):
        store = trained.store(step) if step is not None else trained.store(None, modality="text")
        own = planned.counted.text if step is None else planned.counted.image
        assert len(store.columns) == own.rows
        stored += sum(
            np.asarray(store.read(site, span)).size * 2 for site in store.sites for span in store.spans
        )
    assert planned.captures == len(trained.steps)
    assert planned.disk["captures"] == pytest.approx(stored, rel=0.05)
    saved = sum(path.stat().st_size for path in trained.path.glob("projector/*.safetensors"))
    assert planned.disk["projectors"] == pytest.approx(saved, rel=0.1), "and a header"


def test_flops_of_scoring_are_those_that_torch_counts(trained):
    planned = plan.plan(trained.config, cards.card("h100"))
    with trained.alone():
        bench = open_bench(trained)
        assert bench.vlm.packs  # tried before anything is counted
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            evaluate_run(trained, bench)
    assert planned.scoring_flops == pytest.approx(counter.get_total_flops(), rel=0.25)
