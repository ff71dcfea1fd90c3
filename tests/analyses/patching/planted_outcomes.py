"""Planted outcomes of patched runs, where placebos are not null: cells of layers, pairs that share leaves."""

import numpy as np

from analyses.inputs.stimuli.pairs import Pair
from analyses.patching.options import Options
from probing.patching import Cell
from probing.sites import Site

HYPERNYMS = 9
PAIRS = [
    Pair(
        f"leaf{i}", f"other{i}", f"kind{i % HYPERNYMS}", f"kind{(i + 1 + i % 4) % HYPERNYMS}", i % 3 == 0,
        "sibling", "stranger",
    )
    for i in range(80)
]  # fmt: skip
"""Pairs that share hypernyms, the unit that is drawn, now on the one side and now on the other."""


def whole(layers, spans=("slot", "cue", "last"), point="hook_resid_post", window=1):
    """Cells of windows that end at each of some layers."""
    sites = {layer: tuple(Site(point, layer - back) for back in reversed(range(window))) for layer in layers}
    return [Cell(sites[layer], span) for span in spans for layer in layers]


def planted(cells, seed=0, noise=0.1, base=-1.0, donor=3.0, options=None, **states):
    """Outcomes in which the effect of each kind of state is planted cell by cell, and everything else is drawn.

    Args:
        cells: where.
        seed: of the noise.
        noise: its standard deviation over pairs.
        base: log-odds of the patched run; a spread of 1 over pairs.
        donor: log-odds of the run that states come from; likewise.
        options: name the kinds.
        states: kind → effect of each cell.
    """
    options = options or Options()
    rng, shape = np.random.default_rng(seed), (len(options.kinds), len(cells), len(PAIRS))
    before = base + rng.normal(0, 1, len(PAIRS))
    effects = np.array([np.broadcast_to(states.get(kind, 0.0), len(cells)) for kind in options.kinds], float)
    outcomes = {
        "log_odds": before + effects[..., None] + rng.normal(0, noise, shape),
        "base": before,
        "donor": donor + rng.normal(0, 1, len(PAIRS)),
        "kl": rng.uniform(0, 1, shape),
        **{name: rng.normal(0, 1, shape) for name in ("up", "down", "shared", "other")},
        "own": rng.uniform(0, 1e-6, (2, len(cells))),
    }
    outcomes["shared"][..., ::4] = np.nan  # pairs that share no hypernym
    return outcomes
