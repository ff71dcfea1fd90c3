"""Probes of every site of activation stores, within and across modalities, as one table of estimates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from analyses._probe_rows import Design, Options, design, span_pairs
from probing.probes.evaluate import HeldOut, Series, estimates, held_out_scores
from probing.probes.fitted import FittedProbes
from probing.probes.linear import fit_ridge
from probing.probes.logistic import fit_logistic
from probing.probes.means import fit_mass_mean
from probing.sites import EMBED, Site
from probing.stats import Estimate, draw_weights, interval, onset, permutation_p
from probing.store import ActivationStore, MismatchError
from taxogen.taxonomy import Taxonomy

PROBES: dict[str, Callable[..., FittedProbes]] = {
    "ridge": fit_ridge,
    "logistic": fit_logistic,
    "mass_mean": fit_mass_mean,
}
COLUMNS = (
    *("run", "analysis", "step", "site", "layer", "span", "modality", "target", "probe", "measure", "split"),
    *("value", "lower", "upper", "n", "seed"),
)
NO_STEP = -1  # of text rows, which no training step touches
_ENOUGH_FOR_P = 19  # control tasks that make p = .05 reachable


class Condition(NamedTuple):
    """What was trained and tested where: the table columns that the sites of one curve share."""

    step: int
    span: str
    modality: str
    probe: str


@dataclass(frozen=True)
class LayerProbes:
    """The table, and for each condition and subset of targets the series along its sites, for contrasts."""

    table: pd.DataFrame
    curves: Mapping[Condition, tuple[tuple[str, ...], Mapping[str, Series]]]
    leaves: tuple[str, ...]


def probe_layers(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options,
) -> LayerProbes:
    """Estimates at every site and place; `images` maps a step of training to the picture rows captured there.

    Raises:
        KeyError: an unknown probe, target, split, span or transform.
        MismatchError: the stores do not belong together.
    """
    if options.probe not in PROBES:
        raise KeyError(f"unknown probe {options.probe!r}; known: {', '.join(PROBES)}")
    plan = design(images, text, taxonomy, options)
    weights = draw_weights(len(plan.leaves), options.draws, options.seed)
    first = next(iter(images.values()))
    places = span_pairs(first.spans, text.spans if text else (), options.spans)
    # One thread of linear algebra a worker: a threaded eigendecomposition of this size gains little.
    with threadpool_limits(1), ThreadPoolExecutor(options.workers) as pool:
        waiting: list[Future] = []
        for span, in_pictures, in_text in places:
            spans = {name: in_text if name == "text" else in_pictures for name in plan.sources}
            spans = {name: place for name, place in spans.items() if place}
            sites = _sites(plan, spans, options)
            scores = list(pool.map(lambda site, spans=spans: _at_site(plan, site, spans, options), sites))
            for kind in ("image", "text"):
                waiting.append(pool.submit(_estimates, plan, scores, sites, span, kind, weights, options))
        done = [job.result() for job in waiting]
    table = pd.concat([part for part, _ in done], ignore_index=True)
    table = table.assign(run="", analysis="layer_probes", split=options.split, seed=options.seed)
    return LayerProbes(
        table[list(COLUMNS)], {k: v for _, curves in done for k, v in curves.items()}, plan.leaves
    )


def layer_of(site: str) -> float:
    """The block index of a site; −1 before the first block, not-a-number after the last norm."""
    parsed = Site.parse(site)
    if parsed.layer is not None:
        return float(parsed.layer)
    return -1.0 if parsed.point == EMBED else float("nan")


def contrasts(first: Sequence[LayerProbes], second: Sequence[LayerProbes]) -> pd.DataFrame:
    """Mean AUROC of the `first` runs minus that of the `second`, paired by leaf, averaged over pairs (seeds).

    Raises:
        MismatchError: the runs were probed on different leaves.
        ValueError: the numbers of runs differ, or no condition is in all of them.
    """
    if len(first) != len(second):
        raise ValueError(
            f"asked to contrast {len(first)} runs with {len(second)}; name a partner for each run"
        )
    everyone = (*first, *second)
    if any(other.leaves != first[0].leaves for other in everyone):
        raise MismatchError("runs with different leaves cannot be paired; probe runs that share their leaves")
    tables = []
    for condition, (sites, along) in first[0].curves.items():
        if not all(condition in run.curves for run in everyone):
            continue
        for subset in along:
            pairs = [
                (a.curves[condition][1][subset], b.curves[condition][1][subset])
                for a, b in zip(first, second)
            ]
            value = np.mean([a.auroc - b.auroc for a, b in pairs], axis=0)
            draws = np.mean([a.auroc_draws - b.auroc_draws for a, b in pairs], axis=0)
            rows = _rows(condition, sites, subset, "auroc_difference", value, draws)
            tables.append(rows.assign(n=len(first[0].leaves)))
    if not tables:
        raise ValueError("the runs share no step, span and modality, so there is nothing to contrast")
    return pd.concat(tables, ignore_index=True)


def _at_site(
    plan: Design, site: str, spans: Mapping[str, str], options: Options
) -> dict[tuple[str, str, str], HeldOut]:
    """(trained on, tested on, transform) → held-out scores at one site."""
    features = {name: plan.sources[name].read(site, span) for name, span in spans.items()}
    rows = {name: plan.rows[name] for name in spans}
    found = {}
    for train in spans:
        across = [name for name in spans if (name == "text") != (train == "text")]
        tests = [(train, "raw"), *((name, transform) for name in across for transform in options.transforms)]
        held = held_out_scores(PROBES[options.probe], features, rows, train, tests, options.penalties)
        found |= {(train, *test): scores for test, scores in held.items()}
    return found


def _estimates(plan, scores, sites, span, kind, weights, options):
    """Rows and curves of one place and tested modality; one bootstrap for all conditions on the same rows."""
    keys = [key for key in scores[0] if key[1].split("@")[0] == kind]
    if not keys:
        return pd.DataFrame(columns=COLUMNS), {}
    held = [at_site[key] for key in keys for at_site in scores]
    table, series = estimates(held, plan.rows[keys[0][1]], plan.targets, plan.subsets, weights)
    conditions = [_condition(key, span, options.probe) for key in keys]
    labels = pd.concat([_labels(condition, sites) for condition in conditions], ignore_index=True)
    table = pd.concat(
        [labels.iloc[table["index"]].reset_index(drop=True), table.drop(columns="index")], axis=1
    )
    tables, curves = [table], {}
    for position, condition in enumerate(conditions):
        place = slice(position * len(sites), (position + 1) * len(sites))
        along = {subset: whole.at(place) for subset, whole in series.items()}
        curves[condition] = (tuple(sites), along)
        tables += [part.assign(n=weights.shape[1]) for part in _along(condition, sites, along)]
    return pd.concat(tables, ignore_index=True), curves


def _along(condition: Condition, sites: Sequence[str], along: Mapping[str, Series]) -> Iterator[pd.DataFrame]:
    """Rows about whole curves: onset, p corrected for the maximum over sites, seen minus held-out."""
    chosen = np.array(
        [k for k, site in enumerate(sites) if site.endswith("hook_resid_post") or site == EMBED]
    )
    layers = np.array([layer_of(site) for site in sites])
    for subset, series in along.items():
        if len(chosen) > 1:
            stream = series.at(chosen)
            first = onset(stream.selectivity, stream.selectivity_draws, 0)
            yield _labels(condition, [""]).assign(
                target=subset, measure="onset", **_in_layers(first, layers[chosen])
            )
        if len(series.null) >= _ENOUGH_FOR_P:
            p = permutation_p(series.auroc, series.null)
            yield _labels(condition, sites).assign(target=subset, measure="p_corrected", value=p)
    if {"mean of seen", "mean of held-out"} <= set(along):
        seen, unseen = along["mean of seen"], along["mean of held-out"]
        value, draws = seen.auroc - unseen.auroc, seen.auroc_draws - unseen.auroc_draws
        yield _rows(condition, sites, "seen minus held-out", "auroc_difference", value, draws)


def _rows(condition, sites, target, measure, value, draws):
    lower, upper = interval(draws)
    return _labels(condition, sites).assign(
        target=target, measure=measure, value=value, lower=lower, upper=upper
    )


def _labels(condition: Condition, sites: Sequence[str]) -> pd.DataFrame:
    layers = [layer_of(site) if site else np.nan for site in sites]
    return pd.DataFrame({**condition._asdict(), "site": list(sites), "layer": layers})


def _condition(key: tuple[str, str, str], span: str, probe: str) -> Condition:
    train, test, transform = key
    steps = [int(name.split("@")[1]) for name in (train, test) if "@" in name]
    kinds = [name.split("@")[0] for name in (train, test)]
    modality = kinds[0] if kinds[0] == kinds[1] else "→".join(kinds)
    return Condition(
        max(steps, default=NO_STEP), span, modality, probe if transform == "raw" else f"{probe}, {transform}"
    )


def _sites(plan: Design, spans: Mapping[str, str], options: Options) -> list[str]:
    """The asked sites, or all that every store has.

    Raises:
        KeyError: a store lacks an asked site.
    """
    stores = [plan.sources[name].store for name in spans]
    shared = [site for site in stores[0].sites if all(site in store.sites for store in stores)]
    if missing := [site for site in options.sites or () if site not in shared]:
        raise KeyError(f"the stores have no site {missing[0]!r}; they share {', '.join(shared)}")
    return list(options.sites or shared)


def _in_layers(first: Estimate, layers: np.ndarray) -> dict[str, float]:
    """An onset counted in sites as one counted in layers; infinite stays infinite."""
    limits = {"value": first.value, "lower": first.lower, "upper": first.upper}
    return {name: float(layers[int(at)]) if np.isfinite(at) else at for name, at in limits.items()}
