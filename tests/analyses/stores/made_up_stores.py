"""Activation stores that no run made: a tiny vision-language model captured on made-up pictures and words."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from analyses.frame import registry
from probing.capture import CaptureBatch, capture
from probing.store import ActivationStore
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.leaf_stores import LEAVES, TAXONOMY
from tests.probing.tiny_models import tiny

SITES = "blocks.*.hook_resid_post"
PICTURES = 3
OF_STORES = tuple(name for name in registry.questions() if not isinstance(registry.load(name).of_stores, str))
OF_MODELS = tuple(name for name in registry.questions() if name not in OF_STORES)
BOTH = ("--images", "pictures", "--text", "words", "--taxonomy", "taxonomy.csv")
_IMAGE_TOKEN = 119


def write_pictures(
    path: Path, seed: int = 0, leaves=LEAVES, column="leaf", sites=SITES, **more
) -> ActivationStore:
    """Rows of a tiny LLaVA: pictures of one hypernym have a colour, and each picture noise of its own."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(0).uniform(-2, 2, (len(TAXONOMY.hypernyms), 3, 1, 1))
    ids = torch.tensor([[1, *[_IMAGE_TOKEN] * 4, 5, 6, 7]]).repeat(PICTURES, 1)
    batches = []
    for leaf in leaves:
        noise = 0.3 * rng.standard_normal((PICTURES, 3, 8, 8))
        pixels = colours[TAXONOMY.labels([leaf]).argmax()] + noise
        inputs = {"input_ids": ids, "pixel_values": torch.tensor(pixels, dtype=torch.float32)}
        inputs["attention_mask"] = torch.ones_like(ids)
        names = [f"{leaf} {number}" for number in range(PICTURES)]
        spans = {"image": [(1, 2, 3, 4)] * PICTURES, "last": [(7,)] * PICTURES}
        batches.append(CaptureBatch(inputs, names, spans, {column: [leaf] * PICTURES}))
    return capture(tiny("llava"), batches, path, sites=sites, **more)


def write_words(path: Path, leaves=LEAVES, model=None, noun="noun", last="last", **more) -> ActivationStore:
    """Rows of the same model about words that have nothing in common with their hypernym."""
    batches = []
    for leaf in leaves:
        ids = torch.tensor([[1, 20 + LEAVES.index(leaf), 5, 6, 7]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        batches.append(CaptureBatch(inputs, [f"word {leaf}"], {noun: [(1,)], last: [(4,)]}, {"leaf": [leaf]}))
    return capture(model or tiny("llava"), batches, path, sites=SITES, **more)


def write_taxonomy(path: Path, taxonomy: Taxonomy = TAXONOMY) -> Path:
    """The table of a taxonomy."""
    taxonomy.write(path)
    return path


def again(path, write, **settings):
    """Captures into a folder anew."""
    shutil.rmtree(path)
    write(Path(path), **settings)


def refused(capsys, name, *flags):
    """The one line with which a command line is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        registry.load(name).main(list(flags))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"python -m analyses.{name}: ")
    return line
