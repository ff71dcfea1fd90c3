"""What trained models answer about pictures: `python -m analyses.behaviour --run R [--run R2 …]`.

Reads: `scores.h5` of each run. Writes: behaviour.csv/.parquet and figures into --out (default: the first run's
`analyses/behaviour`). Runs that differ in nothing but the seed are one condition.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses import _figures, _tables
from probing.cluster_statistics import ClusterAUROC, ClusterMean, ClusterRates
from probing.stats import ClusterStatistic, draw_weights, estimate, nan_mean
from taxogen.evaluate import Scores
from taxogen.run import Run

CONTRASTS = (("pretrained", "random_init"), ("within", "across"))
MEASURES = {
    "auroc": "hypernym AUROC",
    "macro_f1": "hypernym macro-F1",
    "top1": "top-1 hypernym",
    "leaf_naming": "leaf naming",
}


@dataclass(frozen=True)
class Condition:
    """Runs that differ only in their seed, with their scores and what is true of their rows."""

    name: str
    runs: Sequence[Run]
    scores: Sequence[Scores]
    labels: Callable[[Sequence[str]], np.ndarray] = field(repr=False)

    def statistics(self, measure: str, modality: str) -> list[ClusterStatistic]:
        """The measure of each run, recomputable under weights of the leaf concepts."""
        return [_statistic(scores, self.labels, measure, modality) for scores in self.scores]


@dataclass(frozen=True)
class _MeanOf:
    """The mean of statistics that rest on the same clusters."""

    parts: Sequence[ClusterStatistic]

    @property
    def clusters(self) -> np.ndarray:
        return self.parts[0].clusters

    @property
    def value(self) -> np.ndarray:
        return np.mean([part.value for part in self.parts], axis=0)

    def at(self, weights: np.ndarray) -> np.ndarray:
        return np.mean([part.at(weights) for part in self.parts], axis=0)


def conditions(runs: Sequence[Run]) -> list[Condition]:
    """The runs grouped by everything but the seed, in the order given; named by what tells them apart."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(condition_of(run, runs), []).append(run)
    return [
        Condition(name, found, [Scores.read(run) for run in found], found[0].taxonomy.labels)
        for name, found in grouped.items()
    ]


