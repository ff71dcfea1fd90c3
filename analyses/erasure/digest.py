"""Erasure and steering tables in a few lines."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from analyses.erasure.measured import MEAN
from analyses.erasure.rows import BEYOND, LEVEL
from analyses.frame.tables import estimate_text
from analyses.inputs.stimuli.natural import warnings
from probing.edits.matching import FARTHEST
from probing.edits.placebos import FEWEST

_signed = partial(estimate_text, form="+.2f")


def summary(table: pd.DataFrame) -> str:
    """Where erasing takes most, or how far steering raises, in a few lines; the mean over hypernyms."""
    rows = table[table["target"] == MEAN]
    steered = (table["analysis"] == "steering").all()
    return "\n".join([*(_steering_lines(rows) if steered else _erasure_lines(rows)), *warnings(rows, "edit")])


def _erasure_lines(rows: pd.DataFrame) -> list[str]:
    lines = [f"Erasing a hypernym, {', '.join(rows['run'].unique())} (nats, mean over hypernyms):"]
    for span, of_span in rows.groupby("span", sort=False):
        change = of_span[(of_span["measure"] == "gap_change") & (of_span["edit"] == BEYOND)]
        for matched, beyond in change.groupby("matched", sort=False):
            ranks = of_span[
                (of_span["measure"] == "gap_change_p_corrected") & (of_span["matched"] == matched)
            ]
            most = min(beyond.to_dict("records"), key=lambda one: one["value"])
            at = of_span[of_span["layer"] == most["layer"]]
            at = at[at["matched"].isin(["", matched])].set_index(["measure", "edit"])
            lines.append(
                f"  {span:5} most behind block {most['layer']:.0f}: gap {_signed(at.loc[('gap', 'none')])} to "
                f"{_signed(at.loc[('gap', 'erased')])}; beyond controls of equal {matched} {_signed(most)}, "
                f"n = {most['n']}; {_beyond(ranks['value'])}"
            )
            for measure, words in (("other_off", "other hypernyms"), ("leaf_under", "name of the leaf")):
                if (f"{measure}_change", "erased") in at.index:
                    lines.append(f"        {words} there: {_signed(at.loc[(f'{measure}_change', 'erased')])}")
    return [*lines, *_unreached(rows)]


def _beyond(p: pd.Series) -> str:
    """At how many blocks there is a loss beyond controls, or why that cannot be said."""
    if p.isna().all():
        return (
            f"no p: it takes {FEWEST} draws of each control (--controls {FEWEST}), each equal to the erasure"
        )
    return f"beyond each draw of them at {(p <= LEVEL).sum()} of {len(p)} blocks (p ≤ .05, corrected)"


def _steering_lines(rows: pd.DataFrame) -> list[str]:
    """A line for each direction and place, at the largest dose."""
    lines = [
        f"Steering towards a hypernym, {', '.join(rows['run'].unique())} (change of its log-odds, nats):"
    ]
    last = rows[rows["dose"] == rows["dose"].max()].set_index(["measure", "edit"]).sort_index()
    for (span, layer, kind), _ in rows[rows["beside"] != ""].groupby(["span", "layer", "beside"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        at = last[(last["span"] == span) & (last["layer"] == layer)]
        own = at.loc[[("target_change", kind)]].iloc[0]
        beyond = at.loc[[("target_change", f"{kind} − controls")]]
        p = at.loc[[("target_change_p_corrected", f"{kind} − controls")]].set_index("matched")["value"]
        said = "; ".join(
            f"beyond controls of equal {one['matched']} {_signed(one)}, {_corrected(p[one['matched']])}"
            for one in beyond.to_dict("records")
        )
        lines.append(
            f"  {span:5} behind block {layer:.0f}, {own['dose']:g} sd: {kind} {_signed(own)}, n = {own['n']}; {said}"
        )
    return [*lines, *_unreached(rows)]


def _corrected(p: float) -> str:
    if np.isnan(p):
        return f"no p: it takes {FEWEST} draws of each control for one hypernym, each equal to the step"
    return f"p = {p:.2g} (corrected)"


def _unreached(rows: pd.DataFrame) -> list[str]:
    """How many controls could not change the answers as much as the edit does, whatever their length."""
    of_kl = rows[rows["measure"] == "unreached"]
    if not of_kl["value"].any():
        return []
    missing, draws = int(of_kl["value"].sum()), int(of_kl["n"].sum())
    return [
        f"  {missing} of {draws} controls of equal kl could not move the answers as far as the edit, at any length "
        f"up to {FARTHEST:g} times theirs; where one could not there is no p"
    ]
