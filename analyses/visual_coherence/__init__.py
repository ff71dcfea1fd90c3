"""How alike the pictures of one hypernym look to the encoder, and whether that goes with the hypernym's score.

    python -m analyses.visual_coherence --run R [--run R2 …] [--rule centred|uncentred|study …] [--out DIR]

Reads: the encoder features (from the cache), taxonomy and scores.h5 of each run.
Writes: visual_coherence.csv, .parquet and the figures coherence and scores into --out (default: the first run's
analyses/visual_coherence).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing, tables
from analyses.inputs.conditions import Condition, condition_of, conditions
from analyses.inputs.measures import Frame, measured
from analyses.visual_coherence import figures
from analyses.visual_coherence.figures import ALL
from analyses.visual_coherence.rows import DEFAULT, RULES, Coherence, Options, Shown, coherence, over_seeds
from probing.stats import DRAWS
from probing.stats.correlations import MEASURES as CORRELATIONS
from probing.stats.correlations import correlation, mixed_slope
from taxogen.models.features import PictureStandardizer, features
from taxogen.runs import prepare
from taxogen.runs.run import Run

SCORES = ("auroc", "macro_f1")


def compute(
    found: Sequence[Condition],
    shown: Mapping[tuple[str, int], Shown],
    rules: Sequence[str] = tuple(RULES),
    options: Options = DEFAULT,
) -> pd.DataFrame:
    """The long table: coherence of every hypernym by rule, scores of every hypernym, and how the two go together.

    Measures within, between and coherence (within − between) are mean cosines; `p` and `null_limit` (95 %) come from
    leaves exchanged among hypernyms. pearson and spearman correlate over hypernyms, each the mean over seeds, with
    a bootstrap over hypernyms; slope is the mixed model's (`_correlations.mixed_slope`), per condition and over all.
    Hypernyms share leaves, so these intervals are too narrow rather than too wide. `shown` has the pictures of each
    condition and seed.
    """
    scores, rows = _scores(found), []
    rows += [_row(line["condition"], "", line["hypernym"], line["measure"], line["value"]) for line in scores]
    for rule in rules:
        causes: list[dict[str, Any]] = []
        for condition in found:
            made = [
                coherence(shown[condition.name, one.seed], one.taxonomy, rule, options)
                for one in condition.answers
            ]
            rows += _coherence_rows(condition.name, rule, made, options)
            causes += [
                {"condition": condition.name, "seed": one.seed, "hypernym": name, "cause": value}
                for one, found_here in zip(condition.answers, made, strict=True)
                for name, value in zip(found_here.hypernyms, found_here.value, strict=True)
            ]
        rows += _relations(rule, pd.DataFrame(causes), pd.DataFrame(scores), options)
    return pd.DataFrame(rows).assign(analysis="visual_coherence", split="test", seed=options.seed)


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The coherence of each condition's pictures, and each hypernym's score against its coherence."""
    return figures.draw(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Computes, prints, draws and saves."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.visual_coherence", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", action="append", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--rule", action="append", choices=sorted(RULES), help="may be repeated; default: all"
    )
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    runs = [Run.open(path) for path in options.run]
    found = conditions(runs)
    shown = {(condition_of(run, runs), run.config.seed): pictures_of(run) for run in runs}
    how = Options(draws=options.draws, seed=options.seed)
    table = compute(found, shown, options.rule or tuple(RULES), how)
    out = options.out or runs[0].folder("analyses", "visual_coherence")
    tables.save(table, out, "visual_coherence")
    for name, figure in draw(table).items():
        drawing.save(figure, out, name)
    print(summary(table), f"table and figures: {out}", sep="\n")


def pictures_of(run: Run) -> Shown:
    """The encoder features of all pictures that a run shows, as its projector sees them and as they are."""
    world, model = prepare.world(run), run.config.model
    names = world.table["picture"].tolist()
    values = features(world.pictures, model.encoder, tokens=model.encoder_tokens, names=names)
    standardised = PictureStandardizer.fit(values[(world.table["split"] == "train").to_numpy()])(values)
    leaves = world.table["leaf"].to_numpy(str)
    return Shown(standardised.reshape(len(values), -1), values.mean(axis=1), leaves)


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


def _scores(found: Sequence[Condition]) -> list[dict[str, Any]]:
    """Every hypernym's score in every run, of the part that its ablation says is to be scored."""
    frame, rows = Frame.of(found), []
    for condition in found:
        for measure in SCORES:
            made = measured(condition, condition.headline, measure, frame)
            assert made is not None, "hypernym measures are made of scores.h5 alone"
            for answers, one in zip(condition.answers, made.statistics, strict=True):
                rows += [
                    {"condition": condition.name, "seed": answers.seed, "hypernym": name, "measure": measure}
                    | {"value": float(value)}
                    for name, value in zip(frame.hypernyms, one.value, strict=True)
                ]
    return rows


def _coherence_rows(
    condition: str, rule: str, made: Sequence[Coherence], options: Options
) -> Iterator[dict[str, Any]]:
    for kind, found in over_seeds(made, options).items():
        for target, one in found.items():
            yield {"condition": condition, "rule": rule, "target": target, "measure": kind, **one.__dict__}
    if rule == "study":
        return
    worst = np.max([one.p for one in made], axis=0)
    for name, p in zip(made[0].hypernyms, worst, strict=True):
        yield _row(condition, rule, name, "p", float(p), len(made))
    yield _row(condition, rule, "mean", "p", max(one.p_mean for one in made), len(made))
    limit = max(float(np.quantile(one.null, 0.95)) for one in made)
    yield _row(condition, rule, "mean", "null_limit", limit, len(made))


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


def _text(row: Any) -> str:
    return f"{row.value:+.3f} [{row.lower:+.3f}, {row.upper:+.3f}]  n = {row.n}"
