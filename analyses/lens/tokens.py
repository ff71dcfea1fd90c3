"""Tokens that lenses look at: states of picture (or name) and of the cue, in rows of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.frame.parts import tracked
from analyses.inputs.subject import Subject
from probing.hooks import record
from taxogen.models.rows import Row
from taxogen.questions import prompts

BATCH = 64
MODALITIES = ("image", "text")
SPANS = ("slot", "cue", "last")


@dataclass(frozen=True)
class Tokens:
    """States of all picture (or name) and cue tokens of some rows.

    Attributes:
        states: site → [tokens, width].
        row: which row each token is of.
        leaves: of the rows.
        in_span: slot, cue, last → mask over tokens.
    """

    states: Mapping[str, Float[Tensor, "tokens width"]]
    row: Int[np.ndarray, " tokens"]
    leaves: np.ndarray
    in_span: Mapping[str, np.ndarray]

    @property
    def leaf(self) -> np.ndarray:
        """The leaf of each token's row."""
        return self.leaves[self.row]


@torch.no_grad()
def token_states(subject: Subject, shown: pd.DataFrame, modality: str, sites: Sequence[str]) -> Tokens:
    """The states at some sites of every token of the hypernym question about each picture, or each leaf's name."""
    vlm = subject.bench.vlm
    pictures = shown["picture"].astype(str) if modality == "image" else [""] * len(shown)
    rows = [
        subject.row("hypernym", leaf, picture) for picture, leaf in zip(pictures, shown["leaf"].astype(str))
    ]
    subject.share_prefix(rows)
    slot = prompts.span_name("slot", "image" if modality == "image" else "text")
    states: dict[str, list[Tensor]] = {site: [] for site in sites}
    starts = range(0, len(rows), BATCH)
    for start in tracked(starts, f"states, {modality}", "batches"):
        batch = rows[start : start + BATCH]
        places = [
            (at, p - len(vlm.prefix_ids)) for at, row in enumerate(batch) for p, _ in _places(row, slot)
        ]
        at, position = torch.tensor(places).T
        with record(vlm.model, list(sites)) as seen:
            vlm.model.base_model(**{**vlm.inputs(batch, subject.bench.features), "use_cache": True})
        for site, chosen in states.items():
            chosen.append(seen[site][at, position].clone())
    spans = np.array([(at, *inside) for at, row in enumerate(rows) for inside in _spans(row, slot)])
    in_span: dict[str, np.ndarray] = dict(zip(SPANS, spans[:, 1:].T.astype(bool)))
    whole = {site: torch.cat(chosen) for site, chosen in states.items()}
    return Tokens(whole, spans[:, 0], shown["leaf"].to_numpy().astype(str), in_span)


def _places(row: Row, slot: str) -> list[tuple[int, str]]:
    """The position of each token that is looked at, and its span."""
    return [(place, span) for span in (slot, "cue") for place in row.spans[span]]


def _spans(row: Row, slot: str) -> list[tuple[int, int, int]]:
    """Of each token whether it is of the slot, of the cue, and the last."""
    return [
        (int(span == slot), int(span == "cue"), int(place in row.spans["last"]))
        for place, span in _places(row, slot)
    ]
