"""PatchProbe: linear hypernym probes of pooled pictures, put to single tokens of a held-out leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from probing.probes import PROBES
from probing.sites import Site
from probing.store import ActivationStore
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

FEWEST = 3
"""Leaves that a hypernym must have beside the one that is held out."""
_POINT = "hook_resid_post"


@dataclass(frozen=True)
class PatchProbe:
    """Pooled pictures on which probes are fitted, one hypernym and held-out leaf at a time.

    Attributes:
        pooled: site → states of each captured picture, the mean over its tokens.
        leaves: of each picture.
        taxonomy: what is above each leaf.
    """

    pooled: Mapping[str, Float[np.ndarray, "pictures width"]]
    leaves: np.ndarray
    taxonomy: Taxonomy

    @classmethod
    def of(cls, run: Run, step: int, layers: Sequence[int]) -> PatchProbe:
        """The probes of a run's captured pictures.

        Raises:
            FileNotFoundError: nothing was captured at that step.
            KeyError: a layer was not captured.
        """
        store = run.store(step)
        sites = [f"blocks.{layer}.{_POINT}" for layer in chosen_layers(store, layers)]
        pooled = {site: np.asarray(store.read(site, "image"), np.float64) for site in sites}
        return cls(pooled, store.columns["leaf"].to_numpy().astype(str), run.taxonomy)

    @staticmethod
    def check(run: Run, step: int, layers: Sequence[int]) -> None:
        """Refuses what `of` refuses, without reading a state."""
        chosen_layers(run.store(step), layers)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of its states."""
        return tuple(self.pooled)

    def scores(
        self, site: str, leaf: str, states: Float[np.ndarray, "tokens width"]
    ) -> Float[np.ndarray, " tokens"]:
        """Mean decision value of the leaf's hypernyms for each token, by probes fitted without that leaf; else NaN."""
        others = self.leaves != leaf
        own = [name in self.taxonomy.hypernyms_of(leaf) for name in self.taxonomy.hypernyms]
        labels = np.asarray(self.taxonomy.labels(self.leaves[others].tolist()))[:, own].astype(float)
        groups = self.leaves[others]
        counts = [len(set(groups[column > 0])) for column in labels.T]
        labels = labels[:, [FEWEST <= count < len(set(groups)) for count in counts]]
        if not labels.shape[1]:
            return np.full(len(states), np.nan)
        probes = PROBES["ridge"](self.pooled[site][others], labels, groups)
        return probes.scores(states.astype(np.float64)).mean(1)


def chosen_layers(store: ActivationStore, layers: Sequence[int]) -> tuple[int, ...]:
    """The layers that were asked for; the middle one of those that were captured where none was.

    Raises:
        KeyError: one was not captured.
    """
    parsed = [Site.parse(name) for name in map(str, store.sites)]
    known = [site.layer for site in parsed if site.point == _POINT and site.layer is not None]
    if unknown := [layer for layer in layers if layer not in known]:
        raise KeyError(
            f"--layer {unknown[0]} was asked for; {store.path} has {_POINT} of layers "
            f"{', '.join(map(str, known)) or 'none'}"
        )
    if not known:
        raise KeyError(f"{store.path} has no {_POINT}; leave the probe out (--map …), or capture it")
    return tuple(layers) or (known[len(known) // 2],)
