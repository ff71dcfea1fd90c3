"""Checks of numbers about answers: means over hypernyms and seeds, single hypernyms, coherence, knowledge in words."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from analyses.inputs.answers import Part
from analyses.inputs.intervals import Rule
from analyses.inputs.measures import Frame, measured
from analyses.lm_knowledge.rows import _agreement, _four
from analyses.visual_coherence.coherence import Options, Shown, coherence, over_seeds
from probing.stats import Estimate
from probing.stats.correlations import correlation, mixed_slope
from probing.stats.hierarchical import table_interval
from tests.calibration.answers import Ways, sides
from tests.calibration.check import Check, Limits
from tests.calibration.worlds import members, pictures, spectrum, taxonomy

DRAWS = 60
PART = Part(scored="held_out")
MEANS = ("auroc", "macro_f1")
OF_LEAVES = ("top1", "leaf_naming", "leaf_top1", "leaf_macro_f1")
SINGLE = ("auroc", "macro_f1", "balanced_accuracy", "tpr", "tnr")


def _limits(estimates: list[Estimate]) -> Limits:
    return Limits(
        *(np.array([getattr(one, part) for one in estimates]) for part in ("value", "lower", "upper"))
    )


def _means(seed: int, ways: Ways, measures: tuple[str, ...]) -> Limits:
    """Of each measure the mean of one condition, and the contrast of two."""
    both, rule, estimates = sides(seed, ways), Rule(draws=DRAWS), []
    frame = Frame.of(both)
    for measure in measures:
        first, second = (measured(side, PART, measure, frame) for side in both)
        assert first is not None
        assert second is not None
        estimates.append(rule.mean(first.statistics, first.n))
        estimates.append(rule.contrast(first.statistics, second.statistics, first.n))
    return _limits(estimates)


def _each(seed: int, ways: Ways, measures: tuple[str, ...]) -> Limits:
    """Of each measure every hypernym."""
    condition, estimates = sides(seed, ways).first, []
    frame = Frame.of([condition])
    for measure in measures:
        found = measured(condition, PART, measure, frame)
        assert found is not None
        estimates += Rule(draws=200).each(found.statistics, found.counted.sum(axis=0), found.fewest)
    return _limits(estimates)


@cache
def _shown(seed: int, effect: float, counted: bool) -> Shown:
    """Features of pictures whose hypernyms cohere by `effect`; `counted`: their number goes with the hypernym."""
    rng, labels = np.random.default_rng([seed, 6]), members()
    directions = np.random.default_rng(0).normal(size=(labels.shape[1], 24)) / np.sqrt(24)
    states = rng.normal(size=(len(labels), 24)) * spectrum(24) + effect * labels @ directions
    counts = rng.integers(1, 4, len(labels))
    if counted:
        counts = np.where(labels[:, rng.permutation(labels.shape[1])[:8]].any(axis=1), 6, 1)
    rows, leaf = pictures(rng, states, counts, 0.7)
    return Shown(rows, rows, np.array(taxonomy().leaves)[leaf])


@cache
def _kinds(seed: int, rule: str) -> dict[str, dict[str, Estimate]]:
    options = Options(draws=200, permutations=19)
    return over_seeds([coherence(_shown(seed, 0.4, False), taxonomy(), rule, options)])


def _coherence(seed: int, rule: str, single: bool) -> Limits:
    kinds = _kinds(seed, rule)
    chosen = [
        [one for target, one in kind.items() if (target != "mean") == single] for kind in kinds.values()
    ]
    return _limits([one for kind in chosen for one in kind])


def _coherence_p(seed: int, counted: bool) -> np.ndarray:
    """Where nothing coheres: the p of the mean and of each hypernym, and whether the mean is above its limit."""
    found = coherence(_shown(seed, 0.0, counted), taxonomy(), "centred", Options(draws=20, permutations=199))
    above = float(np.nanmean(found.value)) > np.quantile(found.null, 0.95)
    return np.array([found.p_mean <= 0.05, above, np.nanmean(found.p <= 0.05)])


def _related(seed: int, runs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A cause of each hypernym, and its score in every run; what they share runs over leaves that hypernyms share."""
    rng, labels = np.random.default_rng([seed, 7]), members()
    leaves = rng.normal(size=(len(labels), 2)) + 0.5 * rng.normal(size=(len(labels), 1))
    means = (labels.T @ leaves) / labels.sum(axis=0)[:, None]
    cause = means[:, 0] + 0.5 * rng.normal(size=len(means))
    own = means[:, 1] + 0.4 * cause + 0.5 * rng.normal(size=len(means))
    return cause, own + 0.2 * rng.normal(size=(runs, len(means)))


