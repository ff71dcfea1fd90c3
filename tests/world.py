"""A whole toy experiment on disk: coloured pictures, a tiny vision transformer, a tiny language model, a config."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model, ViTImageProcessorPil

from taxogen.runs import config
from taxogen.runs.config import Config
from tests.conftest import LEAVES

PICTURES = 8


def write_pictures(folder: Path) -> Path:
    """8 pictures of 14 × 14 for each leaf: its own colour, near that of its hypernym, and noise."""
    rng = np.random.default_rng(0)
    base = dict(zip(LEAVES, ((200, 60, 60), (60, 200, 60), (60, 60, 200)), strict=True))
    for hypernym, leaves in LEAVES.items():
        for leaf in leaves:
            (folder / leaf).mkdir(parents=True, exist_ok=True)
            colour = np.array(base[hypernym]) + rng.integers(-40, 40, 3)
            for number in range(PICTURES):
                pixels = np.clip(colour + rng.normal(0, 12, (14, 14, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / leaf / f"{hypernym}{number}.png")
    return folder


def write_encoder(folder: Path) -> Path:
    """A two-block vision transformer of width 16 with random weights."""
    torch.manual_seed(0)
    size = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=14, patch_size=7
    )
    Dinov2Model(size).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 14, "width": 14}).save_pretrained(folder)
    return folder


def write_taxonomy(path: Path) -> Path:
    """The table of the toy taxonomy."""
    rows = [f"{leaf},{hypernym}" for hypernym, leaves in LEAVES.items() for leaf in leaves]
    path.write_text("\n".join(["leaf,hypernym", *sorted(rows)]) + "\n", encoding="utf-8")
    return path


def write_world(folder: Path, toy_lm: Path) -> tuple[str, ...]:
    """Everything a toy run needs, in a folder; the settings that name it."""
    return (
        f"data.pictures={write_pictures(folder / 'pictures')}",
        f"data.taxonomy={write_taxonomy(folder / 'taxonomy.csv')}",
        f"model.encoder={write_encoder(folder / 'encoder')}",
        f"model.lm={toy_lm}",
        "model.hidden=16",
        "model.image_tokens=2",
        "model.dtype=float32",
        "train.steps=12",
        "train.batch=8",
        "train.snapshots=0,last",
        "train.checkpoint_seconds=0",
        "capture.at=0,4,last",
        "capture.pictures_per_leaf=0",
        "evaluate.leaf_choices=4",
    )


def toy_config(settings: tuple[str, ...], *more: str) -> Config:
    """The config of a toy run."""
    return config.read(None, (*settings, *more))


@contextmanager
def toy_folder(folder: Path, lm: Path) -> Iterator[tuple[str, ...]]:
    """A block that works in a folder, with one torch thread and a cache of its own: the settings of a toy world."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield write_world(Path("world"), Path(shutil.copytree(lm, "lm")))
    torch.set_num_threads(threads)
