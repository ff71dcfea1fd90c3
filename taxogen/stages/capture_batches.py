"""The batches of a run's capture: what rows share, a picture or the first words, goes through the model once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from probing.capture import CaptureBatch
from taxogen.models.features import PictureFeatures
from taxogen.models.rows import Row, common_prefix
from taxogen.models.vlm import Vlm

ROWS = 64
MOSTLY = 0.75  # a pass of its own for the pictures pays where a batch has at most this many a row


def capture_batches(
    vlm: Vlm, features: PictureFeatures, rows: Sequence[Row], spans: Sequence[str], table: pd.DataFrame
) -> list[CaptureBatch]:
    """The prompts of the rows in their order; inputs are made only when they are needed.

    Args:
        vlm: the model.
        features: of all pictures.
        rows: all of one modality; their answers are left out.
        spans: which spans are captured.
        table: a line for each row; its columns go into the store.
    """
    prompts = [row.prompt for row in rows]
    parts = [prompts[at : at + ROWS] for at in range(0, len(prompts), ROWS)]
    contexts = [{_context(row): row.before_cue for row in part} for part in parts]
    start = prompts[0].spans["cue"][0]
    shared = vlm.plain and all(row.picture >= 0 and row.spans["cue"][0] == start for row in prompts)
    shared = shared and sum(map(len, contexts)) <= MOSTLY * len(prompts)
    first = () if shared else common_prefix(prompts)
    batches = []
    for number, (part, given) in enumerate(zip(parts, contexts, strict=True)):
        lines = table[number * ROWS : (number + 1) * ROWS]
        columns = {name: lines[name].tolist() for name in lines.columns if name != "item_id"}
        places = {name: [row.spans[name] for row in part] for name in spans}
        whole, prefix, owners = _Whole(vlm, features, part, first), None, None
        if shared:
            order = {context: i for i, context in enumerate(given)}
            whole, prefix = _Rest(vlm, features, part), _Whole(vlm, features, list(given.values()))
            owners = [order[_context(row)] for row in part]
        batches.append(CaptureBatch(whole, [row.item_id for row in part], places, columns, prefix, owners))
    return batches


def _context(row: Row) -> tuple[int, tuple[int, ...]]:
    return row.picture, row.before_cue.ids


class _Whole:
    """Inputs of whole rows, behind the tokens that all rows of the capture start with."""

    def __init__(
        self, vlm: Vlm, features: PictureFeatures, rows: Sequence[Row], first: tuple[int, ...] = ()
    ) -> None:
        self.vlm, self.features, self.rows, self.first = vlm, features, rows, first

    def __call__(self) -> dict[str, object]:
        self.vlm.use_prefix(self.first)
        with torch.inference_mode():
            return {**self.vlm.inputs(self.rows, self.features), "use_cache": True}


class _Rest(_Whole):
    """Inputs of what comes behind the pictures."""

    def __call__(self) -> dict[str, object]:
        start = self.rows[0].spans["cue"][0]
        rest = [replace(row, ids=row.ids[start:], picture=-1) for row in self.rows]
        self.vlm.use_prefix(self.first)
        with torch.inference_mode():
            inputs = self.vlm.inputs(rest, self.features)
        positions = inputs["position_ids"]
        assert isinstance(positions, Tensor)
        return {"inputs_embeds": inputs["inputs_embeds"], "position_ids": positions + start}
