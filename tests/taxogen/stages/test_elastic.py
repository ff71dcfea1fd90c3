"""One run by one process and then by two, or the other way round: the losses of one alone; gradients add up to its."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from taxogen.__main__ import main
from taxogen.models import ranks
from taxogen.models.vlm import Vlm
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import train as training
from tests.taxogen.stages.ranks_job import answer_loss
from tests.taxogen.stages.test_ranks import JOB, launched, two
from tests.world import toy_config, toy_folder

KILLED_AT = 7
STEPS = 12


@pytest.fixture(scope="module")
def settings(tmp_path_factory, toy_lm):
    with toy_folder(tmp_path_factory.mktemp("elastic"), toy_lm) as made:
        yield (*made, "capture.at=last")


@pytest.fixture(scope="module")
def flags(settings):
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def losses(flags):
    """The losses of a run that one process trained from beginning to end."""
    assert main(["train", "--out", "alone/toy", *flags]) == 0
    return Run.open("alone/toy").table("training")


def same_curve(path, expected):
    found = Run.open(path).table("training")
    assert len(found) == STEPS
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=0, atol=1e-5)


@pytest.mark.nightly
def test_what_two_processes_began_one_ends(flags, losses, monkeypatch):
    monkeypatch.setenv("TROUBLE", "killed")
    assert launched("train", "--out", "shrunk/toy", *flags, module=JOB)[0] == 1
    done = len(torch.load("shrunk/toy/checkpoint.pt", weights_only=True)["losses"])
    assert 0 < done < STEPS
    assert main(["train", "--out", "shrunk/toy"]) == 0
    same_curve("shrunk/toy", losses)


@pytest.mark.nightly
def test_what_one_process_began_two_end(flags, losses, monkeypatch):
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == KILLED_AT:
            raise KeyboardInterrupt
        return answer_loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Vlm, "answer_loss", killed)
        with pytest.raises(KeyboardInterrupt):
            main(["train", "--out", "grown/toy", *flags])
    assert len(torch.load("grown/toy/checkpoint.pt", weights_only=True)["losses"]) == KILLED_AT - 1
    assert two("train", "--out", "grown/toy").count("is trained") == 1
    same_curve("grown/toy", losses)


@pytest.mark.nightly
def test_two_gloo_processes_have_the_gradient_of_one(flags):
    """AdamW's first moment after one step is a tenth of the gradient; the job keeps the checkpoint that ends it."""
    kept = {}
    words = [*flags, "--set", "train.clip=1e9", "--set", "train.steps=2"]
    for count in (1, 2):
        path = Path(f"gradient-{count}/toy")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TROUBLE", "stopped")
            code, said = launched("train", "--out", path, *words, module=JOB, processes=count)
        assert code == 1, said
        state = torch.load(path / "checkpoint.pt", weights_only=True)
        assert len(state["losses"]) == 1
        kept[count] = torch.cat([one["exp_avg"].flatten() for one in state["optimiser"]["state"].values()])
    assert kept[1].norm() > 1e-3
    assert (kept[2] - kept[1]).norm() <= 1e-6 * kept[1].norm()


@pytest.mark.parametrize("processes", [2, 3])
def test_gradients_of_shares_add_up_to_that_of_the_whole_step(settings, tmp_path, monkeypatch, processes):
    run = Run(tmp_path / "run", toy_config(settings))
    with run.alone():
        bench = open_bench(run)
    rows = bench.rows(bench.world.manifests["train"])[:8]

    def gradient(count, number):
        """What one of some processes adds to the loss and the gradient of a step."""
        added = []
        optimiser = torch.optim.SGD(bench.vlm.projector.parameters(), lr=0.0)
        with monkeypatch.context() as patch:
            patch.setattr(ranks, "count", lambda: count)
            patch.setattr(ranks, "number", lambda: number)
            patch.setattr(ranks, "total", lambda own: added.append(own.clone()) or own)
            training._step(bench.vlm, optimiser, rows, bench.features, run.config.train, 0.0, 0)
        return [one.flatten() for one in added]

    whole = torch.cat(gradient(1, 0))
    shares = sum(torch.cat(gradient(processes, number)) for number in range(processes))
    assert whole.norm() > 0.01
    assert (shares - whole).norm() <= 1e-6 * whole.norm()
    one = torch.cat(gradient(processes, 0))
    assert (one - whole).norm() > 0.01 * whole.norm(), "a share alone is not the whole"
