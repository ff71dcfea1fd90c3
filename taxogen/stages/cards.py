"""Cards: what a processor can multiply and hold, from data sheets; this machine's, measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import torch

from taxogen.models.lms import native_dtype
from taxogen.models.threads import threads

SHARE_OF_A_CARD, SHARE_OF_A_CPU = 0.4, 0.65
SIDE = 2048
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


@dataclass(frozen=True)
class Card:
    """A processor to plan for.

    Attributes:
        name: as asked for.
        memory: bytes.
        peaks: FLOP/s of dense matrix products by number type; without one, float32's are taken for it.
        native: the number type of `model.dtype=auto`.
        share: of the peak that training is assumed to reach.
        about: where the peaks are from.
    """

    name: str
    memory: float
    peaks: Mapping[str, float]
    native: str
    share: float
    about: str

    def rate(self, dtype: str) -> float:
        """FLOP/s that are assumed in a number type."""
        return self.share * self.peaks.get(dtype, self.peaks["float32"])


_SHEETS = {
    # GB, then TFLOP/s in float32 (without TF32, as torch multiplies by default), in float16, in bfloat16.
    "h100": (80, 67, 989, 989),
    "h200": (141, 67, 989, 989),
    "a100": (80, 19.5, 312, 312),
    "l40s": (48, 91.6, 362, 362),
    "rtx4090": (24, 82.6, 165.2, 165.2),
    "t4": (16, 8.1, 65, None),
}
CARDS = (*_SHEETS, "cpu")
"""Cards that can be named: NVIDIA's data sheets (SXM where there are several; dense), and the machine at hand."""


def card(name: str) -> Card:
    """The card of that name; `cpu` is this machine, which is measured.

    Raises:
        KeyError: it is not known; lists the known ones.
    """
    if name not in CARDS:
        raise KeyError(f"card {name!r} was asked for; known: {', '.join(CARDS)}")
    if name == "cpu":
        return _here()
    memory, *rates = _SHEETS[name]
    peaks = {
        dtype: 1e12 * rate
        for dtype, rate in zip(("float32", "float16", "bfloat16"), rates, strict=True)
        if rate
    }
    native = "bfloat16" if "bfloat16" in peaks else "float32"
    return Card(name, 1e9 * memory, peaks, native, SHARE_OF_A_CARD, "its data sheet")


def _here() -> Card:
    native = str(native_dtype()).removeprefix("torch.")
    peaks = {dtype: _measured(DTYPES[dtype]) for dtype in {"float32", native}}
    memory = float(psutil.virtual_memory().total)
    about = f"products of {SIDE} × {SIDE} in {' and '.join(sorted(peaks))}, measured now with one thread"
    return Card("cpu", memory, peaks, native, SHARE_OF_A_CPU, about)


def _measured(dtype: torch.dtype) -> float:
    """FLOP per second of one thread's own time in a large matrix product: the best of two."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    with threads(1):
        torch.mm(matrix[:64], matrix)  # the first call prepares kernels
        times = []
        for _ in range(2):
            start = time.process_time()
            torch.mm(matrix, matrix)
            times.append(time.process_time() - start)
    return 2 * SIDE**3 / min(times)
