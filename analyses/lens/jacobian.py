"""The Jacobian lens on a run: the rest of the model, from a layer to the answer, linearised on other leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analyses.inputs.subject import Subject
from analyses.lens.parts import LensInputs, View, evidence_in
from analyses.lens.tokens import SPANS
from probing.hooks import record
from probing.lens import Linearisation, linearise, mean_of
from probing.stats.seeding import stream
from taxogen.models.rows import Row
from taxogen.questions import prompts

BATCH = 8
Maps = Mapping[tuple[str, int], Mapping[tuple[str, str], Linearisation]]
"""(modality, the fold that is held out) → (site, span) → the map to the state that the answer is read from."""


def answer_maps(
    subject: Subject, inputs: LensInputs, shown: pd.DataFrame, sites: Sequence[str], rows: int, seed: int
) -> Maps:
    """The maps of each modality and fold, fitted on so many leaves of all other folds."""
    fold = np.array([inputs.fold[leaf] for leaf in shown["leaf"].astype(str)])
    order = stream(seed, "rows that are linearised").permutation(len(shown))
    maps: dict[tuple[str, int], Mapping[tuple[str, str], Linearisation]] = {}
    for modality in inputs.tokens:
        for held_out in sorted(set(fold.tolist())):
            chosen = shown.iloc[[at for at in order if fold[at] != held_out][:rows]]
            questions = [
                subject.row("hypernym", leaf, picture if modality == "image" else "")
                for leaf, picture in zip(chosen["leaf"].astype(str), chosen["picture"].astype(str))
            ]
            subject.share_prefix(questions)
            parts = [
                _linearised(subject, questions[at : at + BATCH], sites, inputs.final)
                for at in range(0, len(questions), BATCH)
            ]
            maps[modality, held_out] = {key: mean_of([part[key] for part in parts]) for key in parts[0]}
    return maps


def _linearised(
    subject: Subject, rows: Sequence[Row], sites: Sequence[str], final: str
) -> dict[tuple[str, str], Linearisation]:
    vlm = subject.bench.vlm
    given = dict(vlm.inputs(rows, subject.bench.features))
    embedded = given["inputs_embeds"]
    assert isinstance(embedded, Tensor)
    given["inputs_embeds"] = embedded.detach().requires_grad_()
    with (
        torch.enable_grad(),
        record(vlm.model, [*sites, final] if final not in sites else list(sites)) as seen,
    ):
        vlm.model.base_model(**given, use_cache=True)
    slot = prompts.span_name("slot", "image" if rows[0].picture >= 0 else "text")
    masks = {span: torch.zeros(embedded.shape[:2], dtype=torch.bool) for span in SPANS}
    for line, row in enumerate(rows):
        for span, mask in masks.items():
            mask[line, [at - len(vlm.prefix_ids) for at in row.spans[slot if span == "slot" else span]]] = (
                True
            )
    output = seen[final][masks["last"].to(seen[final].device)]
    return linearise(output, {site: seen[site] for site in sites}, masks)


def look(inputs: LensInputs, maps: Maps, site: str) -> pd.DataFrame:
    """Evidence for words in the answers that the maps give from the states of each span at a site."""
    tables: list[pd.DataFrame] = []
    for modality, tokens in inputs.tokens.items():
        view = View.on(inputs, modality, "jacobian", inputs.lens)
        states = view.of(tokens.states[site]).float()
        fold = np.array([inputs.fold[leaf] for leaf in tokens.leaf[view.chosen]])
        for span in SPANS:
            answers = torch.empty_like(states)
            for held_out in sorted(set(fold.tolist())):
                own = torch.tensor(fold == held_out)
                answers[own] = maps[modality, held_out][site, span](states[own]).to(states)
            tables += evidence_in(inputs, view, answers, [span])
    return pd.concat(tables, ignore_index=True).assign(site=site)
