"""Table of the contextual lens: of which kind the nearest word is, beside banks in which words are exchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame.tables import estimate_text, layer_of, row
from analyses.lens.contextual import KINDS, SAME
from probing.edits.placebos import over_clusters, over_draws, rank_p
from probing.stats import ClusterMean, Estimate

BANK, SHUFFLED, BEYOND = "bank", "shuffled bank", "bank − shuffled bank"
RANKED = ("own name", "own hypernym")


def neighbour_rows(parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"]) -> list[dict[str, Any]]:
    """Rows of measure "nearest": the share of tokens whose nearest word is of a kind (target), in [0, 1].

    Of the bank, in the mean of the shuffled banks (the chance level), and beyond it; searched at the same layer, or
    over all layers together (treatment). Limits are over leaves; those of shuffled banks, and beyond them, over draws
    as well. Of a share that is 0 or 1 for every leaf the limits are exact ones of as many leaves. `nearest_p` is the
    rank among shuffled banks, `nearest_p_corrected` that among the largest over layers.
    """
    rows: list[dict[str, Any]] = []
    for keys, view in parts.groupby(["modality", "span", "near"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        modality, span, near = keys
        labels: dict[str, Any] = {"modality": modality, "span": span, "lens": "contextual"}
        labels["treatment"] = "" if near == SAME else near
        sites = sorted(set(view["site"]), key=layer_of)
        for kind in KINDS:
            along = []
            for site in sites:
                wide = view[view["site"] == site].pivot(index="leaf", columns="draw", values=kind)
                shares = wide.sort_index(axis=1).to_numpy(float)  # the bank, then those with words exchanged
                along.append(shares.mean(0))
                for words, number in _estimates(shares, weights).items():
                    rows.append(row("nearest", number, site=site, target=kind, words=words, **labels))
            if kind in RANKED:
                losses = np.column_stack(along)[None]
                for name, corrected in (("nearest_p", False), ("nearest_p_corrected", True)):
                    for site, p in zip(sites, rank_p(losses, corrected=corrected)):
                        rows.append(row(name, float(p), site=site, target=kind, words=BEYOND, **labels))
    return rows


def _estimates(
    shares: Float[np.ndarray, "leaves banks"], weights: Float[np.ndarray, "draws leaves"]
) -> dict[str, Estimate]:
    """The share of the bank, the mean of the shuffled ones, and the difference."""
    n, mean = len(shares), ClusterMean(shares, np.arange(len(shares)))
    own, others = mean.value[0], mean.value[1:]
    drawn = mean.at(weights)
    drawn_own, drawn_others = drawn[:, 0], drawn[:, 1:].mean(1)
    level = over_clusters(own, drawn_own, n, n)
    if own in (0, 1):
        margin = 1 - 0.025 ** (1 / n)
        level = Estimate(float(own), float(own) * (1 - margin), float(own) + (1 - float(own)) * margin, n)
    return {
        BANK: level.within(0, 1),
        SHUFFLED: over_draws(others, drawn_others, n, n).within(0, 1),
        BEYOND: over_draws(own - others, drawn_own - drawn_others, n, n).within(-1, 1),
    }


def summary_lines(table: pd.DataFrame) -> list[str]:
    """At which layer the nearest word of the slot is most often the leaf's name, and a hypernym's."""
    lines = []
    slot = table[(table["lens"] == "contextual") & (table["span"] == "slot")]
    slot = slot[slot["target"].isin(RANKED)].sort_values("layer")
    for keys, view in slot.groupby(["modality", "treatment", "target"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        modality, treatment, kind = keys
        shares, p = view[view["measure"] == "nearest"], view[view["measure"] == "nearest_p_corrected"]
        own, chance = (shares[shares["words"] == words].to_dict("records") for words in (BANK, SHUFFLED))
        most = max(range(len(own)), key=lambda at: own[at]["value"])
        best = own[most]
        lines.append(
            f"  contextual, slot, {modality}, {treatment or SAME}: nearest word is {kind} most often at block "
            f"{best['layer']:g}: {estimate_text(best, '.3f')}, words exchanged "
            f"{chance[most]['value']:.3f}, p = {p['value'].iloc[most]:.2g} (corrected), n = {best['n']}"
        )
    return lines
