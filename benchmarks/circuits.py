"""The search for a circuit beside one ablation at a time through hooks: `python -m benchmarks circuits`.

All 270 heads and 30 MLPs of SmolLM2-135M are ranked by how much a read-out loses without them, behind prompts as long
as the study's ("A [4 picture tokens] is a kind of"), in float32. The search takes the gradients of all gates at once
(attribution), then ablates the 30 parts of the largest contribution truly, in batches of rows that start at each part's
layer. The plain way is a pass of the whole model with a hook for each of the 300 parts; a pass costs the same for every
part, so that a sample of the retested parts is run and scaled. Both give the sample the same losses and the same ranks.
Rounds are of other pictures, both ways in turn; ratios are medians of the rounds' ratios.

Reads: the embedded SmolLM2-135M. Writes: nothing.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks._capture_peers import smollm2
from benchmarks.patching import CANDIDATES, _rows
from probing.patching import Answers, Restart, keep
from probing.patching.circuits import Ablation, ablated_by_hooks, attribute_parts, means, outputs

ROUNDS, ROWS, RETESTED, SAMPLED = 5, 12, 30, 8


def run(quick: bool) -> dict[str, Any]:
    """The record: ratios, seconds and sizes."""
    model, tokenizer = smollm2()
    model.requires_grad_(False)
    read = Answers.of(model, CANDIDATES)
    rounds, rows = (1, 4) if quick else (ROUNDS, ROWS)
    seconds: dict[str, list[float]] = {"attribution": [], "retest": [], "hooks": []}
    worst, same, parts = 0.0, True, 0
    for turn in range(rounds):
        given = _rows(model, tokenizer, rows, turn)
        start = time.perf_counter()
        reference = means(outputs(model, given))
        contributions = attribute_parts(model, given, reference, lambda h: _margin(read(h)), steps=0).mean(1)
        best = np.argsort(-np.abs(contributions))[:RETESTED]
        seconds["attribution"].append(time.perf_counter() - start)
        parts = len(contributions)
        start = time.perf_counter()
        sets = np.eye(parts, dtype=bool)[best]
        answers = Ablation(Restart(model, keep(model, given)), reference).run(sets, read)
        seconds["retest"].append(time.perf_counter() - start)
        sample = np.arange(0, RETESTED, max(1, RETESTED // SAMPLED))
        start = time.perf_counter()
        plain = torch.stack([ablated_by_hooks(model, given, sets[at], reference, read) for at in sample])
        seconds["hooks"].append((time.perf_counter() - start) * parts / len(sample))
        worst = max(worst, float((answers[sample] - plain).abs().max() / plain.abs().max()))
        ranks = [_margin(one).mean(1).argsort().tolist() for one in (answers[sample], plain)]
        same = same and ranks[0] == ranks[1]
    searched = [first + second for first, second in zip(seconds["attribution"], seconds["retest"])]
    return {
        "name": "circuits",
        "ratios": {
            "speedup_over_hooks": median(a / b for a, b in zip(seconds["hooks"], searched)),
            "largest_relative_difference": worst,
            "same_ranks": float(same),
        },
        "seconds": {f"{name}_{rows}_rows": median(values) for name, values in seconds.items()},
        "sizes": {"parts": parts, "rows": rows, "rounds": rounds, "retested": RETESTED, "by_hooks": SAMPLED},
    }


def _margin(logits: torch.Tensor) -> torch.Tensor:
    """The first candidate's logit against the mean of the others."""
    return logits[..., 0] - logits[..., 1:].mean(-1)
