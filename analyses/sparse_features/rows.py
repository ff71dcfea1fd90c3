"""Tables of sparse features: what a dictionary reconstructs of pictures and words, and which features both share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame import tables
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.parts import tracked
from analyses.frame.tables import NO_STEP
from analyses.inputs import leaf_rows
from analyses.inputs.categories import categories_of
from analyses.inputs.leaf_rows import Captures, LeafRows
from analyses.sparse_features.shared import Firing, Sharing, sharing
from probing.lens.dictionaries import Dictionary, folders_of, read
from probing.probes.splits import grouped_folds
from probing.sites import EMBED, Site
from probing.stats import Estimate, draw_weights, expanded_estimate, few_clusters, q_values
from probing.store import ActivationStore, MismatchError
from taxogen.world.taxonomy import Taxonomy

LEAST_LEAVES = 4  # of a hypernym that is to have features
BOTH = "image − text"


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """Which dictionaries are asked, where, and how features are chosen.

    Attributes:
        dictionary: folder of a sparse autoencoder of the language model (sparsify or SAELens), or of several
        steps: captured steps (default: the last)
        spans: slot, cue or last (default: all)
        sites: only dictionaries of these (default: all)
        top: features that are chosen for a hypernym
        folds: features are chosen on the leaves of all other folds
        permutations: of labels among leaves
    """

    dictionary: Path | None = option(None, metavar="DIR", role=EXTENT)
    steps: tuple[int, ...] = option((), flag="--step", role=EXTENT)
    spans: tuple[str, ...] | None = option(None, flag="--span", role=EXTENT)
    sites: tuple[str, ...] = option((), flag="--site", role=EXTENT)
    top: int = option(10, role=EXTENT)
    folds: int = option(5, role=EXTENT)
    permutations: int = option(199, role=EXTENT)


@dataclass(frozen=True)
class Side:
    """The states of one modality at one place, by leaf.

    Attributes:
        fires: share of a leaf's rows in which each feature is active.
        sums: of each leaf, of its rows: squared errors, squares, active features, rows.
        states: of each leaf, the sum of its rows.
    """

    fires: Float[np.ndarray, "leaves features"]
    sums: Float[np.ndarray, "leaves 4"]
    states: Float[np.ndarray, "leaves width"]

    def numbers(self, weights: Float[np.ndarray, "draws leaves"]) -> dict[str, Float[np.ndarray, " draws"]]:
        """Measure → under weights of leaves.

        unexplained: squared error over the squared distance from the mean of the same rows; 0 for a faithful
        dictionary, 1 for the mean. error_share: over the squares themselves. active: features of a row.
        """
        error, squares, active, rows = (weights @ self.sums).T
        about_mean = squares - ((weights @ self.states) ** 2).sum(axis=1) / rows
        return {"unexplained": error / about_mean, "error_share": error / squares, "active": active / rows}


def dictionaries(options: Options, store: ActivationStore) -> dict[str, Dictionary]:
    """Site of a store → the dictionary of its states, in forward order.

    Raises:
        ValueError: none was named, or numbers that choose nothing.
        KeyError: a site of which there is no dictionary.
        MismatchError: no dictionary is of a site that was captured, or one has another width.
    """
    if options.dictionary is None:
        raise ValueError(
            "no dictionary was named; give --dictionary DIR, a folder of sparsify's or SAELens' files"
        )
    if options.top < 1 or options.folds < 2 or options.permutations < 19:
        raise ValueError(
            f"--top {options.top} --folds {options.folds} --permutations {options.permutations} were asked for; at "
            "least 1, 2 and 19 are needed"
        )
    by_site: dict[str, Dictionary] = {}
    for folder in folders_of(options.dictionary):
        one = read(folder)
        if site := captured_site(one.site, store.sites):
            span = next(name for name in store.spans if store.pooling[name] != "all")
            one.states(store.read(site, span, [0]).reshape(1, -1))
            by_site[site] = one
    if missing := [site for site in options.sites if site not in by_site]:
        shared = ", ".join(by_site) or "none"
        raise KeyError(f"--site {missing[0]} was asked for; dictionaries and captures share {shared}")
    by_site = {site: one for site, one in by_site.items() if not options.sites or site in options.sites}
    if not by_site:
        sites = ", ".join(read(folder).site for folder in folders_of(options.dictionary)[:3])
        raise MismatchError(
            f"{options.dictionary} is of {sites}, and {store.path} has none of these; capture there with "
            "`taxoprobe capture`, or name dictionaries of captured sites"
        )
    return dict(sorted(by_site.items(), key=lambda item: Site.parse(item[0]).order))


def captured_site(site: str, sites: Sequence[str]) -> str:
    """The captured site that holds the states of a site: what enters a block is what the one before it gave."""
    parsed = Site.parse(site)
    if site not in sites and parsed.point == "hook_resid_pre" and parsed.layer is not None:
        site = str(Site("hook_resid_post", parsed.layer - 1)) if parsed.layer else EMBED
    return site if site in sites else ""


def features_table(
    given: Captures, taxonomy: Taxonomy, options: Options
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The long table, and a table of the features that are chosen for each hypernym.

    `unexplained` and `error_share` are errors of reconstruction (`Side.numbers`), of pictures, of words, and their
    difference, with intervals over leaves. `words_auroc` and `pictures_auroc` tell how well the features that fire for
    words of other leaves of a hypernym distinguish words, and pictures, of held-out leaves: .5 by chance. `overlap` is
    the share of the features that are chosen on words and on pictures, of all leaves. Beside each stand the mean under
    labels exchanged among leaves, p, and q of single hypernyms (Benjamini–Hochberg over hypernyms and places).
    """
    stores = {f"image@{step}": store for step, store in given.images.items()}
    stores |= {"text": given.text} if given.text is not None else {}
    stored = leaf_rows.leaf_rows(stores)
    leaves = np.unique(next(iter(stored.values())).leaves)
    categories = categories_of(taxonomy, leaves.tolist(), LEAST_LEAVES)
    weights = draw_weights(len(leaves), options.draws, options.seed)
    rows: list[dict] = []
    chosen: list[pd.DataFrame] = []
    for site, dictionary in dictionaries(options, given.last).items():
        places = leaf_rows.places(given.images, given.text, options.spans)
        for place, span, twin in tracked(places, f"dictionary of {site}", "spans"):
            words = _side(stored["text"], site, twin, dictionary) if twin else None
            labels = {"span": place, "site": site}
            if words is not None:
                rows += _error_rows(words, weights, {**labels, "step": NO_STEP, "modality": "text"})
            for step in given.images:
                pictures = _side(stored[f"image@{step}"], site, span, dictionary)
                at = {**labels, "step": step}
                rows += _error_rows(pictures, weights, {**at, "modality": "image"})
                if words is None:
                    continue
                rows += _difference_rows(pictures, words, weights, at)
                folds = grouped_folds(leaves, categories.members, options.folds, options.seed)
                firing = Firing(words.fires, pictures.fires, leaves, categories.members, folds, options.top)
                reduced, features = _reduced(firing)
                shared = sharing(reduced, options.permutations, options.draws, options.seed)
                rows += _shared_rows(shared, categories.names, at)
                chosen.append(_chosen(shared, categories.names, features).assign(**at))
    table = tables.table(rows, "sparse_features", options.seed)
    return with_q(table), pd.concat(chosen, ignore_index=True) if chosen else pd.DataFrame()


