"""Reading a language model takes hardly more memory than its weights, in the number type that they are wanted in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.conftest import toy_tokenizer

JOB = """
import json, sys
import torch
from taxogen.models import lms
from transformers import AutoModelForCausalLM, LlamaForCausalLM

def memory(field):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))

before = memory("VmRSS")
lm = lms.load(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
weights = sum(weight.numel() * weight.element_size() for weight in lm.model.parameters())
print(json.dumps([memory("VmHWM") - before, weights]))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A bfloat16 model of 600 MB in six files."""
    folder = tmp_path_factory.mktemp("checkpoint")
    config = LlamaConfig(
        vocab_size=64, hidden_size=1024, intermediate_size=4096, num_hidden_layers=18, num_attention_heads=16
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="100MB")
    toy_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_peak_is_that_of_the_weights(checkpoint, dtype):
    """In another number type than that of the checkpoint, one of its files is there besides."""
    job = [sys.executable, "-c", JOB, str(checkpoint), dtype]
    said = subprocess.run(job, capture_output=True, text=True, check=True)
    peak, weights = json.loads(said.stdout.splitlines()[-1])
    assert weights > 600e6
    file = max(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    assert peak <= 1.15 * weights + (file if dtype == "float32" else 0)
