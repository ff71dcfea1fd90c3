"""Stores made by hand, with a planted taxonomy: what analyses read, without a model."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analyses.inputs import leaf_rows, references
from probing.categories.massive import fit_treatment
from taxogen.world.taxonomy import Taxonomy

HYPERNYMS = {"bird": 8, "fruit": 8, "tool": 8, "vehicle": 8}
TAXONOMY = Taxonomy(tuple((f"{name} {k}", name) for name, size in HYPERNYMS.items() for k in range(size)))
LEAVES = TAXONOMY.leaves
SITES = ("hook_embed", *(f"blocks.{layer}.hook_resid_post" for layer in range(5)))
ONSET = 2
WIDTH = 24


@dataclass
class MemoryStore:
    """As much of an ActivationStore as analyses use."""

    values: dict
    columns: pd.DataFrame
    sites: tuple[str, ...] = SITES
    attributes: dict = field(default_factory=dict)

    @property
    def spans(self):
        return tuple(dict.fromkeys(span for _, span in self.values))

    @property
    def pooling(self):
        return dict.fromkeys(self.spans, "mean")

    @property
    def item_ids(self):
        return self.columns.index.to_numpy()

    def read(self, site, span):
        return self.values[site, span]


def columns_of(leaves, modality, seed):
    ids = [f"{np.random.default_rng((seed, k)).integers(1 << 40):010x}" for k in range(len(leaves))]
    return pd.DataFrame(
        {
            "leaf": leaves,
            "shown_leaf": leaves,
            "modality": modality,
            "picture": [f"{leaf}/{k}" if modality == "image" else "" for k, leaf in enumerate(leaves)],
            "split": "test",
        },
        index=pd.Index(ids, name="item_id"),
    )


def planted(strength=2.0, aligned=True, pictures=4, seed=0):
    """(picture store, text store): hypernyms cohere, and pictures are like words, from layer ONSET on."""
    rng = np.random.default_rng(seed)
    word = rng.standard_normal((len(LEAVES), WIDTH))
    category = rng.standard_normal((len(HYPERNYMS), WIDTH))[TAXONOMY.labels(LEAVES).argmax(1)]
    leaf_of = np.repeat(np.arange(len(LEAVES)), pictures)
    image_values, text_values = {}, {}
    for layer, site in enumerate(SITES, start=-1):
        on = layer >= ONSET
        means = rng.standard_normal((len(LEAVES), WIDTH)) + (
            strength * (word + category) if on and aligned else 0
        )
        rows = means[leaf_of] + 0.5 * rng.standard_normal((len(leaf_of), WIDTH))
        rows[:, 0] = 400 + 30 * rng.standard_normal(len(rows))
        words = word + category + 0.2 * rng.standard_normal(word.shape)
        for span, twin in (("image", "noun"), ("last", "last")):
            image_values[site, span] = rows.astype(np.float32)
            text_values[site, twin] = words.astype(np.float32)
    leaves = np.array(LEAVES)
    image = MemoryStore(image_values, columns_of(leaves[leaf_of], "image", seed))
    text = MemoryStore(text_values, columns_of(leaves, "text", seed + 1))
    shuffled = np.random.default_rng(seed).permutation(len(leaf_of))
    image.columns = image.columns.iloc[shuffled]
    image.values = {key: value[shuffled] for key, value in image.values.items()}
    return image, text


def garbage_in(store, hypernym, size=1e4):
    """The store with rows that mean nothing, and with a dimension that dwarfs all others, for leaves of a hypernym."""
    held = np.isin(store.columns["leaf"], TAXONOMY.leaves_of(hypernym))
    values = {}
    for number, (key, x) in enumerate(store.values.items()):
        x = x.copy()
        x[held] = size * np.random.default_rng(number).standard_normal(x[held].shape)
        x[held, 3] *= 1e4
        values[key] = x
    return MemoryStore(values, store.columns)


def fitting_spy(patch):
    """A list that every treatment fitted from now on is added to, in order."""
    fitted = []

    def spy(name, x):
        fitted.append(fit_treatment(name, x))
        return fitted[-1]

    for module in (leaf_rows, references):
        patch.setattr(module, "fit_treatment", spy)
    return fitted
