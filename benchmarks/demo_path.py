"""The demo's three workloads against the bare matrix products that they cannot do without, interleaved.

Training and capture on SmolLM2-135M: the products of every linear layer with its own weight, in the same shapes and
number type, forward (and for training backward to the input). Probes: the Gram matrix, its eigenvectors, the scores.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._interleaved import interleaved
from probing.hooks import record
from probing.probes.linear import PENALTIES, fit_ridge
from taxogen.models import lms
from taxogen.models.projectors import Projector
from taxogen.models.rows import common_prefix
from taxogen.models.vlm import Vlm
from taxogen.questions.prompts import segments
from taxogen.runs.config import TrainConfig

LEAVES = ("crow", "dog", "hot dog", "violin", "light bulb", "apple", "bus", "polar bear")


def run(quick: bool) -> dict[str, Any]:
    """Ratios of each workload's time to that of its bare products (1 is the limit), and throughputs."""
    rounds = 1 if quick else 7
    vlm, features, rows = _model()
    optimiser = torch.optim.AdamW(vlm.projector.parameters(), lr=TrainConfig().lr)
    prompts = [row.prompt for row in rows]
    tokens = {
        "train": _tokens([row.ids[:-1] for row in rows], vlm),
        "capture": _tokens([r.ids for r in prompts], vlm),
    }

    def train() -> None:
        vlm.answer_loss(rows, features).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def capture() -> None:
        with torch.inference_mode(), record(vlm.model, "blocks.*.hook_resid_post"):
            vlm.model.base_model(**vlm.inputs(prompts, features), use_cache=True)

    rng = np.random.default_rng(0)
    states, labels = rng.normal(size=(300, 576)).astype(np.float32), rng.random((300, 34 * 4)) < 0.1
    groups = np.repeat(np.arange(150), 2)
    taken = interleaved(
        {
            "train": train,
            "train products": _products(vlm, tokens["train"], backward=True),
            "capture": capture,
            "capture products": _products(vlm, tokens["capture"], backward=False),
            "probe": lambda: fit_ridge(states, labels.astype(np.float64), groups, PENALTIES, blocks=4),
            "probe products": lambda: _probe_products(states.astype(np.float64), labels.astype(np.float64)),
        },
        rounds,
    )
    times = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {
        "ratios": {
            f"{name}_over_bare_products": times[name] / times[f"{name} products"]
            for name in ("train", "capture", "probe")
        }
        | {
            "training_examples_per_second": len(rows) / times["train"],
            "captured_rows_per_second": len(rows) / times["capture"],
            "probe_fits_per_second": labels.shape[1] * len(PENALTIES) / times["probe"],
        },
        "seconds": times,
        "sizes": {
            "batch": len(rows),
            "blocks": 30,
            "dtype": str(vlm.dtype),
            "threads": torch.get_num_threads(),
            **tokens,
        },
    }


def _model():
    lm = lms.load()
    torch.manual_seed(0)
    vlm = Vlm(lm, Projector("flat-gelu-mlp", (1, 1280), (4, lm.width), 1024, 0.1))
    rows = [vlm.row(str(i), segments("called", leaf=LEAVES[i % len(LEAVES)]), i) for i in range(32)]
    vlm.use_prefix(common_prefix(rows))
    return vlm, torch.randn(32, 1, 1280), rows


def _tokens(ids: Sequence[Sequence[int]], vlm: Vlm) -> int:
    """How many tokens, padding included, a batch sends through the blocks."""
    return len(ids) * (max(map(len, ids)) - len(vlm.prefix_ids))


def _products(vlm: Vlm, tokens: int, backward: bool) -> Callable[[], None]:
    """The bare products of every linear layer of the blocks."""
    stack = vlm.model.base_model.get_submodule("layers")
    weights = [layer.weight for layer in stack.modules() if isinstance(layer, nn.Linear)]
    inputs = {w.shape[1]: torch.randn(tokens, w.shape[1], dtype=w.dtype) for w in weights}
    outputs = {w.shape[0]: torch.randn(tokens, w.shape[0], dtype=w.dtype) for w in weights}

    def multiply() -> None:
        with torch.inference_mode():
            for weight in weights:
                nn.functional.linear(inputs[weight.shape[1]], weight)
                if backward:
                    outputs[weight.shape[0]] @ weight

    return multiply


def _probe_products(states: np.ndarray, labels: np.ndarray) -> None:
    _, vectors = np.linalg.eigh(states @ states.T)
    projected = vectors.T @ labels
    for _ in PENALTIES:
        vectors @ projected
