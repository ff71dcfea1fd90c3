"""What `taxoprobe plan` expects of real training steps on this machine, beside what they take: time and peak memory.

SmolLM2-135M behind three projectors, each in a process of its own with one thread, after another has made the features.
Seconds are those of the processor, so that other work beside counts little; memory is the peak of the steps alone,
beyond what the process had before models were loaded. Reads: the embedded models. Writes: runs in a temporary folder.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch

from taxogen.models.rows import common_prefix
from taxogen.runs import config
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import cards, plan, train

SIZES: Mapping[str, tuple[str, ...]] = {
    "4 flat tokens": (),
    "9 tokens": ("model.projector=gelu-mlp", "model.encoder_tokens=9", "model.image_tokens=9"),
    "25 tokens, yes/no": (
        *("model.projector=gelu-mlp", "model.encoder_tokens=25", "model.image_tokens=25"),
        "data.task=yes_no",
    ),
}
COMMON = ("data.leaves=60", "data.pictures_per_leaf=4", "capture.at=last", "capture.pictures_per_leaf=1")
STEPS = 6


def run(quick: bool) -> dict[str, Any]:
    """For each size the seconds of a step and the bytes at the peak: planned, real, and their ratio."""
    ratios: dict[str, float] = {}
    numbers: dict[str, float] = {}
    for name, settings in SIZES.items():
        with TemporaryDirectory() as folder:
            wanted = config.read(None, (*COMMON, *settings))
            _in_process(_prepare, folder, wanted)
            found = _in_process(_measure, folder, wanted, 1 if quick else STEPS)
        for kind in ("seconds", "bytes"):
            planned, real = found[f"{kind} planned"], found[f"{kind} real"]
            ratios[f"{name}: {kind} planned / real"] = planned / real
        numbers |= {f"{name}: {key}": value for key, value in found.items()}
    seconds = {name: value for name, value in numbers.items() if "seconds" in name}
    sizes = {name: value for name, value in numbers.items() if name not in seconds}
    return {"ratios": ratios, "seconds": seconds, "sizes": sizes}


def _prepare(folder: str, wanted: config.Config) -> dict[str, float]:
    """Closes the run and computes its features, so that no encoder counts."""
    one = Run(Path(folder) / "run", wanted)
    with one.alone():
        open_bench(one)
    return {}


def _measure(folder: str, wanted: config.Config, steps: int) -> dict[str, float]:
    expected = plan.plan(wanted, cards.card("cpu"))
    before = psutil.Process().memory_info().rss
    one = Run(Path(folder) / "run", wanted)
    with one.alone():
        bench = open_bench(one)
    rows, settings = bench.rows(bench.world.manifests["train"]), wanted.train
    together = np.array(train.subjects(rows, settings.order))
    bench.vlm.use_prefix(common_prefix(rows))
    optimiser = torch.optim.AdamW(bench.vlm.projector.parameters(), lr=settings.lr)
    taken = []
    _forget_peak()
    for step in [0, *np.linspace(1, expected.counted.steps - 1, steps).round().astype(int)]:
        batch = [rows[at] for at in train.batch_indices(together, settings.batch, int(step), wanted.seed)]
        start = time.process_time()
        train._step(bench.vlm, optimiser, batch, bench.features, settings, settings.lr, int(step))
        taken.append(time.process_time() - start)
    peak = _peak()
    return {
        "seconds planned": expected.step_seconds,
        "seconds real": statistics.mean(taken[1:]),  # the first prepares kernels
        "bytes planned": sum(expected.bytes.values()),
        "bytes real": peak - before,
        "tokens a step": expected.counted.step.tokens,
    }


def _forget_peak() -> None:
    """Lets the peak begin anew, so that loading does not count; only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    """The most bytes that this process has had resident."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _in_process(do: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What a function finds in a process of its own, with one thread."""
    context = get_context("spawn")
    with context.Pool(1, torch.set_num_threads, (1,)) as pool:
        return pool.apply(do, arguments)
