"""What capture does to memory and disk: its peak, the speed of reading a layer, and stores after kills."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from probing.capture import CaptureBatch, capture
from probing.store import ActivationStore

WIDTH, LAYERS, BATCH = 576, 30, 16
SITES = ["hook_embed", "blocks.*.hook_resid_post"]


def thin_model(layers: int = LAYERS) -> Any:
    """A random model with the residual stream of SmolLM2-135M and next to nothing to compute."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=WIDTH,
        intermediate_size=8,
        num_hidden_layers=layers,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def batches(count: int, pause: float = 0.0) -> Iterator[CaptureBatch]:
    """Prompts of 12 random tokens with three spans, made one batch at a time."""
    for start in range(0, count, BATCH):
        rows = min(BATCH, count - start)

        def make(start: int = start, rows: int = rows) -> dict[str, torch.Tensor]:
            time.sleep(pause)
            return {
                "input_ids": torch.randint(3, 500, (rows, 12), generator=torch.Generator().manual_seed(start))
            }

        spans = {"noun": [(2, 3)] * rows, "cue": [(8, 9, 10)] * rows, "last": [(11,)] * rows}
        yield CaptureBatch(make, [f"item-{start + i}" for i in range(rows)], spans)


class Watch:
    """The growth of this process's resident memory inside a block, sampled every 10 ms; in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()

    def __enter__(self) -> Watch:
        self._start = _resident()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, _resident() - self._start)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(folder: Path, small: int, large: int) -> dict[str, float]:
    """Peak growth of memory, in MB, when `small` and when `large` prompts are captured; the large store is kept."""
    model = thin_model()
    capture(model, batches(BATCH), folder / "warm", sites=SITES)
    grown = {}
    for name, count in (("small", small), ("large", large)):
        with Watch() as watch:
            capture(model, batches(count), folder / name, sites=SITES)
        grown[name] = watch.peak / 1e6
    return grown


def reading(store: Path, flat: Path, rounds: int) -> dict[str, float]:
    """Seconds to read one layer from a store for the first time, again, and from a flat file with numpy."""
    name = f"blocks.{LAYERS // 2}.hook_resid_post"
    ActivationStore.open(store).read(name, "cue").tofile(flat)
    seconds: dict[str, list[float]] = {"first": [], "again": [], "fromfile": []}
    for _ in range(rounds):
        opened = ActivationStore.open(store)
        for kind in seconds:
            start = time.perf_counter()
            if kind == "fromfile":
                np.fromfile(flat, dtype=np.float32)
            else:
                opened.read(name, "cue")
            seconds[kind].append(time.perf_counter() - start)
    return {kind: median(values) for kind, values in seconds.items()}


def _job(path: Path, count: int, pause: float) -> None:
    torch.set_num_threads(1)
    capture(thin_model(2), batches(count, pause), path, sites=SITES, shard_rows=64)


def kills(folder: Path, count: int) -> dict[str, int]:
    """How many of `count` captures killed at random moments ended otherwise than one that was not.

    Each capture is killed until it ends by itself; finished shards that a kill took away are counted too.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks._capture_disk"])
    draw = np.random.default_rng(0)
    items, pause = 640, 0.02
    _job(folder / "reference", items, 0.0)
    reference = _content(folder / "reference")
    done = {"kills": 0, "different": 0, "lost_shards": 0, "stores": 0}
    while done["kills"] < count:
        path = folder / f"store-{done['stores']}"
        while True:
            kept = set(path.glob("shard-*.h5"))
            process = context.Process(target=_job, args=(path, items, pause))
            process.start()
            process.join(draw.uniform(0.1, 2.0) if done["kills"] < count else None)
            ended = process.exitcode == 0
            process.kill()
            process.join()
            done["kills"] += process.exitcode not in (0, None)
            done["lost_shards"] += len(kept - set(path.glob("shard-*.h5")))
            if ended:
                break
        done["stores"] += 1
        done["different"] += _content(path) != reference
    return done


def _content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
