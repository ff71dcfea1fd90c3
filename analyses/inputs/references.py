"""What picture rows are compared with: text rows of the same prompt, bare nouns, another model, the taxonomy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped

from analyses.inputs import leaf_rows
from analyses.inputs.leaf_rows import LeafRows
from probing.categories.massive import fit_treatment
from probing.hooks import record
from probing.similarity import Measure
from probing.similarity.gram import leaf_means, u_centre
from taxogen.models.lms import LM
from taxogen.questions.nouns import spoken
from taxogen.world.taxonomy import Taxonomy

TWIN = "same prompt"
TAXONOMIC = "taxonomic distance"


@dataclass(frozen=True)
class Nouns:
    """What another model, or the same without a prompt, makes of leaf names: site → row of each leaf."""

    leaves: tuple[str, ...]
    layers: Mapping[str, Float[np.ndarray, "leaves d"]]


@dataclass(frozen=True)
class References:
    """What pictures are compared with at one place: text rows, nouns, the taxonomy; all under one treatment."""

    twin: tuple[LeafRows, str] | None
    nouns: Mapping[str, Nouns]
    taxonomy: Taxonomy
    measure: Measure
    treatment: str

    def matrix(self, x: Float[np.ndarray, "leaves d"]) -> Float[np.ndarray, "leaves leaves"]:
        """The measure's matrix of leaf means."""
        assert self.measure.matrix is not None
        return self.measure.matrix(x)

    def matrices(self, leaves: Shaped[np.ndarray, " leaves"]) -> dict[str, dict[str, np.ndarray]]:
        """Reference → site → matrix over these leaves; sites where nothing varies are left out."""
        found: dict[str, dict[str, np.ndarray]] = {}
        if self.twin is not None:
            rows = self.twin[0]
            kept = np.isin(rows.leaves, leaves)
            for site in rows.store.sites:
                x = leaf_rows.read_treated({"text": self.twin}, site, self.treatment).get("text")
                if x is not None:
                    means = leaf_means(x.whole()[kept], rows.leaves[kept])[0]
                    found.setdefault(TWIN, {})[site] = self.matrix(means)
        for name, known in self.nouns.items():
            order = [known.leaves.index(leaf) for leaf in leaves.tolist()]
            for site, x in known.layers.items():
                x = np.asarray(x, dtype=np.float64)
                if (x != x[:1]).any():
                    treated = fit_treatment(self.treatment, x)(x)
                    found.setdefault(name, {})[site] = self.matrix(treated[order])
        distances = taxonomic_distances(self.taxonomy, leaves.tolist())
        if np.ptp(distances[~np.eye(len(leaves), dtype=bool)]) > 0:
            found[TAXONOMIC] = {"taxonomy": u_centre(-distances / 2)}
        return found


def bare_nouns(lm: LM, leaves: Sequence[str], sites: Sequence[str]) -> Nouns:
    """Activations at the last token of each leaf's name, read alone after the model's start token if it has one.

    Each name is a batch of its own: no padding, hence no padding to get wrong.

    Raises:
        KeyError: a site that the model has not.
    """
    start = [] if lm.start_token_id is None else [lm.start_token_id]
    layers: dict[str, list[np.ndarray]] = {}
    with torch.no_grad(), record(lm.model, list(sites)) as seen:
        for leaf in leaves:
            ids = start + lm.tokenizer(f" {spoken(leaf)}", add_special_tokens=False)["input_ids"]
            lm.model(input_ids=torch.tensor([ids], device=lm.model.device))
            for site, value in seen.items():
                layers.setdefault(site, []).append(value[0, -1].float().cpu().numpy())
    return Nouns(tuple(leaves), {site: np.stack(values) for site, values in layers.items()})


def taxonomic_distances(taxonomy: Taxonomy, leaves: Sequence[str]) -> Float[np.ndarray, "leaves leaves"]:
    """Steps through the taxonomy between leaves; leaves that nothing joins are 2 further than the furthest pair."""
    distances = np.array([[taxonomy.path_distance(a, b) for b in leaves] for a in leaves], dtype=float)
    joined = np.isfinite(distances)
    return np.where(joined, distances, distances[joined].max() + 2)
