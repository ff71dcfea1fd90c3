"""References for picture rows: text rows of the same prompt, bare nouns, another model, the taxonomy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from probing.similarity.rsa import off_diagonal_centred, off_diagonal_ranks
from taxogen.models.lms import LM
from taxogen.questions.nouns import spoken
from taxogen.world.taxonomy import Taxonomy

TWIN = "same prompt"
TAXONOMIC = "taxonomic distance"


def _ranked(distances: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    return off_diagonal_centred(off_diagonal_ranks(distances))


_OF_DISTANCES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "rsa_pearson": off_diagonal_centred,
    **dict.fromkeys(("rsa_spearman", "rsa_cosine", "rsa_correlation", "rsa_mahalanobis"), _ranked),
}
"""Measures whose matrix grows with distance → that matrix from distances; those of all others grow with likeness."""


@dataclass(frozen=True)
class Nouns:
    """Activations of another model, or of the same without a prompt, for leaf names: site → a row for each leaf."""

    leaves: tuple[str, ...]
    layers: Mapping[str, Float[np.ndarray, "leaves d"]]


@dataclass(frozen=True)
class References:
    """The references at one place: text rows, nouns, the taxonomy; all under one treatment.

    Attributes:
        twin: rows of text and their span; None where text was not captured.
        nouns: by name.
        taxonomy: of the leaves.
        measure: of similarity.
        treatment: of massive activations.
        held_out: leaves whose rows no treatment is fitted on, as long as there are others.
    """

    twin: tuple[LeafRows, str] | None
    nouns: Mapping[str, Nouns]
    taxonomy: Taxonomy
    measure: Measure
    treatment: str
    held_out: Sequence[str] = ()

    def matrix(self, x: Float[np.ndarray, "leaves d"]) -> Float[np.ndarray, "leaves leaves"]:
        """The measure's matrix of leaf means."""
        assert self.measure.matrix is not None
        return self.measure.matrix(x)

    def matrices(self, leaves: Shaped[np.ndarray, " leaves"]) -> dict[str, dict[str, np.ndarray]]:
        """Reference → site → matrix over these leaves; sites where nothing varies are left out."""
        matrices = {TWIN: self._of_text(leaves)}
        matrices |= {name: self._of_nouns(nouns, leaves) for name, nouns in self.nouns.items()}
        distances = taxonomic_distances(self.taxonomy, leaves.tolist())
        if np.ptp(distances[~np.eye(len(leaves), dtype=bool)]) > 0:
            matrices[TAXONOMIC] = {"taxonomy": taxonomic_matrix(self.measure, distances)}
        return {name: by_site for name, by_site in matrices.items() if by_site}

    def _of_text(self, leaves: Shaped[np.ndarray, " leaves"]) -> dict[str, np.ndarray]:
        if self.twin is None:
            return {}
        rows, matrices = self.twin[0], {}
        own = np.isin(rows.leaves, leaves)
        for site in rows.store.sites:
            x = leaf_rows.read_treated({"text": self.twin}, site, self.treatment).get("text")
            if x is not None:
                matrices[site] = self.matrix(leaf_means(x.whole()[own], rows.leaves[own])[0])
        return matrices

    def _of_nouns(self, nouns: Nouns, leaves: Shaped[np.ndarray, " leaves"]) -> dict[str, np.ndarray]:
        order = [nouns.leaves.index(leaf) for leaf in leaves.tolist()]
        seen = ~np.isin(nouns.leaves, list(self.held_out))
        matrices = {}
        for site, x in nouns.layers.items():
            x = np.asarray(x, dtype=np.float64)
            if (x != x[:1]).any():
                treatment = fit_treatment(self.treatment, x[seen] if seen.any() else x)
                matrices[site] = self.matrix(treatment(x)[order])
        return matrices


def taxonomic_matrix(
    measure: Measure, distances: Float[np.ndarray, "leaves leaves"]
) -> Float[np.ndarray, "leaves leaves"]:
    """Distances between leaves in the convention of a measure's matrix, so that agreement is positive.

    Correlations of dissimilarities (`rsa_*`) take the distances, or their ranks; measures of inner products take the
    U-centred similarity −distance / 2.
    """
    return _OF_DISTANCES.get(measure.name, lambda d: u_centre(-d / 2))(distances)


def bare_nouns(lm: LM, leaves: Sequence[str], sites: Sequence[str]) -> Nouns:
    """Activations at the last token of each leaf's name, read alone after the model's start token if it has one.

    Each name is a batch of its own: no padding, hence no padding to get wrong.

    Raises:
        KeyError: a site that the model has not.
    """
    start = [] if lm.start_token_id is None else [lm.start_token_id]
    layers: dict[str, list[np.ndarray]] = {}
    with torch.no_grad(), record(lm.model, list(sites), keep="last") as seen:
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
