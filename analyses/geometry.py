"""Whether distance follows the taxonomy: partial RSA, hierarchy as orthogonality, dimension, and a map of leaves.

    python -m analyses.geometry --run RUN [--run RUN2 …] [--step …] [--span …]

Reads: the activation stores, taxonomy and pictures' features of each run.
Writes: analyses/geometry/ in each run: geometry.parquet, .csv, and the figures as png and svg.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from scipy.stats import t

from analyses import _figures, _geometry_figures, _leaf_rows, _tables
from analyses._alignment_references import taxonomic_distances
from analyses._cohesion_rows import Options as CategoryOptions
from analyses._cohesion_rows import categories_of
from analyses._leaf_rows import NO_STEP
from analyses.cohesion import encoder_rows
from probing.geometry import (
    causal_gram,
    effective_rank,
    hierarchy_cosines,
    partial_rsa,
    participation_ratio,
    two_nn,
)
from probing.massive import TREATMENTS
from probing.similarity.gram import leaf_means, linear_gram
from probing.similarity.rsa import rdm
from probing.stats import DRAWS, Estimate, draw_weights, estimate
from probing.store import ActivationStore
from taxogen.run import Run
from taxogen.taxonomy import Taxonomy

GROUPS = 10  # of leaves, left out in turn for the intervals of dimensions
LEAST_LEAVES = 4  # of a hypernym that is to have a direction
DIMENSIONS: Mapping[str, Callable[[np.ndarray], float]] = {
    "intrinsic_dimension": two_nn,
    "effective_rank": effective_rank,
    "participation_ratio": participation_ratio,
}


@dataclass(frozen=True)
class Options:
    """How geometry is measured; the defaults are those of the report."""

    treatment: str = TREATMENTS[0]
    spans: tuple[str, ...] | None = None
    sites: tuple[str, ...] | None = None
    permutations: int = 999
    draws: int = DRAWS
    held_out: tuple[str, ...] = ()
    seed: int = 0


def compute(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options = Options(),
    encoder: tuple[Float[np.ndarray, "n d"], np.ndarray] | None = None,
) -> pd.DataFrame:
    """Long table of the geometry of leaf means by step, site, span and modality.

    `taxonomic_rsa` is the rank correlation of distances between leaves with steps through the taxonomy,
    `taxonomic_rsa_given_encoder` the same given distances between the encoder's features of the leaves'
    pictures; both 0 by chance, with p over permuted leaves, corrected over layers, as their intervals are not
    bootstrapped. `hierarchy_ratio` is the root mean square cosine of steps from hypernym to leaf with their
    own hypernym over that with other hypernyms: 1 for an orthogonal hierarchy, above 1 where leaves carry
    their hypernym to different degrees. Dimensions have jackknife intervals over groups of leaves. `pc1` and
    `pc2` place each leaf on the first principal components, at the last step.
    """
    stores = {f"image@{step}": store for step, store in images.items()} | ({"text": text} if text else {})
    rows = _leaf_rows.leaf_rows(stores)
    leaves = np.unique(next(iter(rows.values())).leaves)
    distances = taxonomic_distances(taxonomy, leaves.tolist())
    controls = [] if encoder is None else [_encoder_distances(*encoder, leaves)]
    first = next(iter(images.values()))
    made: list[dict] = []
    for place, span, twin in _leaf_rows.span_pairs(first.spans, text.spans if text else ()):
        if options.spans is not None and place not in options.spans:
            continue
        sides = [(step, "image", rows[f"image@{step}"], span) for step in images]
        sides += [(NO_STEP, "text", rows["text"], twin)] if twin else []
        for step, modality, here, at in sides:
            labels = {"step": step, "span": place, "modality": modality, "treatment": options.treatment}
            means, spread = _read(here, at, options)
            made += _distance_rows(means, distances, controls, labels, options)
            for site, x in means.items():
                made += _dimension_rows(x, {**labels, "site": site, "target": "leaf"})
                made += _hierarchy_rows(
                    x, spread.get(site), taxonomy, leaves, {**labels, "site": site}, options
                )
                if step in (max(images), NO_STEP):
                    made += _map_rows(x, leaves, {**labels, "site": site})
    return _leaf_rows.table(made, "geometry", options.seed)


def _read(rows, span, options: Options):
    """Site → leaf means, and site → deviations of pictures from them where leaves have several."""
    means, spread = {}, {}
    counts = np.unique(rows.leaves, return_counts=True)[1]
    for site in options.sites or rows.store.sites:
        treated = _leaf_rows.read_treated({"side": (rows, span)}, site, options.treatment).get("side")
        if treated is not None:
            x = treated.whole()
            means[site] = leaf_means(x, rows.leaves)[0]
            if counts.min() > 1:
                spread[site] = x - means[site][np.unique(rows.leaves, return_inverse=True)[1]]
    return means, spread


def _encoder_distances(x, names, leaves) -> Float[np.ndarray, "leaves leaves"]:
    kept = np.isin(names, leaves)
    return rdm(leaf_means(np.asarray(x, dtype=np.float64)[kept], np.asarray(names)[kept])[0])


def _distance_rows(means, distances, controls, labels, options: Options) -> list[dict]:
    """Correlation of every site's distances with the taxonomy's, plain and given the encoder's."""
    rdms = np.stack([rdm(x) for x in means.values()])
    made = []
    for name, given in (("taxonomic_rsa", []), ("taxonomic_rsa_given_encoder", controls)):
        if name == "taxonomic_rsa" or given:
            found = partial_rsa(rdms, distances, given, options.permutations, options.seed)
            for k, site in enumerate(means):
                here = {**labels, "site": site, "target": "leaf"}
                made.append(_leaf_rows.row(name, float(found.value[k, 0]), found.n, **here))
                for part in ("null_limit", "p_corrected"):
                    value = float(getattr(found, part)[k, 0])
                    made.append(_leaf_rows.row(f"{name}_{part}", value, found.n, **here))
    return made


