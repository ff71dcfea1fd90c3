"""What a language model knows of names alone, once for all runs of it: no picture and no projector comes into it."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from probing.store import cache, files, records
from taxogen.answers.readout import Readout
from taxogen.models import ranks
from taxogen.questions import prompts

log = logging.getLogger("taxogen")
FILE = "readouts.npy"


def hypernyms_of_names(
    readout: Readout, names: Sequence[str], prompt: str
) -> Float[np.ndarray, "names hypernyms"]:
    """`readout.hypernyms_of_names(names, prompt)` in nats, cached: each language model is asked it once.

    The entry is named by all that the numbers come from: weights, tokenizer and number type, the rows' texts, the
    candidates, and the versions and instructions of what computes them.
    """
    folder = cache.folder() / "words" / _digest(readout, names, prompt)
    known = ranks.by_first(lambda: _read(folder / FILE))
    if known is None:
        known = readout.hypernyms_of_names(names, prompt)
        ranks.by_first(lambda: cache.build_once(f"words/{folder.name}", partial(_write, values=known)))
    return known


def _digest(readout: Readout, names: Sequence[str], prompt: str) -> str:
    vlm = readout.vlm
    return records.digest_of(
        {
            "lm": vlm.lm.identity,
            "format": readout.format,
            "rows": [readout.name_row(prompt, name).ids for name in (*names, *prompts.NEUTRAL)],
            "prompt": prompt,
            "hypernyms": readout.run.taxonomy.hypernyms,
            "device": [vlm.device.type, torch.backends.cpu.get_cpu_capability()],
            "versions": [importlib.metadata.version(name) for name in ("taxoprobe", "torch", "transformers")],
        }
    )


def _read(path: Path) -> Float[np.ndarray, "names hypernyms"] | None:
    """What is stored; None where nothing is. What is damaged is removed."""
    if not path.is_file():
        return None
    try:
        records.made_from(path)
    except records.DamagedError as fault:
        log.warning("%s; it is made again", fault)
        files.remove(path.parent)
        return None
    return np.load(path)


def _write(folder: Path, values: Float[np.ndarray, "names hypernyms"]) -> None:
    folder.mkdir()
    with BytesIO() as buffer:
        np.save(buffer, values)
        records.write(folder / FILE, lambda part: part.write_bytes(buffer.getvalue()), {})
