"""Rows of the `published` analysis about the design: evidence that the study removes, leaves that it exchanges."""

from __future__ import annotations

import numpy as np

from analyses.inputs.published.released import Released
from analyses.inputs.published.scores import Row, row
from probing.stats import estimate
from taxogen.questions import ablation
from taxogen.world import shuffle

SEEDS = 100


def design(data: Released, seeds: int = SEEDS) -> list[Row]:
    """Evidence removed and leaves exchanged by the study's rules, by this project's functions on THINGS leaves."""
    taxonomy, rows = data.taxonomy(), []
    for amount, listed in sorted(data.mapping("systematic_lists.json").items()):
        removal = ablation.plan(taxonomy, "systematic", rule="leaf", held_out=listed)
        rows.append(
            row(
                "systematic_leaf_rule",
                amount,
                "leaves",
                "removed",
                len(removal.leaves),
                n=len(taxonomy.leaves),
            )
        )
        rows.append(
            row(
                "systematic_leaf_rule", amount, "pairs", "share", removal.effective, n=int(removal.true.sum())
            )
        )
    for fraction in (0.1, 0.3, 0.5, 0.7, 0.9):
        pair, *shares = (
            ablation.plan(taxonomy, "random", rule=rule, fraction=fraction, seed=seed).effective
            for rule, seed in (("pair", 0), *(("leaf", seed) for seed in range(seeds)))
        )
        found = estimate(float(np.mean(shares)), np.array(shares), seeds)
        rows.append(
            row("random_leaf_rule", str(fraction), "pairs", "share", found, sd=float(np.std(shares, ddof=1)))
        )
        rows.append(
            row(
                "random_pair_rule",
                str(fraction),
                "pairs",
                "share",
                pair,
                n=int(taxonomy.labels(taxonomy.leaves).sum()),
            )
        )
    exact = [len(members) for members in shuffle.exact_groups(taxonomy).values()]
    lone = shuffle.orphans(taxonomy)
    found = {
        "groups": len(exact),
        "singletons": exact.count(1),
        "pairs": exact.count(2),
        "orphans": len(lone),
    }
    rows += [row("within_shuffle_groups", "things", "leaves", name, number) for name, number in found.items()]
    rows += [row("within_shuffle_groups", "things", name, "orphan", 1) for name in lone]
    named = [leaf for leaf in taxonomy.leaves if leaf.endswith(" (leaf)")]
    return rows + [row("leaves_named_as_hypernyms", "things", leaf, "found", 1) for leaf in named]
