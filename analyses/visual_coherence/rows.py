"""Tables of visual coherence: every hypernym by rule and condition, its scores, and how the two go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame.parts import tracked
from analyses.frame.tables import estimate_text
from analyses.inputs.conditions import Condition
from analyses.inputs.measures import Frame, measured
from analyses.visual_coherence.coherence import DEFAULT, Coherence, Options, Shown, coherence, over_seeds
from probing.stats import q_values
from probing.stats.correlations import MEASURES as CORRELATIONS
from probing.stats.correlations import correlation, mixed_slope

SCORES = ("auroc", "macro_f1")
ALL = "all conditions"
"""Stands for a condition where a number rests on all of them."""


def coherence_table(
    grouped: Sequence[Condition], shown: Mapping[tuple[str, int], Shown], options: Options = DEFAULT
) -> pd.DataFrame:
    """The long table: coherence of every hypernym by rule, scores of every hypernym, and how the two go together.

    Measures within, between and coherence (within − between) are mean cosines; `p` and `null_limit` (95 %) come from
    leaves exchanged among hypernyms; `q` is that of a single hypernym, Benjamini–Hochberg over hypernyms. pearson and
    spearman correlate over hypernyms, each the mean over seeds, with an interval over hypernyms; slope is that of
    `probing.stats.correlations.mixed_slope`, per condition and over all.
    Hypernyms share leaves, which these intervals leave out. `shown` has the pictures of each
    condition and seed.
    """
    scores, rows = _scores(grouped), []
    asked = [(rule, one, answers) for rule in options.rules for one in grouped for answers in one.answers]
    found: dict[tuple[str, str], list[Coherence]] = {}
    for rule, condition, one in tracked(asked, "visual coherence", "rules and runs"):
        pictures = shown[condition.name, one.seed]
        found.setdefault((rule, condition.name), []).append(coherence(pictures, one.taxonomy, rule, options))
    rows += [_row(line["condition"], "", line["hypernym"], line["measure"], line["value"]) for line in scores]
    for rule in options.rules:
        causes: list[dict[str, Any]] = []
        for condition in grouped:
            of_seeds = found[rule, condition.name]
            rows += _coherence_rows(condition.name, rule, of_seeds)
            causes += [
                {"condition": condition.name, "seed": one.seed, "hypernym": name, "cause": value}
                for one, own in zip(condition.answers, of_seeds, strict=True)
                for name, value in zip(own.hypernyms, own.value, strict=True)
            ]
        rows += _relations(rule, pd.DataFrame(causes), pd.DataFrame(scores), options)
    return pd.DataFrame(rows).assign(analysis="visual_coherence", split="test", seed=options.seed)


def _scores(grouped: Sequence[Condition]) -> list[dict[str, Any]]:
    """Every hypernym's score in every run, of the part that its ablation says is to be scored."""
    frame, rows = Frame.of(grouped), []
    for condition in grouped:
        for measure in SCORES:
            scored = measured(condition, condition.headline, measure, frame)
            assert scored is not None, "hypernym measures are made of scores.h5 alone"
            for answers, one in zip(condition.answers, scored.statistics, strict=True):
                rows += [
                    {"condition": condition.name, "seed": answers.seed, "hypernym": name, "measure": measure}
                    | {"value": float(value)}
                    for name, value in zip(frame.hypernyms, one.value, strict=True)
                ]
    return rows


def _coherence_rows(condition: str, rule: str, of_seeds: Sequence[Coherence]) -> Iterator[dict[str, Any]]:
    for kind, estimates in over_seeds(of_seeds).items():
        for target, one in estimates.items():
            yield {"condition": condition, "rule": rule, "target": target, "measure": kind, **one.__dict__}
    if rule == "study":
        return
    worst = np.max([one.p for one in of_seeds], axis=0)
    for name, p in zip(of_seeds[0].hypernyms, worst, strict=True):
        yield _row(condition, rule, name, "p", float(p), len(of_seeds))
    for name, q in zip(of_seeds[0].hypernyms, q_values(worst), strict=True):
        yield _row(condition, rule, name, "q", float(q), len(of_seeds))
    yield _row(condition, rule, "mean", "p", max(one.p_mean for one in of_seeds), len(of_seeds))
    limit = max(float(np.quantile(one.null, 0.95)) for one in of_seeds)
    yield _row(condition, rule, "mean", "null_limit", limit, len(of_seeds))


def _relations(
    rule: str, causes: pd.DataFrame, scores: pd.DataFrame, options: Options
) -> Iterator[dict[str, Any]]:
    """Correlations per condition, and the slopes per condition and over all of them."""
    for measure in SCORES:
        joined = causes.merge(
            scores[scores["measure"] == measure].rename(columns={"value": "score"}),
            on=["condition", "seed", "hypernym"],
        )
        groups: list[tuple[str, pd.DataFrame]] = [
            (str(name), part) for name, part in joined.groupby("condition", sort=False)
        ]
        for name, part in groups:
            pair = part.groupby("hypernym")[["cause", "score"]].mean().to_numpy()
            for kind in CORRELATIONS:
                one = correlation(pair, kind, options.draws, options.seed)
                yield {"condition": name, "rule": rule, "target": measure, "measure": kind, **one.__dict__}
        for name, part in [*groups, *([(ALL, joined)] if len(groups) > 1 else [])]:
            one = mixed_slope(part)
            yield {"condition": name, "rule": rule, "target": measure, "measure": "slope", **one.__dict__}


def _row(condition: str, rule: str, target: str, measure: str, value: float, n: int = 1) -> dict[str, Any]:
    """A number without an interval of its own; n counts runs."""
    numbers = {"value": value, "lower": float("nan"), "upper": float("nan"), "n": n}
    return {"condition": condition, "rule": rule, "target": target, "measure": measure, **numbers}


def summary(table: pd.DataFrame) -> str:
    """The means and relations as lines a person can read."""
    lines = ["Visual coherence: mean cosine inside hypernyms less between them (study: inside alone)"]
    means = table[(table["target"] == "mean") & (table["measure"] == "coherence")]
    lines += [f"  {row.condition:24} {row.rule:10} {_text(row)}" for row in means.itertuples()]
    lines.append("Against the score of each hypernym (r and ρ over hypernyms; slope per standard deviation):")
    related = table[table["measure"].isin([*CORRELATIONS, "slope"]) & table["value"].notna()]
    lines += [
        f"  {row.condition:24} {row.rule:10} {row.target:9} {row.measure:9} {_text(row)}"
        for row in related.itertuples()
    ]
    return "\n".join(lines)


def _text(row: Any) -> str:
    """A number with its interval, and how many hypernyms or pictures it rests on."""
    return f"{estimate_text(row._asdict(), '+.3f')}  n = {row.n}"