def with_q(table: pd.DataFrame) -> pd.DataFrame:
    """The table with rows of q beside those of p of single hypernyms, one family for each measure."""
    parts = [table]
    for name in table.loc[table["measure"].str.endswith("_p"), "measure"].unique():
        own = table[(table["measure"] == name) & (table["target"] != "mean")]
        q = q_values(own["value"].to_numpy(float))
        parts.append(own.assign(measure=f"{name.removesuffix('_p')}_q", value=q))
    return pd.concat(parts, ignore_index=True)


def _side(rows: LeafRows, site: str, span: str, dictionary: Dictionary) -> Side:
    x = dictionary.states(rows.read(site, span))
    leaves, code = np.unique(rows.leaves, return_inverse=True)
    fires = np.zeros((len(leaves), dictionary.features), np.float32)
    sums = np.zeros((len(leaves), 4))
    for part, activations in dictionary.parts(x):
        own, active = x[part].astype(np.float64), activations > 0
        error = own - dictionary.reconstruct(x[part], activations)
        each = [(error**2).sum(axis=1), (own**2).sum(axis=1), active.sum(axis=1), np.ones(len(own))]
        np.add.at(sums, code[part], np.column_stack(each))
        np.add.at(fires, code[part], active.astype(np.float32))
    states = np.zeros((len(leaves), x.shape[1]))
    np.add.at(states, code, x)
    return Side(fires / sums[:, 3:].astype(np.float32), sums, states)