def _dimension_rows(x, labels) -> list[dict]:
    return [_leaf_rows.row(name, jackknife(dimension, x), **labels) for name, dimension in DIMENSIONS.items()]


def jackknife(
    of: Callable[[np.ndarray], float], x: Float[np.ndarray, "n d"], groups: int = GROUPS
) -> Estimate:
    """A statistic of the rows with its 95 % interval from leaving out groups of rows in turn.

    A bootstrap would not do: a repeated row is its own nearest neighbour.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 11 (delete-d jackknife in groups).
    """
    group = np.random.Generator(np.random.PCG64(0)).permutation(len(x)) % groups
    left = np.array([of(x[group != k]) for k in range(groups)])
    value = of(x)
    spread = np.sqrt((groups - 1) / groups * ((left - left.mean()) ** 2).sum())
    half = float(t.ppf(0.975, groups - 1)) * spread
    return Estimate(value, value - half, value + half, len(x))


def _hierarchy_rows(x, spread, taxonomy, leaves, labels, options: Options) -> list[dict]:
    """How far steps from hypernym to leaf stay off the hypernym's direction, against other hypernyms'."""
    categories = categories_of(taxonomy, leaves.tolist(), CategoryOptions(least_leaves=LEAST_LEAVES))
    gram = linear_gram(x) if spread is None else causal_gram(x, spread)
    own, other, children = hierarchy_steps(gram, categories.members)
    weights = draw_weights(len(leaves), options.draws, options.seed)[:, children]
    here = {**labels, "target": "mean"}
    made = []
    for name, squares in (("hierarchy_own", own), ("hierarchy_other", other)):
        draws = np.sqrt((weights @ squares) / weights.sum(axis=1))
        made.append(_leaf_rows.row(name, estimate(np.sqrt(squares.mean()), draws, len(leaves)), **here))
    draws = np.sqrt((weights @ own) / (weights @ other))
    value = float(np.sqrt(own.mean() / other.mean()))
    made.append(_leaf_rows.row("hierarchy_ratio", estimate(value, draws, len(leaves)), **here))
    return made


