"""Probes of every site of activation stores, within and across modalities, as one table of estimates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from analyses.inputs.categories import HELD_OUT, SEEN, SEEN_MINUS_HELD_OUT
from analyses.layer_probes.design import ENCODER, Design, Options, design, span_pairs
from analyses.layer_probes.table import (
    COLUMNS,
    NO_STEP,
    Curves,
    Key,
    code_rows,
    difference_rows,
    rows_and_curves,
)
from probing.probes.description_length import online_code
from probing.probes.fitted import FittedProbes
from probing.probes.held_out import HeldOut, held_out_scores
from probing.probes.linear import fit_ridge
from probing.probes.logistic import fit_logistic
from probing.probes.means import fit_mass_mean
from probing.probes.places import put
from probing.sites import EMBED, FINAL
from probing.stats import draw_weights
from probing.store import ActivationStore, MismatchError
from taxogen.world.taxonomy import Taxonomy

PROBES: dict[str, Callable[..., FittedProbes]] = {
    "ridge": fit_ridge,
    "logistic": fit_logistic,
    "mass_mean": fit_mass_mean,
}


@dataclass(frozen=True)
class LayerProbes:
    """The table; the curves, for contrasts between runs; and the directions of the targets.

    A direction is keyed by (step, span, modality, site): unit vectors [d, targets] in raw activations along which the
    score of a target grows, averaged over the folds' probes. `undefined` says which numbers are not there, and why.
    """

    table: pd.DataFrame
    curves: Curves
    directions: Mapping[tuple[int, str, str, str], np.ndarray]
    targets: tuple[str, ...]
    leaves: tuple[str, ...]
    undefined: tuple[str, ...] = ()


@dataclass(frozen=True)
class _AtSite:
    """What one site gives: scores of each condition, directions of each modality, code lengths."""

    scores: dict[Key, HeldOut]
    directions: dict[str, np.ndarray]
    bits: dict[str, list[np.ndarray]]


def probe_layers(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options,
    encoder: Mapping[str, np.ndarray] | None = None,
    source_of: Mapping[str, str] | None = None,
) -> LayerProbes:
    """Estimates at every site and place; `images` maps a step of training to the picture rows captured there.

    `encoder` maps a picture to the encoder's features, probed as layer −2; `source_of` a picture to its source, which
    the split `source` needs.

    Raises:
        KeyError: an unknown probe, target, split, span, site or transform.
        MismatchError: the stores do not belong together.
    """
    if options.probe not in PROBES:
        raise KeyError(f"unknown probe {options.probe!r}; known: {', '.join(PROBES)}")
    plan = design(images, text, taxonomy, options, encoder, source_of)
    weights = draw_weights(len(plan.leaves), options.draws, options.seed)
    first = next(iter(images.values()))
    places = span_pairs(first.spans, text.spans if text else (), options.spans)
    # One thread of linear algebra a worker: a threaded eigendecomposition of this size gains little.
    with threadpool_limits(1), ThreadPoolExecutor(options.workers) as pool:
        waiting: list[Future] = []
        directions, undefined = {}, {}
        for position, (span, in_pictures, in_text) in enumerate(places):
            spans = {name: in_text if name == "text" else in_pictures for name in plan.sources}
            spans = {name: place for name, place in spans.items() if place}
            sites = ([ENCODER] if encoder is not None and position == 0 else []) + _sites(
                plan, spans, options
            )
            done = pool.map(lambda site, spans=spans: _at_site(plan, site, spans, options), sites)
            found = dict(zip(sites, done))
            directions |= {
                (_step(name), span, name.split("@")[0], site): values
                for site in sites
                for name, values in found[site].directions.items()
            }
            scores = {site: found[site].scores for site in sites}
            undefined |= dict.fromkeys(_reasons(scores))
            for modality in ("image", "text"):
                arguments = (plan, scores, span, modality, weights, options.probe)
                waiting.append(pool.submit(rows_and_curves, *arguments))
            if options.code:
                bits = {site: found[site].bits for site in sites}
                waiting.append(pool.submit(code_rows, plan, bits, span, weights, options.probe))
        results = [job.result() for job in waiting]
    table = pd.concat([part for part, _ in results if len(part)], ignore_index=True)
    table = table.assign(run="", analysis="layer_probes", split=options.split, seed=options.seed)
    curves = {condition: curve for _, part in results for condition, curve in part.items()}
    return LayerProbes(
        table[list(COLUMNS)], curves, directions, plan.targets, plan.leaves, _named(undefined, plan)
    )


def contrasts(first: Sequence[LayerProbes], second: Sequence[LayerProbes], seed: int = 0) -> pd.DataFrame:
    """Mean AUROC of the `first` runs minus that of the `second`, paired by leaf, averaged over pairs (seeds).

    The bootstrap draws leaves and, where there are several pairs, pairs. Where hypernyms are seen and held out, the
    difference of their difference is there too.

    Raises:
        MismatchError: the runs were probed on different leaves.
        ValueError: the numbers of runs differ, or no condition is in all of them.
    """
    if len(first) != len(second):
        raise ValueError(
            f"asked to contrast {len(first)} runs with {len(second)}; name a partner for each run"
        )
    everyone = (*first, *second)
    drawn = _draw_pairs(len(first), first[0], seed)
    if any(other.leaves != first[0].leaves for other in everyone):
        raise MismatchError("runs with different leaves cannot be paired; probe runs that share their leaves")
    tables = []
    for condition, (sites, _) in first[0].curves.items():
        if not all(condition in run.curves for run in everyone):
            continue
        ways = [[run.curves[condition][1] for run in runs] for runs in (first, second)]
        found = {}
        for subset in ways[0][0]:
            if all(subset in along for along in (*ways[0], *ways[1])):
                pairs = [(a[subset], b[subset]) for a, b in zip(*ways)]
                each = np.stack([a.auroc_draws - b.auroc_draws for a, b in pairs], axis=1)
                value = np.mean([a.auroc - b.auroc for a, b in pairs], axis=0)
                found[subset] = value, np.einsum("dp,dps->ds", drawn, each)
        if SEEN in found and HELD_OUT in found:
            found[SEEN_MINUS_HELD_OUT] = tuple(a - b for a, b in zip(found[SEEN], found[HELD_OUT]))
        tables += [
            difference_rows(condition, sites, subset, *pair).assign(n=len(first[0].leaves))
            for subset, pair in found.items()
        ]
    if not tables:
        raise ValueError("the runs share no step, span and modality, so there is nothing to contrast")
    return pd.concat(tables, ignore_index=True)


def _draw_pairs(pairs: int, run: LayerProbes, seed: int) -> np.ndarray:
    """The weight of each pair of runs in each bootstrap draw, [draws, pairs]."""
    draws = len(next(iter(next(iter(run.curves.values()))[1].values())).auroc_draws)
    return draw_weights(pairs, draws, seed + 1) / pairs


def _reasons(scores: Mapping[str, Mapping[Key, HeldOut]]) -> Iterator[tuple[str, int, int]]:
    """(modality that was trained on, fold, target) of every probe that could not be trained."""
    for at_site in scores.values():
        for (train, _, _), held in at_site.items():
            yield from ((train, fold, target) for fold, target in held.undefined)


def _named(undefined: Mapping[tuple[str, int, int], None], plan: Design) -> tuple[str, ...]:
    return tuple(
        f"{train}: fold {fold} has no AUROC of {plan.targets[target]!r}: its training rows are of one class"
        for train, fold, target in undefined
    )


def _at_site(plan: Design, site: str, spans: Mapping[str, str], options: Options) -> _AtSite:
    """Probes of one site and place, of every modality that has it."""
    names = [name for name in spans if site != ENCODER or name != "text"]
    features = {name: put(plan.sources[name].read(site, spans[name]), options.device) for name in names}
    rows = {name: plan.rows[name] for name in names}
    fit, found = PROBES[options.probe], _AtSite({}, {}, {})
    for train in names:
        across = [name for name in names if (name == "text") != (train == "text")]
        tests = [(train, "raw"), *((name, transform) for name in across for transform in options.transforms)]
        held, direction = held_out_scores(fit, features, rows, train, tests, options.penalties)
        found.scores.update({(train, *test): scores for test, scores in held.items()})
        found.directions[train] = direction
        if options.code:
            found.bits[train] = [
                online_code(
                    features[train], labels, rows[train].groups, fit, options.penalties, seed=options.seed
                )
                for labels in (rows[train].labels, *rows[train].controls[:1])
            ]
    return found


def _sites(plan: Design, spans: Mapping[str, str], options: Options) -> list[str]:
    """The asked sites, by default those of the residual stream that every store has.

    Raises:
        KeyError: a store lacks an asked site.
    """
    stores = [plan.sources[name].store for name in spans]
    shared = [site for site in stores[0].sites if all(site in store.sites for store in stores)]
    if options.sites is None:
        return [site for site in shared if site.endswith("hook_resid_post") or site in (EMBED, FINAL)]
    if missing := [site for site in options.sites if site.partition("#")[0] not in shared]:
        raise KeyError(f"the stores have no site {missing[0]!r}; they share {', '.join(shared)}")
    return list(options.sites)


def _step(name: str) -> int:
    return int(name.split("@")[1]) if "@" in name else NO_STEP
