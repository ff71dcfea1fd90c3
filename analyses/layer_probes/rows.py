"""The long table of layer probes of some stores, and its numbers in ten lines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analyses.frame.tables import NO_STEP, estimate_text, layer_text, step_text
from analyses.inputs.categories import HELD_OUT, MEAN, SEEN, SEEN_MINUS_HELD_OUT
from analyses.layer_probes.layers import probe_layers
from analyses.layer_probes.options import Options
from probing.store import ActivationStore
from taxogen.world.taxonomy import Taxonomy

OVER_TARGETS = (MEAN, SEEN, HELD_OUT, SEEN_MINUS_HELD_OUT)
"""Entries of the target column that are no target of their own."""
_FIRSTS = {"onset": "first block detected", "half_rise": "half-rise at block"}
"""Measures that are layers, in words."""


def probe_table(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options,
    encoder: Mapping[str, np.ndarray] | None = None,
    source_of: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Long table of probe estimates; `images` maps a step of training to the picture rows captured there.

    Modality "image" and "text" are probes within a modality; "text→image" and "image→text" are probes of one on
    held-out leaves of the other. Chance AUROC is .5; `control_auroc` is the floor, the AUROC of the tested
    modality's own probes the ceiling. Step −1 means that no training step touches the rows; layer −1 is the input of
    the language model, layer −2 the encoder's features of a picture (`encoder`: picture → features). `source_of` maps
    a picture to its source, for the split `source`. `n` counts leaves, of a single target those that have it.
    """
    return probe_layers(images, text, taxonomy, options, encoder, source_of).table


def summary(table: pd.DataFrame) -> str:
    """Best layer, control, selectivity, first layer detected, half-rise, transfer at the last step; chance is .5."""
    means = table[table["target"] == MEAN]
    step = means["step"].max()
    first = table.iloc[0]
    targets = table.loc[~table["target"].isin(OVER_TARGETS), "target"].nunique()
    lines = [
        f"Layer probes of {first['run'] or 'a run'}: {targets} targets, {int(means['n'].max())} leaf concepts, "
        f"split by {first['split']}, {step_text(step)}mean AUROC (chance .5)"
    ]
    for span in dict.fromkeys(means["span"]):
        rows = means[(means["span"] == span) & means["step"].isin([step, NO_STEP])]
        lines += [
            line for modality in ("image", "text", "text→image") if (line := _line(rows, span, modality))
        ]
    return "\n".join(lines)


def place_text(row: pd.Series) -> str:
    """The block of a row in words, or its site where that is no residual stream."""
    if np.isnan(row["layer"]):
        return "the last norm"
    if row["layer"] >= 0 and not row["site"].endswith("hook_resid_post"):
        return row["site"]
    return {-2: "the encoder", -1: "the input"}.get(int(row["layer"]), f"block {int(row['layer'])}")


def _line(rows: pd.DataFrame, span: str, modality: str) -> str:
    """One place and modality: the best block beside its control, the first block detected and the half-rise."""
    rows = rows[rows["modality"] == modality]
    scores = rows[(rows["measure"] == "auroc") & rows["value"].notna()]
    if scores.empty:
        return ""
    best = scores.iloc[int(scores["value"].argmax())]
    same = rows[rows["probe"] == best["probe"]]
    at_best = same[same["site"] == best["site"]].set_index("measure")["value"]
    text = f"  {span:5} {modality:11} best {estimate_text(best, '.3f')} at {place_text(best)}"
    if "control_auroc" in at_best:
        text += f", control {at_best['control_auroc']:.3f}, selectivity {at_best['selectivity']:.3f}"
    firsts = same[same["measure"].isin(_FIRSTS)].set_index("measure")
    for measure, words in _FIRSTS.items():
        if measure in firsts.index and np.isfinite(firsts["value"]["onset"]):
            text += f", {words} {layer_text(firsts.loc[measure].to_dict())}"
    if "onset" in firsts.index and np.isnan(firsts["value"]["onset"]):
        text += ", no block detected"
    return text + (f" ({best['probe']})" if modality == "text→image" else "")
