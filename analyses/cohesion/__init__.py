"""Where leaf concepts of one hypernym lie together: cohesion by layer, in pictures, in text, and across the two.

    python -m analyses.cohesion --run RUN [--run RUN2 …] [--step …] [--treatment …]

Reads: the activation stores, taxonomy, pictures' features and scores of each run.
Writes: analyses/cohesion/ in each run: cohesion.parquet, .csv, and the figures as png and svg.
"""

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import rankdata

from analyses.cohesion import figures
from analyses.cohesion.rows import ENCODER, Options, compute
from analyses.frame import drawing, tables
from analyses.frame.tables import NO_STEP
from analyses.inputs import leaf_rows
from analyses.inputs.conditions import condition_of
from analyses.layer_probes import held_out_hypernyms
from probing.categories.massive import TREATMENTS
from probing.stats import DRAWS, ClusterAUROC, Estimate, estimate
from probing.store import ActivationStore
from taxogen.answers.evaluate import Scores
from taxogen.models.features import features
from taxogen.runs import prepare
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

__all__ = ["Options", "compute", "draw", "main", "relate", "summary"]


def relate(found: pd.DataFrame, scores: Mapping[str, float], seed: int = 0) -> pd.DataFrame:
    """Rank correlation over hypernyms of each site's cohesion (and the encoder's) with their scores.

    Intervals by bootstrap over hypernyms, of which n counts; chance is 0. Hypernyms share leaves, so the
    intervals are too narrow rather than too wide.
    """
    kept = found[(found["measure"] == "cohesion") & found["target"].isin(list(scores))]
    made = []
    keys = ["step", "site", "span", "modality", "treatment"]
    for _, rows in kept.groupby(keys, sort=False):
        values = rows["value"].to_numpy(), rows["target"].map(dict(scores)).to_numpy(dtype=float)
        labels = {key: rows[key].iloc[0] for key in keys}
        usable = np.isfinite(values[0]) & np.isfinite(values[1])
        if usable.sum() >= 5:
            correlated = rank_correlation(values[0][usable], values[1][usable], seed)
            made.append(tables.row("correlation_with_score", correlated, **labels, target="mean"))
    return tables.table(made, "cohesion", seed) if made else found.iloc[:0]


def rank_correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Spearman's correlation with its bootstrap interval over pairs; undefined draws left out."""
    picks = np.random.Generator(np.random.PCG64(seed)).integers(0, len(x), (DRAWS, len(x)))
    return estimate(float(_spearman(x[None], y[None])[0]), _spearman(x[picks], y[picks]), len(x))


