"""Probes of every site of activation stores, within and across modalities: rows, curves and directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from analyses.frame.parts import Progress
from analyses.frame.tables import NO_STEP
from analyses.inputs.encoder import ENCODER
from analyses.inputs.leaf_rows import places
from analyses.layer_probes.at_span import AtSpan, Keep, made_at_once
from analyses.layer_probes.design import Design, design
from analyses.layer_probes.options import Options
from analyses.layer_probes.table import COLUMNS, Curves, Key, code_rows, rows_and_curves
from probing.probes import PROBES
from probing.probes.description_length import online_code
from probing.probes.held_out import HeldOut, held_out_scores
from probing.probes.places import put
from probing.sites import EMBED, FINAL
from probing.stats import draw_weights
from probing.store import ActivationStore
from taxogen.world.taxonomy import Taxonomy


@dataclass(frozen=True)
class LayerProbes:
    """Probes of one run.

    Attributes:
        table: the long table of estimates.
        curves: for contrasts between runs.
        directions: (step, span, modality, site) → unit vectors [d, targets] in raw activations along which the score
            of a target grows, averaged over the folds' probes.
        targets: names of the targets.
        leaves: the leaf concepts that the probes were fitted and tested on.
        undefined: a line about each number that is NaN: which, and why.
    """

    table: pd.DataFrame
    curves: Curves
    directions: Mapping[tuple[int, str, str, str], np.ndarray]
    targets: tuple[str, ...]
    leaves: tuple[str, ...]
    undefined: tuple[str, ...] = ()

    def write_directions(self, path: Path, run: str) -> None:
        """Writes modality/step/span/site → directions [targets, d] as HDF5; text rows stand under the step "none"."""
        with h5py.File(path, "w") as file:
            file.attrs.update(
                run=run, targets=list(self.targets), what="mean over folds of the probes' unit directions"
            )
            for (step, span, modality, site), values in self.directions.items():
                name = f"{modality}/{'none' if step == NO_STEP else step}/{span}/{site}"
                file.create_dataset(name, data=values.T.astype(np.float32))


@dataclass(frozen=True)
class _AtSite:
    """Scores of each condition, directions of each modality and code lengths at one site."""

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
        ValueError: a target that the split cannot have.
        MismatchError: the stores do not belong together.
    """
    plan = design(images, text, taxonomy, options, encoder, source_of)
    return probe_spans(plan, places(images, text, options.spans), options)


def probe_spans(
    plan: Design,
    spans: Sequence[tuple[str, str, str]],
    options: Options,
    keep: Keep = made_at_once,
    what: str = "",
) -> LayerProbes:
    """The probes of a design at some spans: each with its name in the stores of pictures and in that of text.

    Args:
        plan: what probes are fitted to.
        spans: a name in the table, in pictures and in text.
        options: how layers are probed.
        keep: gives what there is under a name, or makes it.
        what: is probed, where the time left is to be said.
    """
    weights = draw_weights(len(plan.leaves), options.draws, options.seed)
    chosen: list[tuple[str, list[str], dict[str, str]]] = []
    for position, (span, in_pictures, in_text) in enumerate(spans):
        names = {name: in_text if name == "text" else in_pictures for name in plan.sources}
        names = {name: place for name, place in names.items() if place}
        featured = position == 0 and any(one.encoder is not None for one in plan.sources.values())
        chosen.append((span, ([ENCODER] if featured else []) + _sites(plan, names, options), names))
    done: list[AtSpan] = []
    # One thread of linear algebra a worker: a threaded eigendecomposition of this size gains little.
    with (
        threadpool_limits(1),
        ThreadPoolExecutor(options.workers) as pool,
        Progress(what, "sites", sites=sum(len(sites) for _, sites, _ in chosen)) as progress,
    ):
        for span, sites, names in chosen:
            before = progress.ended

            def make(span=span, sites=sites, names=names) -> AtSpan:
                scored = pool.map(lambda site: _at_site(plan, site, names, options), sites)
                at_sites = {}
                for site, at_site in zip(sites, scored):
                    at_sites[site] = at_site
                    progress.done()
                return _at_span(plan, span, at_sites, weights, options, pool)

            done.append(keep(f"{span}{'-encoder' * (ENCODER in sites)}", make))
            progress.known(len(sites) - (progress.ended - before))
    table = pd.concat([one.table for one in done], ignore_index=True)
    table = table.assign(run="", analysis="layer_probes", split=options.split, seed=options.seed)
    curves = {condition: curve for one in done for condition, curve in one.curves.items()}
    directions = {place: values for one in done for place, values in one.directions.items()}
    undefined = tuple(dict.fromkeys(line for one in done for line in one.undefined))
    return LayerProbes(table[list(COLUMNS)], curves, directions, plan.targets, plan.leaves, undefined)