def _correlated(seed: int) -> Limits:
    cause, score = _related(seed)
    pair = np.stack([cause, score.mean(axis=0)], axis=1)
    return _limits([correlation(pair, kind, 200) for kind in ("pearson", "spearman")])


def _slope(seed: int) -> Limits:
    cause, score = _related(seed)
    names = taxonomy().hypernyms
    rows = [
        {"hypernym": name, "condition": "one", "cause": cause[k], "score": run[k]}
        for run in score
        for k, name in enumerate(names)
    ]
    return _limits([mixed_slope(pd.DataFrame(rows))])


def _agreed(seed: int, runs: int, differing: float) -> Limits:
    """Agreement of answers about pictures with words, from the counts of each leaf."""
    rng, labels = np.random.default_rng([seed, 8]), members()
    hard = rng.normal(size=(len(labels), 1))
    words = rng.normal(size=labels.shape) + 0.7 * hard + 2.5 * labels > 1.6
    counts = np.zeros((runs, len(labels), 8))
    for run in counts:
        shift = differing * rng.normal()
        yes = rng.normal(size=labels.shape) + 0.7 * hard + (1.5 + shift) * labels + 0.7 * words > 1.6
        for leaf in range(len(labels)):
            kinds = _four(words[leaf], yes[leaf])
            run[leaf] = [*kinds.sum(axis=1), *(kinds & labels[leaf]).sum(axis=1)]
    return _limits(list(_agreement(counts, Rule(draws=DRAWS * 2)).values()))


def _finished(seed: int) -> Limits:
    """Finished scores of 53 hypernyms in three runs."""
    rng = np.random.default_rng([seed, 9])
    hypernym, run = 0.15 * rng.normal(size=53), 0.02 * rng.normal(size=(3, 1))
    return _limits([table_interval(0.6 + hypernym + run + 0.05 * rng.normal(size=(3, 53)))])


_WORLD = "answers about 1–3 pictures of 351 leaves under 34 overlapping hypernyms; "
_DOUBLE = "noise of single pictures counts among leaves, among hypernyms and among seeds"
_LEAVES = "leaves are draws of those that could have been"
_NAMES = tuple(f"behaviour.{name}" for name in SINGLE)


def _coverage(name: str, of: tuple[str, ...], says: str, world: str, assumes: str, **more: Any) -> Check:
    return Check(name=name, of=of, says=says, world=world, assumes=assumes, kind="coverage", **more)


