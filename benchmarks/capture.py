"""Capture beside the bare forward pass, TransformerLens and nnsight: `python -m benchmarks capture`.

Everything runs in turns (A B C A B C), each turn on its own part of the work, and a ratio is the median of the
turns' ratios. Reads: the embedded SmolLM2-135M. Writes: a temporary folder (about 5 GB).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks._capture_disk import kills, memory, reading
from benchmarks._capture_peers import (
    IMAGE_TOKENS,
    bare_forward,
    picture_batches,
    prompts,
    smollm2,
    text_batches,
    with_nnsight,
    with_transformer_lens,
)
from probing.capture import capture
from probing.hooks.provenance import weight_hash

RESIDUAL = ["hook_embed", "blocks.*.hook_resid_*"]
ROUNDS = 10
#: Pictures in a batch of the loops with other libraries: of 1, 2, 4 and 10, where both are fastest on two cores.
PEERS_AT_ONCE = 4
#: And in a batch of capture.
AT_ONCE = 20


def run(quick: bool) -> dict[str, Any]:
    """The record: ratios, seconds and sizes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # First, while the heap is small: in one that others have grown, neither growth nor page faults are seen.
        parts = [disk(folder, rows=2000 if quick else 20_000, killed=5 if quick else 50)]
        model, tokenizer = smollm2()
        parts += [
            overhead(model, tokenizer, folder, rounds=5 if quick else ROUNDS, per_round=16 if quick else 200),
            peers(model, tokenizer, folder, rounds=5 if quick else ROUNDS, pictures=4 if quick else 20),
        ]
    record: dict[str, Any] = {"name": "capture"}
    for group in ("ratios", "seconds", "sizes"):
        record[group] = {key: value for part in parts for key, value in part[group].items()}
    return record


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def overhead(model: Any, tokenizer: Any, folder: Path, *, rounds: int, per_round: int) -> dict[str, Any]:
    """Time of capturing every residual site at three spans, over that of the bare forward pass."""
    rows = prompts(tokenizer, rounds * per_round)
    attributes = {"weight_hash": weight_hash(model)}
    turns: dict[str, list[float]] = {"bare": [], "without_head": [], "capture": []}
    _warm(model, tokenizer, folder, attributes)
    for turn in range(rounds):
        part = rows[turn * per_round : (turn + 1) * per_round]
        made = text_batches(part, turn * per_round, 16)
        turns["bare"].append(_timed(lambda made=made: bare_forward(model, made)))
        turns["without_head"].append(_timed(lambda made=made: bare_forward(model.model, made)))
        turns["capture"].append(
            _timed(
                lambda made=made: capture(model, made, folder / "text", sites=RESIDUAL, attributes=attributes)
            )
        )
    stored = sum(file.stat().st_size for file in (folder / "text").iterdir())
    shutil.rmtree(folder / "text")
    return {
        "ratios": {
            "overhead_over_bare_forward": _ratio(turns["capture"], turns["bare"]),
            "overhead_over_forward_without_head": _ratio(turns["capture"], turns["without_head"]),
        },
        "seconds": {f"{name}_{per_round}_prompts": median(values) for name, values in turns.items()},
        "sizes": {"prompts": rounds * per_round, "overhead_rounds": rounds, "text_store_bytes": stored},
    }


def _warm(model: Any, tokenizer: Any, folder: Path, attributes: dict[str, Any]) -> None:
    """One small capture, so that no turn pays for verification or first allocations."""
    made = text_batches(prompts(tokenizer, 16), 0, 16)
    capture(model, made, folder / "warm-text", sites=RESIDUAL, attributes=attributes)


def _ratio(mine: list[float], other: list[float]) -> float:
    return median(a / b for a, b in zip(mine, other))


def peers(model: Any, tokenizer: Any, folder: Path, *, rounds: int, pictures: int) -> dict[str, Any]:
    """How many times longer TransformerLens and nnsight take for the same rows of pictures × 10 questions."""
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(len(model.model.layers))]
    loops = {
        "transformer_lens": with_transformer_lens(model, names),
        "nnsight": with_nnsight(model, names),
    }
    attributes = {"weight_hash": weight_hash(model)}
    embedding = model.get_input_embeddings()
    rows = prompts(tokenizer, 10 * pictures * rounds)
    generator = torch.Generator().manual_seed(0)
    turns: dict[str, list[float]] = {"capture": [], **{name: [] for name in loops}}
    _warm(model, tokenizer, folder / "peers", attributes)
    for turn in range(rounds):
        shown = 0.1 * torch.randn(pictures, IMAGE_TOKENS, model.config.hidden_size, generator=generator)
        part = rows[turn * 10 * pictures : (turn + 1) * 10 * pictures]
        shared, whole = (
            picture_batches(embedding, part, shown, turn * pictures, at_once=at_once, shared=flag)
            for flag, at_once in ((True, AT_ONCE), (False, PEERS_AT_ONCE))
        )
        turns["capture"].append(
            _timed(
                lambda made=shared: capture(model, made, folder / "own", sites=names, attributes=attributes)
            )
        )
        for name, loop in loops.items():
            path = folder / f"{name}-{turn}.h5"
            turns[name].append(_timed(lambda loop=loop, made=whole, path=path: loop(made, path)))
    return {
        "ratios": {f"speedup_over_{name}": _ratio(turns[name], turns["capture"]) for name in loops},
        "seconds": {f"{name}_{pictures}_pictures": median(values) for name, values in turns.items()},
        "sizes": {"pictures": pictures * rounds, "questions": 10 * pictures * rounds, "peer_rounds": rounds},
    }


def disk(folder: Path, *, rows: int, killed: int) -> dict[str, Any]:
    """Memory, reading and kills."""
    grown = memory(folder, rows // 10, rows)
    read = reading(folder / "large", folder / "flat.bin", 9)
    ended = kills(folder / "kills", killed)
    return {
        "ratios": {
            "read_throughput_over_fromfile": read["fromfile"] / read["first"],
            "read_again_throughput_over_fromfile": read["fromfile"] / read["again"],
        },
        "seconds": {f"read_layer_{name}": value for name, value in read.items()},
        "sizes": {
            f"peak_memory_growth_mb_{rows // 10}_prompts": grown["small"],
            f"peak_memory_growth_mb_{rows}_prompts": grown["large"],
            "kills": ended["kills"],
            "stores_unlike_the_reference": ended["different"],
            "finished_shards_lost": ended["lost_shards"],
        },
    }
