"""Patching grids beside naive patching with hooks: `python -m benchmarks patching`.

The grid is resid_post × 30 layers × slot, cue and last × 200 pairs on SmolLM2-135M, behind prompts as long as the
study's ("A [4 picture tokens] is a kind of"), in float32. Five rounds of 40 pairs: the whole grid by restarts, then a
sample of its cells by one forward pass of the whole model with a hook for each cell, as TransformerLens users patch
(through plain hooks, and through a TransformerBridge). The cost of a cell by hooks depends on no layer or span, so that
its time for all cells is that of the sample, scaled. Every number of the sample is compared. Ratios are medians of the
rounds' ratios. Reads: the embedded SmolLM2-135M. Writes: nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks._capture_peers import smollm2
from probing.backends.transformer_lens import TransformerLensRecorder
from probing.hooks import edit
from probing.patching import EACH, Answers, Cell, Patch, Restart, Rows, edits_of, grid, keep, span_states

SPANS = {"slot": (2, 3, 4, 5), "cue": (6, 7, 8, 9), "last": (9,)}
CANDIDATES = list(range(1000, 1034))  # as many as there are hypernyms
ROUNDS, PAIRS, SAMPLED = 5, 40, 6


def run(quick: bool) -> dict[str, Any]:
    """The record: ratios, seconds and sizes."""
    model, tokenizer = smollm2()
    library = TransformerLensRecorder.of(model)
    layers = "0,15,29" if quick else "*"
    cells = grid(model, f"blocks.{layers}.hook_resid_post", list(SPANS))
    rounds, pairs = (2, 4) if quick else (ROUNDS, PAIRS)
    turns: dict[str, list[float]] = {"restarts": [], "hooks": [], "transformer_lens": []}
    worst = 0.0
    ways: dict[str, Callable[..., Tensor]] = {
        "hooks": lambda rows, edits: _with_hooks(model, rows, edits)[:, -1, CANDIDATES],
        "transformer_lens": lambda rows, edits: library.patched(_whole(rows), edits)[:, -1, CANDIDATES],
    }
    read = Answers.of(model, CANDIDATES)
    for turn in range(rounds):
        clean, corrupted = (_rows(model, tokenizer, pairs, 2 * turn + side) for side in (0, 1))
        start = time.perf_counter()
        found = _by_restarts(model, clean, corrupted, cells, read)
        turns["restarts"].append(time.perf_counter() - start)
        states, _ = span_states(model, clean, [cell.sites[0] for cell in cells], dict.fromkeys(SPANS, EACH))
        sample = [(turn + k * len(cells) // SAMPLED) % len(cells) for k in range(SAMPLED)]
        for name, patched in ways.items():
            start = time.perf_counter()
            plain = [patched(corrupted, edits_of(corrupted, _patch(cells[i], states), EACH)) for i in sample]
            turns[name].append((time.perf_counter() - start) * len(cells) / SAMPLED)
            error = (found[sample] - torch.stack(plain)).abs().max() / torch.stack(plain).abs().max()
            worst = max(worst, float(error))
    return {
        "name": "patching",
        "ratios": {
            "speedup_over_naive_hooks": _ratio(turns["hooks"], turns["restarts"]),
            "speedup_over_transformer_lens": _ratio(turns["transformer_lens"], turns["restarts"]),
            "largest_relative_difference": worst,
        },
        "seconds": {f"{name}_{pairs}_pairs": median(values) for name, values in turns.items()},
        "sizes": {
            "cells": len(cells), "pairs": rounds * pairs, "rounds": rounds, "cells_by_hooks_a_round": SAMPLED,
        },
    }  # fmt: skip


def _rows(model: Any, tokenizer: Any, pairs: int, seed: int) -> Rows:
    """Prompts with random picture tokens of the size of embeddings in the slot."""
    table = model.get_input_embeddings().weight.detach()
    words = [
        tokenizer(text, add_special_tokens=False).input_ids for text in ("<|endoftext|>A", " is a kind of")
    ]
    before, after = (table[ids].expand(pairs, -1, -1) for ids in words)
    generator = torch.Generator().manual_seed(seed)
    picture = table.std() * torch.randn(pairs, len(SPANS["slot"]), table.shape[1], generator=generator)
    embedded = torch.cat([before, picture, after], 1)
    return Rows(lambda: {"inputs_embeds": embedded}, SPANS)


def _whole(rows: Rows) -> dict[str, Any]:
    return {**rows.inputs(), "use_cache": False}


def _patch(cell: Cell, states: dict[tuple[str, str], Tensor]) -> Patch:
    return Patch(cell, {cell.site: states[cell.site, cell.span]})


def _by_restarts(model: Any, clean: Rows, corrupted: Rows, cells: Sequence[Cell], read: Answers) -> Tensor:
    """The answers of the whole grid, the two runs that it rests on included."""
    states, _ = span_states(model, clean, [cell.sites[0] for cell in cells], dict.fromkeys(SPANS, EACH))
    return Restart(model, keep(model, corrupted)).run([_patch(cell, states) for cell in cells], read)


def _with_hooks(model: Any, rows: Rows, edits: Any) -> Tensor:
    with torch.no_grad(), edit(model, edits):
        return model(**_whole(rows)).logits


def _ratio(theirs: list[float], mine: list[float]) -> float:
    return median(a / b for a, b in zip(theirs, mine, strict=True))