def _reduced(of: Firing) -> tuple[Firing, np.ndarray]:
    """The same of the features that fire for two leaves or more, and which these are."""
    features = np.flatnonzero(((of.words > 0).sum(axis=0) >= 2) | ((of.pictures > 0).sum(axis=0) >= 2))
    features = features if len(features) >= of.top else np.arange(of.words.shape[1])
    top = min(of.top, len(features))
    return Firing(
        of.words[:, features], of.pictures[:, features], of.leaves, of.labels, of.folds, top
    ), features


def _error_rows(side: Side, weights: np.ndarray, labels: Mapping[str, Any]) -> list[dict]:
    n = len(side.sums)
    values, drawn = side.numbers(np.ones((1, n))), side.numbers(weights)
    return [
        tables.row(name, _limits(values[name][0], drawn[name], n), **labels, target="mean") for name in values
    ]


def _difference_rows(
    pictures: Side, words: Side, weights: np.ndarray, labels: Mapping[str, Any]
) -> list[dict]:
    n, once = len(words.sums), np.ones((1, len(words.sums)))
    sides = [(side.numbers(once), side.numbers(weights)) for side in (pictures, words)]
    rows = []
    for name in ("unexplained", "error_share"):
        value, drawn = (sides[0][k][name] - sides[1][k][name] for k in (0, 1))
        estimate = _limits(value[0], drawn, n)
        rows.append(tables.row(name, estimate, **labels, modality=BOTH, target="mean"))
    return rows


def _limits(value: float, drawn: np.ndarray, n: int) -> Estimate:
    return expanded_estimate(float(value), drawn, n, few_clusters(np.array(n)))


def _shared_rows(shared: Sharing, names: Sequence[str], labels: Mapping[str, Any]) -> list[dict]:
    rows = []
    for measure, estimates in shared.estimates.items():
        for k, (target, estimate) in enumerate(zip(("mean", *names), estimates, strict=True)):
            at = {**labels, "modality": "text→image", "target": target}
            rows.append(tables.row(measure, estimate, **at))
            for name, values in (("null_mean", shared.null_mean), ("p", shared.p)):
                rows.append(tables.row(f"{measure}_{name}", float(values[measure][k]), estimate.n, **at))
    return rows


def _chosen(shared: Sharing, names: Sequence[str], features: np.ndarray) -> pd.DataFrame:
    """The features that words or pictures choose for each hypernym, with how much oftener they fire for it."""
    rows = []
    for k, name in enumerate(names):
        tops = {modality: set(shared.tops[modality][k].tolist()) for modality in shared.tops}
        for feature in sorted(set.union(*tops.values())):
            apart = {
                f"{modality}_difference": float(shared.differences[modality][k, feature]) for modality in tops
            }
            by = " and ".join(modality for modality in tops if feature in tops[modality])
            rows.append({"hypernym": name, "feature": int(features[feature]), "chosen_by": by, **apart})
    return pd.DataFrame(rows)