def _at_span(
    plan: Design,
    span: str,
    at_sites: Mapping[str, _AtSite],
    weights: np.ndarray,
    options: Options,
    pool: ThreadPoolExecutor,
) -> AtSpan:
    """What the scores of all sites of a span come to."""
    directions = {
        (_step(name), span, name.split("@")[0], site): values
        for site, at_site in at_sites.items()
        for name, values in at_site.directions.items()
    }
    scores = {site: at_site.scores for site, at_site in at_sites.items()}
    waiting = [
        pool.submit(rows_and_curves, plan, scores, span, modality, weights, options.probe)
        for modality in ("image", "text")
    ]
    if options.code:
        bits = {site: at_site.bits for site, at_site in at_sites.items()}
        waiting.append(pool.submit(code_rows, plan, bits, span, weights, options.probe))
    results = [job.result() for job in waiting]
    table = pd.concat([part for part, _ in results if len(part)], ignore_index=True)
    curves = {condition: curve for _, part in results for condition, curve in part.items()}
    return AtSpan(table, curves, directions, _named(dict.fromkeys(_reasons(scores)), plan))


def _reasons(scores: Mapping[str, Mapping[Key, HeldOut]]) -> Iterator[tuple[str, int, int]]:
    """(modality that was trained on, fold, target) of every probe that could not be trained."""
    for at_site in scores.values():
        for (train, _, _), held in at_site.items():
            yield from ((train, fold, target) for fold, target in held.undefined)


def _named(undefined: Mapping[tuple[str, int, int], None], plan: Design) -> tuple[str, ...]:
    """A line about each probe that could not be trained."""
    return tuple(
        f"{train}: fold {fold} has no AUROC of {plan.targets[target]!r}: its training rows are of one class"
        for train, fold, target in undefined
    )


def _at_site(plan: Design, site: str, spans: Mapping[str, str], options: Options) -> _AtSite:
    """Probes of one site and place, of every modality that has it."""
    names = [name for name in spans if site != ENCODER or name != "text"]
    features = {name: put(plan.sources[name].read(site, spans[name]), options.device) for name in names}
    rows = {name: plan.rows[name] for name in names}
    fit, at_site = PROBES[options.probe], _AtSite({}, {}, {})
    for train in names:
        across = [name for name in names if (name == "text") != (train == "text")]
        tests = [(train, "raw"), *((name, transform) for name in across for transform in options.transforms)]
        held, direction = held_out_scores(fit, features, rows, train, tests, options.penalties)
        at_site.scores.update({(train, *test): scores for test, scores in held.items()})
        at_site.directions[train] = direction
        if options.code:
            at_site.bits[train] = [
                online_code(
                    features[train], labels, rows[train].groups, fit, options.penalties, seed=options.seed
                )
                for labels in (rows[train].labels, *rows[train].controls[:1])
            ]
    return at_site


def _sites(plan: Design, spans: Mapping[str, str], options: Options) -> list[str]:
    """The sites that are asked for, by default those of the residual stream that every store has.

    Raises:
        KeyError: a store lacks one of them.
    """
    stores = [plan.sources[name].store for name in spans]
    shared = [site for site in stores[0].sites if all(site in store.sites for store in stores)]
    wanted = every_site(stores[0]) if options.all_sites else options.sites
    if wanted is None:
        return [site for site in shared if site.endswith("hook_resid_post") or site in (EMBED, FINAL)]
    if missing := [site for site in wanted if site.partition("#")[0] not in shared]:
        raise KeyError(f"the stores have no site {missing[0]!r}; they share {', '.join(shared)}")
    return list(wanted)


def every_site(store: ActivationStore) -> tuple[str, ...]:
    """All sites of a store, `attn.hook_z` head by head; attention patterns hold no features and are left out."""
    sites: list[str] = []
    for site in store.sites:
        if site.endswith("attn.hook_z"):
            heads = store.read(site, store.spans[0], [0]).shape[1]
            sites += [f"{site}#{head}" for head in range(heads)]
        elif not site.endswith("hook_pattern"):
            sites.append(site)
    return tuple(sites)


def _step(name: str) -> int:
    return int(name.split("@")[1]) if "@" in name else NO_STEP