CHECKS: tuple[Check, ...] = (
    *(
        _coverage(
            f"answers_{name}",
            (*_NAMES, *(f"lm_knowledge.{one}" for one in (*SINGLE, "auroc_by_height"))) if not ways.seeds else _NAMES,
            f"hypernym AUROC and macro-F1, mean over hypernyms and seeds ({ways.runs}); contrast",
            _WORLD + world,
            f"leaves and hypernyms are draws; {'so are seeds' if ways.runs > 1 else 'the seed is fixed'}",
            trial=partial(_means, ways=ways, measures=MEANS),
            trials=120,
            conservative=_DOUBLE,
        )
        for name, world, ways in (
            ("of_one_seed", "hypernyms drawn anew", Ways()),
            ("of_nothing", "nothing is known", Ways(effect=0.0, runs=3)),
            ("of_seeds_that_differ", "hypernyms drawn anew, seeds differ", Ways(seeds=0.15, runs=3)),
        )
    ),
)  # fmt: skip
CHECKS += (
    *(
        _coverage(
            f"answers_about_leaves_{name}",
            tuple(f"behaviour.{one}" for one in OF_LEAVES),
            f"top-1 hypernym, leaf naming and its macro-F1, mean over seeds ({ways.runs}); contrast",
            _WORLD + world,
            "leaves and seeds are draws; hypernyms are fixed",
            trial=partial(_means, ways=ways, measures=OF_LEAVES),
            trials=80,
            conservative=_DOUBLE,
        )
        for name, world, ways in (
            ("of_one_seed", "one seed", Ways(redrawn=False)),
            ("alike", "three seeds that do not differ", Ways(redrawn=False, runs=3)),
            ("apart", "three seeds that differ", Ways(redrawn=False, seeds=0.15, runs=3)),
        )
    ),
    *(
        _coverage(
            f"answers_about_one_hypernym_{name}",
            (*_NAMES, *(f"lm_knowledge.{one}" for one in SINGLE)),
            f"scores of every hypernym, {name.replace('_', ' ')}",
            _WORLD + "of 4 to 97 leaves",
            _LEAVES,
            trial=partial(_each, ways=ways, measures=SINGLE),
            trials=60,
            conservative="few leaves: Student's t of as many; rates of steps",
        )
        for name, ways in (
            ("of_one_seed", Ways(redrawn=False)),
            ("of_three_seeds", Ways(redrawn=False, seeds=0.15, runs=3)),
        )
    ),
    *(
        _coverage(
            f"visual_coherence_{rule}{'_single' * single}",
            tuple(f"visual_coherence.{one}" for one in ("within", "between", "coherence")),
            f"mean cosines {'of every hypernym' if single else 'over hypernyms'}, rule {rule}",
            "1–3 pictures of 351 leaves under 34 overlapping hypernyms that cohere",
            _LEAVES,
            trial=partial(_coherence, rule=rule, single=single),
            trials=80,
            conservative="hypernyms differ in size, and the interval is over other hypernyms too",
        )
        for rule in ("centred", "study")
        for single in (False, True)
    ),
    *(
        Check(
            name=f"visual_coherence_p{'_counts' * counted}",
            of=("visual_coherence.p", "visual_coherence.null_limit"),
            says="p of coherence of the mean and of each hypernym, and the limit of the mean",
            world="nothing coheres" + (", and hypernyms differ in pictures" if counted else ""),
            assumes="leaves can be exchanged among hypernyms",
            kind="false positives",
            trial=partial(_coherence_p, counted=counted),
            trials=150,
        )
        for counted in (False, True)
    ),
    _coverage(
        "correlations_over_hypernyms",
        (
            *(f"{one}.{kind}" for one in ("visual_coherence", "lm_knowledge") for kind in ("pearson", "spearman")),
            "lm_knowledge.spearman_height",
        ),
        "correlation of two numbers of 34 hypernyms",
        "hypernyms share leaves and differ in size",
        "hypernyms are independent draws",
        trial=_correlated,
        trials=400,
    ),
    _coverage(
        "slope_over_hypernyms",
        ("visual_coherence.slope",),
        "slope of a mixed model of 34 hypernyms in three runs",
        "hypernyms share leaves and differ in size",
        "hypernyms are independent draws with normal intercepts",
        trial=_slope,
        trials=200,
    ),
    *(
        _coverage(
            f"agreement_{name}",
            tuple(f"lm_knowledge.{one}" for one in ("agreement", "kappa", "yes_if_known", "yes_if_unknown")),
            f"agreement of words and pictures, {name.replace('_', ' ')}",
            "351 leaves under 34 overlapping hypernyms, some leaves harder than others",
            _LEAVES,
            trial=partial(_agreed, runs=runs, differing=differing),
            trials=300,
            conservative="variances of leaves and of seeds are added" if runs > 1 else "",
        )
        for name, runs, differing in (("of_one_seed", 1, 0.0), ("of_three_seeds", 3, 0.1))
    ),
    _coverage(
        "published_means",
        ("published.macro_f1_crossed",),
        "mean of finished scores of 53 hypernyms in three runs",
        "hypernyms and runs differ",
        "hypernyms and seeds are draws",
        trial=_finished,
        trials=400,
    ),
)  # fmt: skip