def _spearman(
    x: Float[np.ndarray, "draws n"], y: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    """Rank correlation of each row; not-a-number where a row has one value only."""
    x, y = (rankdata(side, axis=1) - (side.shape[1] + 1) / 2 for side in (x, y))
    size = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.where(size > 0, (x * y).sum(axis=1) / np.where(size > 0, size, 1), np.nan)


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    return figures.draw(table)


def summary(found: pd.DataFrame) -> str:
    """What the table says, in about ten lines."""
    rows = found[(found["treatment"] == "standardised") & (found["target"] == "mean")]
    lines = [f"Cohesion of hypernyms, {', '.join(found['run'].unique())} (within − between, mean cosine):"]
    for (span, modality), here in rows.groupby(["span", "modality"], sort=False):
        here = here[here["step"] == here["step"].max()]
        values = here[here["measure"] == "cohesion"].to_dict("records")
        p = here.loc[here["measure"] == "cohesion_p_corrected", "value"].to_numpy()
        if not values:
            continue
        best = max(values, key=lambda row: row["value"])
        lines.append(
            f"  {span:6} {modality:10} strongest at {best['site']}: {best['value']:.3f} "
            f"[{best['lower']:.3f}, {best['upper']:.3f}], n = {best['n']} leaves; "
            f"above its null at {(p < 0.05).sum()} of {len(p)} sites"
        )
    lines += _massive_lines(found) + _relation_lines(found)
    return "\n".join(lines)


def _massive_lines(found: pd.DataFrame) -> list[str]:
    pictures = found[found["modality"] == "image"]
    massive = pictures[pictures["measure"] == "massive_ratio"].to_dict("records")
    if not (pictures["measure"] == "massive_rows").any():
        return _treatment_lines(pictures)  # only raw rows say which dimensions are massive
    lines = ["  no massive dimension in picture rows"]
    if massive:
        top = max(massive, key=lambda row: row["value"])
        owned = pictures.loc[pictures["measure"] == "massive_variance_share", "value"].max()
        lines = [
            f"  massive dimensions in picture rows: {len({row['target'] for row in massive})}, the largest "
            f"{top['target']} at {top['site']} ({top['value']:.0f} times the median dimension), up to {owned:.0%} "
            "of the variance"
        ]
    counts = pictures[pictures["measure"] == "massive_rows"].to_dict("records")
    most = max(counts, key=lambda row: row["value"], default=None)
    if most and most["value"]:
        longest = pictures.loc[pictures["measure"] == "massive_row_ratio", "value"].max()
        lines.append(
            f"  massive picture rows: up to {most['value']:.0f} of {most['n']} ({most['site']}, {most['span']}), "
            f"the longest {longest:.0f} times the median row"
        )
    return [*lines, *_treatment_lines(pictures)]


def _treatment_lines(pictures: pd.DataFrame) -> list[str]:
    """Where another treatment says something else about pictures than the default one."""
    kept = (pictures["measure"] == "cohesion") & (pictures["target"] == "mean") & pictures["layer"].notna()
    return leaf_rows.disagreements(pictures[kept], ("raw", "unit rows"))


def _relation_lines(found: pd.DataFrame) -> list[str]:
    related = found[(found["measure"] == "correlation_with_score") & (found["modality"] == "image")]
    related = related[(related["step"] == related["step"].max()) | (related["site"] == ENCODER)]
    related = related[related["treatment"].isin(["standardised"]) | (related["site"] == ENCODER)]
    if not len(related):
        return []
    shown = pd.concat([related[related["site"] == ENCODER], related.nlargest(1, "value")])
    return [
        f"  hypernyms: cohesion at {at['site']} ({at['span']}) against score, rank correlation "
        f"{at['value']:.2f} [{at['lower']:.2f}, {at['upper']:.2f}], n = {at['n']}"
        for at in shown.drop_duplicates().to_dict("records")
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the runs, prints a summary of each, and writes tables and figures into their folders."""
    args = _parse(argv)
    runs, made_tables = [Run.open(path) for path in args.run], []
    for run in runs:
        steps = args.step or run.steps
        images = {step: run.store(step) for step in steps}
        text = run.store(None, "text") if run.captured(None) else None
        held_out = held_out_hypernyms(run)
        options = Options(
            treatments=tuple(args.treatment), draws=args.draws, seed=args.seed, held_out=held_out,
            spans=tuple(args.span) if args.span else None,
        )  # fmt: skip
        found = compute(images, text, run.taxonomy, options, encoder_rows(run, images[max(images)]))
        found = pd.concat([found, *_related(run, found, held_out, args.seed)], ignore_index=True)
        found = found.assign(run=run.name)
        folder = run.folder("analyses", "cohesion")
        tables.save(found, folder, "cohesion")
        for name, figure in draw(found).items():
            drawing.save(figure, folder, name)
        print(summary(found), f"Table and figures: {folder}", sep="\n")
        made_tables.append(found.assign(condition=condition_of(run, runs)))
    if len(made_tables) > 1:
        folder = runs[0].folder("analyses", "cohesion")
        drawing.save(figures.runs(pd.concat(made_tables)), folder, "runs")


def encoder_rows(run: Run, store: ActivationStore) -> tuple[Float[np.ndarray, "n d"], np.ndarray]:
    """Features that enter the projector, mean over tokens, of the captured pictures; and the leaf of each."""
    shown = store.columns.drop_duplicates("picture").sort_values("picture")
    model = run.config.model
    values = features(
        prepare.world(run).pictures,
        model.encoder,
        tokens=model.encoder_tokens,
        names=shown["picture"].tolist(),
    )
    return values.mean(axis=1), shown["leaf"].to_numpy().astype(str)


def _related(run: Run, found: pd.DataFrame, held_out: Sequence[str], seed: int) -> list[pd.DataFrame]:
    """Correlation of cohesion with scores, where the run was evaluated; over held-out hypernyms, if any."""
    if not run.file("scores.h5").is_file():
        return []
    scores = hypernym_scores(Scores.read(run), run.taxonomy)
    asked = {name: value for name, value in scores.items() if not held_out or name in held_out}
    rows = [
        tables.row(
            "auroc", value, site="scores", step=NO_STEP, span="", modality="image", target=name, treatment=""
        )
        for name, value in asked.items()
    ]
    return [relate(found, asked, seed), tables.table(rows, "cohesion", seed)]


def hypernym_scores(scores: Scores, taxonomy: Taxonomy) -> dict[str, float]:
    """AUROC of each hypernym over the test pictures; chance is .5."""
    leaves = scores.image["leaf"].to_numpy().astype(str)
    columns = [taxonomy.hypernyms.index(name) for name in scores.hypernyms]
    labels = taxonomy.labels(leaves)[:, columns]
    values = ClusterAUROC(scores.image_scores, labels, leaves).value
    return dict(zip(scores.hypernyms, values.tolist()))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.cohesion", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", action="append", required=True, help="a run directory; may be given again")
    parser.add_argument("--step", action="append", type=int, help="a captured step (default: all)")
    parser.add_argument("--span", action="append", help="slot, cue or last (default: all)")
    parser.add_argument("--treatment", nargs="+", choices=TREATMENTS, default=list(TREATMENTS))
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap over leaf concepts")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)