def compute(found: Sequence[Condition], draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """The long table of scores and contrasts, each with a 95 % interval.

    The bootstrap draws leaf concepts and, inside a condition, seeds; conditions are paired by leaf. `n` is the number
    of leaf concepts. AUROC and macro-F1 of `mean` are means over hypernyms; chance is .5 for AUROC.
    """
    rows: list[dict[str, object]] = []
    for modality, measures in (("image", tuple(MEASURES)), ("text", ("auroc", "top1"))):
        for measure in measures:
            by_name = {one.name: one.statistics(measure, modality) for one in found}
            weights = {name: draw_weights(len(s[0].clusters), draws, seed) for name, s in by_name.items()}
            draw = {name: _draws(s, weights[name], seed) for name, s in by_name.items()}
            for one in found:
                common = {
                    "condition": one.name,
                    "runs": len(one.runs),
                    "modality": modality,
                    "measure": measure,
                }
                rows += _rows(one, by_name[one.name], draw[one.name], common, measure)
            rows += _contrasts(by_name, draw, modality, measure)
    table = pd.DataFrame(rows)
    table.insert(0, "analysis", "behaviour")
    return table.assign(split="test")


def draw(table: pd.DataFrame) -> Figure:
    """Scores of each condition with their intervals, a panel per measure, and the contrasts between conditions."""
    means = table[(table["target"] == "mean") & (table["modality"] == "image")]
    with _figures.style():
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
        shown = means[means["contrast"] == ""]
        for axis, measure in zip(axes, ("auroc", "leaf_naming"), strict=False):
            part = shown[shown["measure"] == measure]
            _figures.points(axis, part, label="condition")
            axis.axvline(part["chance"].iloc[0], **_figures.CHANCE)
            axis.set_title(MEASURES[measure])
        part = means[(means["contrast"] != "") & (means["measure"] == "auroc")]
        _figures.points(axes[2], part, label="contrast")
        axes[2].axvline(0, **_figures.CHANCE)
        axes[2].set_title("difference in hypernym AUROC")
        _figures.footnote(
            figure,
            _figures.caption(
                int(shown["n"].max()),
                "leaf concepts",
                "95 %, bootstrap over leaf concepts and seeds",
                "chance or no difference, dashed",
            ),
        )
    return figure


def main(argv: list[str] | None = None) -> None:
    """Computes, prints, draws and saves."""
    parser = argparse.ArgumentParser(prog="python -m analyses.behaviour", description=__doc__)
    parser.add_argument("--run", action="append", required=True, type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args(argv)
    runs = [Run.open(path) for path in options.run]
    table = compute(conditions(runs), options.draws)
    out = options.out or runs[0].folder("analyses", "behaviour")
    _tables.save(table, out, "behaviour")
    _figures.save(draw(table), out, "behaviour")
    print(summary(table))
    print(f"table and figure: {out}")


def summary(table: pd.DataFrame) -> str:
    """The table's means as lines a person can read."""
    means = table[(table["target"] == "mean")]
    lines = [f"{'':40}{'measure':18}{'value':>7}  95 % interval      n"]
    for row in means.itertuples():
        name = f"{row.contrast or row.condition} ({row.modality})"
        lines.append(
            f"{name:40}{row.measure:18}{row.value:7.3f}  [{row.lower:.3f}, {row.upper:.3f}]{row.n:7d}"
        )
    return "\n".join(lines)


def condition_of(run: Run, among: Sequence[Run]) -> str:
    """The name of a run's condition: its init or shuffle, and what else tells it from the runs it stands among."""
    data, model = run.config.data, run.config.model
    name = {"pretrained": "pretrained", "random": "random_init"}.get(model.init, model.init)
    if data.shuffle != "none":
        name = data.shuffle if name == "pretrained" else f"{name} {data.shuffle}"
    own = _particulars(run)
    varying = [key for key in own if len({_particulars(other)[key] for other in among}) > 1]
    return " · ".join([name, *(own[key] for key in varying)])


def _particulars(run: Run) -> dict[str, str]:
    data, model = run.config.data, run.config.model
    evidence = data.ablation if data.ablation in ("none", "full") else f"{data.ablation} {data.fraction:g}"
    return {"evidence": f"ablation {evidence}", "lm": model.lm, "encoder": model.encoder}


def _statistic(scores: Scores, labels_of: Callable, measure: str, modality: str) -> ClusterStatistic:
    table = scores.image if modality == "image" else scores.text
    values = scores.image_scores if modality == "image" else scores.text_scores
    leaves = table["leaf"].to_numpy()
    labels = labels_of(leaves)
    if measure == "leaf_naming":
        return ClusterMean(scores.leaf_correct[:, None].astype(float), leaves)
    if measure == "top1":
        best = values.argmax(1)
        return ClusterMean(labels[np.arange(len(best)), best][:, None].astype(float), leaves)
    if measure == "macro_f1":
        yes = _prevalence_matched(values, labels)
        return _MeanOf([ClusterRates(yes, labels, leaves, "f1"), ClusterRates(~yes, ~labels, leaves, "f1")])
    return ClusterAUROC(values, labels, leaves)


def _prevalence_matched(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Yes for as many pictures as have the hypernym, the highest read-outs first; labels give the count alone."""
    place = np.argsort(np.argsort(-values, axis=0, kind="stable"), axis=0)
    return place < labels.sum(0)


def _draws(statistics: Sequence[ClusterStatistic], weights: np.ndarray, seed: int) -> np.ndarray:
    """Bootstrap draws [draws, targets], the mean over a fresh draw of the condition's seeds."""
    values = np.stack([one.at(weights) for one in statistics])
    picks = np.random.default_rng(seed).integers(len(values), size=(len(weights), len(values)))
    return nan_mean(np.moveaxis(values[picks, np.arange(len(weights))[:, None]], 1, -1))


def _rows(
    one: Condition, statistics: list, draws: np.ndarray, common: dict, measure: str
) -> list[dict[str, object]]:
    value, n = np.mean([statistic.value for statistic in statistics], axis=0), len(statistics[0].clusters)
    labels = one.labels(one.scores[0].image["leaf"].to_numpy())
    chance = {"auroc": 0.5, "leaf_naming": 1 / one.scores[0].leaf_choices, "top1": labels.mean()}
    common |= {"contrast": "", "chance": chance.get(measure, np.nan)}
    found = [{**common, "target": "mean", **estimate(nan_mean(value), nan_mean(draws), n).__dict__}]
    if measure in ("auroc", "macro_f1"):
        for column, hypernym in enumerate(one.scores[0].hypernyms):
            each = estimate(value[column], draws[:, column], n)
            found.append({**common, "target": hypernym, **each.__dict__})
    return found


def _contrasts(by_name: dict, draws: dict, modality: str, measure: str) -> list[dict[str, object]]:
    found = []
    suffixes = dict.fromkeys("".join(name.partition(" · ")[1:]) for name in by_name)
    for first, second in [(a + suffix, b + suffix) for suffix in suffixes for a, b in CONTRASTS]:
        if first in by_name and second in by_name:
            value = [
                nan_mean(np.mean([one.value for one in by_name[name]], axis=0)) for name in (first, second)
            ]
            difference = nan_mean(draws[first]) - nan_mean(draws[second])
            n = len(by_name[first][0].clusters)
            row = {"condition": first, "runs": len(by_name[first]), "modality": modality, "measure": measure}
            row |= {"contrast": f"{first}_minus_{second}", "chance": 0.0, "target": "mean"}
            found.append({**row, **estimate(float(value[0] - value[1]), difference, n).__dict__})
    return found


if __name__ == "__main__":
    main()
