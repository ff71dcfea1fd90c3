"""Maps of leaves: two coordinates of every leaf by principal components or t-SNE, and a picture of each."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL.Image import Image

from analyses.frame import tables
from probing.store import ActivationStore
from taxogen.world.pictures import Pictures

MAPS = {"pca": ("pc1", "pc2"), "tsne": ("tsne1", "tsne2")}
Thumbnails = Callable[[str], Image]
_SIZE = 40  # of a thumbnail, pixels


def map_rows(
    x: Float[np.ndarray, "n d"], leaves: np.ndarray, kind: str, labels: dict, seed: int
) -> list[dict]:
    """Table rows with each leaf's place on the map, in units of the coordinates' standard deviations.

    Principal components also say which share of variance they hold. t-SNE keeps neighbours, not distances.

    Source: van der Maaten & Hinton 2008, JMLR 9 (t-SNE, from principal components).
    """
    places, shares = _components(x) if kind == "pca" else (_neighbourly(x, seed), ())
    rows = [
        tables.row(name, float(value), len(x), **labels, target=str(leaf))
        for name, column in zip(MAPS[kind], places.T)
        for leaf, value in zip(leaves, column / column.std())
    ]
    return rows + [
        tables.row(f"{name}_share", float(share), len(x), **labels, target="leaf")
        for name, share in zip(MAPS[kind], shares)
    ]


def thumbnails(store: ActivationStore, pictures: Pictures) -> Thumbnails:
    """A function that gives a small picture of a leaf, the first of those captured."""
    first = store.columns.sort_values("picture").drop_duplicates("leaf").set_index("leaf")["picture"]

    def thumbnail(leaf: str) -> Image:
        return pictures.open_or_blank(str(first[leaf])).resize((_SIZE, _SIZE))

    return thumbnail


def _components(x):
    """Coordinates on the first two principal components, each pointing where its largest leaf lies, and shares."""
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    u = u[:, :2] * np.where(u[np.abs(u[:, :2]).argmax(axis=0), [0, 1]] < 0, -1, 1)
    return u, (s**2 / (s**2).sum())[:2]


def _neighbourly(x, seed):
    from sklearn.manifold import TSNE  # slow to import, and rarely asked for

    perplexity = min(30.0, (len(x) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(x).astype(np.float64)