def hierarchy_steps(
    gram: Float[np.ndarray, "n n"], members: Bool[np.ndarray, "n categories"]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"], np.ndarray]:
    """Squared cosine of every (leaf, category) step with its own category, the mean of it with others, the leaf.

    Others are the categories that share no leaf with it.
    """
    own, other, children = [], [], []
    for category in range(members.shape[1]):
        inside = np.flatnonzero(members[:, category])
        child = np.zeros((len(inside), len(members)), dtype=bool)
        child[np.arange(len(inside)), inside] = True
        parent = members[:, category] & ~child
        apart = np.flatnonzero(~(members & members[:, [category]]).any(axis=0))
        if len(apart):
            own.append(hierarchy_cosines(gram, child, parent) ** 2)
            along = [np.broadcast_to(members[:, k], child.shape) for k in apart]
            other.append(np.mean([hierarchy_cosines(gram, child, parent, way) ** 2 for way in along], axis=0))
            children.append(inside)
    if not own:
        raise ValueError("every hypernym shares leaves with every other; there is nothing to compare with")
    return np.concatenate(own), np.concatenate(other), np.concatenate(children)


def _map_rows(x, leaves, labels) -> list[dict]:
    """Each leaf's place on the first two principal components, in units of their standard deviations."""
    centred = x - x.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    u = u[:, :2] * np.where(u[np.abs(u[:, :2]).argmax(axis=0), [0, 1]] < 0, -1, 1) * np.sqrt(len(x))
    share = s**2 / (s**2).sum()
    made = []
    for k, name in enumerate(("pc1", "pc2")):
        made += [
            _leaf_rows.row(name, float(value), len(x), **labels, target=str(leaf))
            for leaf, value in zip(leaves, u[:, k])
        ]
        made.append(_leaf_rows.row(f"{name}_share", float(share[k]), len(x), **labels, target="leaf"))
    return made


def draw(table: pd.DataFrame, taxonomy: Taxonomy | None = None) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name; a map of leaves if the taxonomy is given."""
    return _geometry_figures.draw(table, taxonomy)


def summary(found: pd.DataFrame) -> str:
    """What the table says, in about ten lines."""
    lines = [f"Geometry of leaves, {', '.join(found['run'].unique())}:"]
    for (span, modality), here in found[found["layer"].notna()].groupby(["span", "modality"], sort=False):
        here = here[here["step"] == here["step"].max()]
        for name in ("taxonomic_rsa", "taxonomic_rsa_given_encoder"):
            rows = here[here["measure"] == name].to_dict("records")
            if rows:
                best = max(rows, key=lambda row: row["value"])
                p = here.loc[here["measure"] == f"{name}_p_corrected", "value"]
                lines.append(
                    f"  {span:6} {modality:6} {name}: best {best['value']:.2f} at {best['site']}, n = {best['n']}; "
                    f"above its null at {(p < 0.05).sum()} of {len(p)} sites"
                )
        ratio = here[here["measure"] == "hierarchy_ratio"].to_dict("records")[-1]
        lines.append(
            f"  {span:6} {modality:6} hierarchy ratio at {ratio['site']}: {ratio['value']:.2f} "
            f"[{ratio['lower']:.2f}, {ratio['upper']:.2f}] (1 is orthogonal)"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the runs, prints a summary of each, and writes tables and figures into their folders."""
    args = _parse(argv)
    for path in args.run:
        run = Run.open(path)
        images = {step: run.store(step) for step in args.step or run.steps}
        text = run.store(None, "text") if run.captured(None) else None
        options = Options(spans=tuple(args.span) if args.span else None, draws=args.draws, seed=args.seed)
        found = compute(images, text, run.taxonomy, options, encoder_rows(run, images[max(images)]))
        found = found.assign(run=run.name)
        folder = run.folder("analyses", "geometry")
        _tables.save(found, folder, "geometry")
        for name, figure in draw(found, run.taxonomy).items():
            _figures.save(figure, folder, name)
        print(summary(found), f"Table and figures: {folder}", sep="\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.geometry", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", action="append", required=True, help="a run directory; may be given again")
    parser.add_argument("--step", action="append", type=int, help="a captured step (default: all)")
    parser.add_argument("--span", action="append", help="slot, cue or last (default: all)")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap over leaf concepts")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
