"""How cohesion goes with scores: each hypernym's score, and its rank correlation with cohesion at every site."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analyses.cohesion.rows import Options
from analyses.frame import tables
from analyses.frame.tables import NO_STEP
from probing.stats import ClusterAUROC
from probing.stats.correlations import LEAST_FOR_INTERVAL, correlation
from taxogen.answers.scores import Scores
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

PLACE = ["step", "site", "span", "modality", "treatment"]
"""Columns that name a place and a treatment there."""
LEAST_HYPERNYMS = LEAST_FOR_INTERVAL["spearman"]
"""Hypernyms that a rank correlation needs."""


def score_tables(run: Run, table: pd.DataFrame, options: Options) -> list[pd.DataFrame]:
    """Scores of hypernyms and their correlation with cohesion, where the run was evaluated; else none.

    Over the held-out hypernyms, where there are any.
    """
    if not run.file("scores.h5").is_file():
        return []
    scores = hypernym_scores(Scores.read(run), run.taxonomy)
    if options.held_out:
        scores = {name: value for name, value in scores.items() if name in options.held_out}
    labels = {"site": "scores", "step": NO_STEP, "span": "", "modality": "image", "treatment": ""}
    rows = [tables.row("auroc", value, **labels, target=name) for name, value in scores.items()]
    return [relate(table, scores, options.seed), tables.table(rows, "cohesion", options.seed)]


def hypernym_scores(scores: Scores, taxonomy: Taxonomy) -> dict[str, float]:
    """AUROC of each hypernym over the test pictures; chance is .5."""
    leaves = scores.image["leaf"].to_numpy().astype(str)
    columns = [taxonomy.hypernyms.index(name) for name in scores.hypernyms]
    labels = taxonomy.labels(leaves)[:, columns]
    values = ClusterAUROC(scores.image_scores, labels, leaves).value
    return dict(zip(scores.hypernyms, values.tolist()))


def relate(table: pd.DataFrame, scores: Mapping[str, float], seed: int = 0) -> pd.DataFrame:
    """Rank correlation over hypernyms of each site's cohesion (and the encoder's) with their scores.

    Intervals are those of `correlation` over hypernyms, of which n counts; chance is 0. That the bundled hypernyms
    share leaves does not make them too narrow (docs/statistics.md).
    """
    own = table[(table["measure"] == "cohesion") & table["target"].isin(list(scores))]
    correlations = []
    for _, rows in own.groupby(PLACE, sort=False):
        x, y = rows["value"].to_numpy(), rows["target"].map(dict(scores)).to_numpy(dtype=float)
        usable = np.isfinite(x) & np.isfinite(y)
        if usable.sum() >= LEAST_HYPERNYMS:
            number = correlation(np.stack([x[usable], y[usable]], axis=1), "spearman", seed=seed)
            labels = {key: rows[key].iloc[0] for key in PLACE}
            correlations.append(tables.row("correlation_with_score", number, **labels, target="mean"))
    return tables.table(correlations, "cohesion", seed) if correlations else table.iloc[:0]
