"""Training and scoring in a fixed number of threads give the same bytes whatever the process had before."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from taxogen.models.lms import LM
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE, Row
from taxogen.models.threads import threads
from taxogen.models.vlm import Vlm
from tests.conftest import toy_tokenizer

COUNTS = (1, 2, 3)


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def vlm():
    """A float32 model whose sizes no number of threads divides evenly."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=96, intermediate_size=999, num_hidden_layers=2, num_attention_heads=3
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    lm = LM(model, toy_tokenizer(), "toy", "", "random", 0, None)
    return Vlm(lm, Projector("flat-gelu-mlp", (1, 256), (2, 96), 128, 0.5))


def trained_bytes() -> str:
    """A digest of a projector after two steps of training, and of the scores that it gives."""
    model, generator = vlm(), torch.Generator().manual_seed(1)
    features = torch.randn(17, 1, 256, generator=generator)
    words = torch.randint(0, 64, (17, 8), generator=generator).tolist()
    spans = {"image": (0, 1), "cue": (2, 3), "last": (8,)}
    rows = [Row(str(at), (IMAGE, IMAGE, *text), 9, spans, at) for at, text in enumerate(words)]
    optimiser = torch.optim.AdamW(model.projector.parameters(), lr=0.01)
    for _ in range(2):
        model.answer_loss(rows, features).backward()
        torch.nn.utils.clip_grad_norm_(model.projector.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    with torch.no_grad():
        scores = model.logits(model.hidden(rows, features)[0][:, -1])
    parts = [*(value.detach() for value in model.projector.parameters()), scores]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


def test_a_fixed_number_of_threads_gives_the_same_bytes_from_any_number():
    free, fixed = set(), set()
    for count in COUNTS:
        torch.set_num_threads(count)
        free.add(trained_bytes())
        with threads(2):
            fixed.add(trained_bytes())
        assert torch.get_num_threads() == count
    assert len(fixed) == 1
    assert len(free) > 1, "this model no longer shows that the number of threads matters: make it larger"


def test_the_number_before_comes_back_after_a_failure():
    torch.set_num_threads(3)
    inside = []

    def fail():
        with threads(2):
            inside.append(torch.get_num_threads())
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert inside == [2]
    assert torch.get_num_threads() == 3


def test_less_than_one_thread_is_refused():
    with (
        pytest.raises(ValueError, match="0 threads were asked for; a computation needs at least 1"),
        threads(0),
    ):
        pass


@pytest.mark.parametrize("package", ["taxogen", "analyses"])
def test_threads_wait_asleep_unless_the_environment_says_otherwise(package):
    script = f"import sys, os, {package}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    for given, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        rest = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        said = subprocess.run(
            [sys.executable, "-c", script], env={**rest, **given}, capture_output=True, text=True
        )
        assert said.stdout.split() == [expected, "False"]
