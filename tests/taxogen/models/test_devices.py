"""The device of a run: named, refused, and obeyed: every tensor of training, scoring, capture and patching is on it."""

import pandas as pd
import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

from probing.capture import capture, loop
from probing.patching import Alignment, Cell, Patch
from probing.patching.restart import Restart
from probing.patching.runs import Rows, keep, span_states
from probing.sites import Site
from taxogen.answers.readout import log_odds, log_probs
from taxogen.models import devices, lms, weights
from taxogen.models.projectors import Projector
from taxogen.models.rows import common_prefix
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts
from taxogen.runs.config import Config, read
from taxogen.stages.capture_batches import capture_batches


class Elsewhere(TorchFunctionMode):
    """A block in which tensors of torch's meta device can leave it by the ways on which tensors leave an accelerator.

    Meta tensors hold no numbers and mix with tensors of no other device, as CUDA's do: what comes to the host is zeros.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        value = args[0] if args else None
        if isinstance(value, torch.Tensor) and value.device.type == "meta":
            if func is torch.equal:
                return args[0].shape == args[1].shape and args[0].device == args[1].device
            if func in LEAVING:
                host = torch.zeros(value.shape, dtype=value.dtype)
                return func(host)
        return func(*args, **(kwargs or {}))


T = torch.Tensor
LEAVING = (T.cpu, T.tolist, T.item, T.__bool__, T.__float__, T.__int__, T.__index__)
ROWS = ("crow", "duck", "pea")


@pytest.fixture
def vlm(toy_lm) -> Vlm:
    """A VLM on the meta device, after its loader has checked it on the CPU."""
    lm = lms.load(str(toy_lm), dtype=torch.float32)
    vlm = Vlm(lm, Projector("gelu-mlp", (4, 6), (4, lm.width), 0, 0.2))
    vlm.model.to("meta")
    vlm.projector.to("meta")
    return vlm


def rows_of(vlm: Vlm):
    return [vlm.row(leaf, prompts.segments("called", leaf=leaf), at) for at, leaf in enumerate(ROWS)]


def test_devices_do_not_mix_in_these_tests(vlm):
    """If they did, the tests below would prove nothing."""
    rows, features = rows_of(vlm), torch.randn(3, 4, 6)
    vlm.projector.to_empty(device="cpu")
    with Elsewhere(), pytest.raises(RuntimeError, match=r"(?i)device"):
        vlm.answer_loss(rows, features)


def test_one_training_step(vlm):
    features = torch.randn(3, 4, 6)
    optimiser = torch.optim.AdamW(vlm.projector.parameters())
    with Elsewhere():
        rows = rows_of(vlm)
        vlm.use_prefix(common_prefix(rows))
        loss = vlm.answer_loss(rows, features)
        assert loss.device.type == "meta"
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vlm.projector.parameters(), 1.0)
        optimiser.step()


def test_one_scoring_batch_of_each_read_out(vlm):
    features = torch.randn(3, 4, 6)
    with Elsewhere():
        rows = rows_of(vlm)
        scores = log_probs(vlm, rows, features, [(5, 6, 7), (8,), (5, 9)])
        assert scores.shape == (3, 3)
        contexts = [row.before_cue for row in rows]
        assert log_odds(vlm, contexts, features, [(5, 6, 7), (5, 8)], (3, 4)).shape == (3, 2)


def test_one_capture(vlm, tmp_path, monkeypatch):
    monkeypatch.setattr(
        loop, "_VERIFIED", {vlm.model}
    )  # verification compares numbers, which meta tensors lack
    monkeypatch.setattr(loop, "require_weights", lambda model: None)
    with Elsewhere():
        rows = rows_of(vlm)
        table = pd.DataFrame({"item_id": ROWS, "leaf": ROWS})
        batches = capture_batches(vlm, torch.randn(3, 4, 6), rows, ["image", "cue"], table)
        spans = {"image": "mean", "cue": "last"}
        store = capture(
            vlm.model, batches, tmp_path / "store", sites=["blocks.*.hook_resid_post"], pooling=spans
        )
    assert len(store) == 3


def test_one_patched_run(vlm):
    features = torch.randn(3, 4, 6)
    with Elsewhere(), torch.no_grad():
        row = rows_of(vlm)[0]
        vlm.use_prefix(())
        rows = Rows(
            lambda: vlm.inputs([row.prompt], features),
            {"slot": row.spans["image"], "last": row.spans["last"]},
        )
        pooled = Alignment("mean")
        cell = Cell((Site("hook_resid_post", 0),), "slot")
        states, _ = span_states(vlm.model, rows, cell.sites, {"slot": pooled})
        patch = Patch(cell, {"blocks.0.hook_resid_post": states["blocks.0.hook_resid_post", "slot"]})
        logits = Restart(vlm.model, keep(vlm.model, rows), {"slot": pooled}).run([patch], vlm.logits)
        assert logits.shape[-1] == vlm.logits(torch.zeros(1, vlm.lm.width, device="meta")).shape[-1]


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "xpu:1"])
def test_a_device_that_is_not_there_is_refused(name, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    with pytest.raises(
        ValueError, match=rf"model.device={name} was asked for; torch .* sees cpu here: take one"
    ):
        devices.resolve(name)
    assert devices.resolve("auto") == torch.device("cpu")


def test_devices_are_those_that_torch_sees(monkeypatch):
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda")
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert devices.resolve("auto") == torch.device("cuda")
    assert devices.resolve("cuda:1") == torch.device("cuda:1")
    with pytest.raises(
        ValueError, match=r"model.device=cuda:2 was asked for; torch .* sees cuda:0, cuda:1, cpu here"
    ):
        devices.resolve("cuda:2")
    with pytest.raises(ValueError, match=r"model.device=mps was asked for"):
        devices.resolve("mps")


def test_a_card_too_small_is_refused_by_how_much_before_anything_is_read(toy_lm, monkeypatch):
    monkeypatch.setattr(devices, "free_bytes", lambda device: 40_000)
    monkeypatch.setattr(weights, "pretrained", pytest.fail)
    size = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(toy_lm).parameters())
    short = f"{(4 * size - 40_000) / 1e9:.1f} GB too few"
    with pytest.raises(ValueError, match=f"the language model .* on cpu, where 0.0 GB are free: {short}"):
        lms.load(str(toy_lm), dtype=torch.float32)


@pytest.mark.parametrize("spelling", ["gpu", "cuda:", "cuda:a", "CPU", "cpu:0"])
def test_a_device_is_spelled_as_torch_spells_it(spelling):
    with pytest.raises(ValueError, match=r"'model.device' takes auto, cpu, cuda, cuda:1, mps or xpu, found"):
        read(None, [f"model.device={spelling}"])


def test_the_device_does_not_decide_the_identity_of_a_run():
    assert read(None, ["model.device=cuda:1"]).hash == Config().hash
