"""Prepares, trains, captures and scores a run on 256 × 1,024 features a picture and prints the memory at the peak.

    python -m tests.taxogen.stages.streaming_job FOLDER LM [PICTURES]

Reads LM, the folder of a toy language model. Writes pictures, a cache of features (bfloat16, 0.5 MB a picture) and a
run into FOLDER; prints the peak of resident memory in bytes.
"""

import os
import resource
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from taxogen.models import encoders
from taxogen.models.encoders import Encoder
from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.conftest import LEAVES
from tests.world import write_taxonomy

PICTURES, GRID, WIDTH = 17_000, (16, 16), 1_024
SETTINGS = (
    *("model.encoder_tokens=256", "model.image_tokens=256", "model.projector=gelu-mlp"),
    *("model.feature_dtype=bfloat16", "model.hidden=16", "model.dtype=float32"),
    *("train.steps=4", "train.batch=8", "train.snapshots=last"),
    *("capture.at=last", "capture.pictures_per_leaf=2"),
    *("evaluate.pictures_per_leaf=30", "evaluate.leaf_choices=4"),
)


def write_pictures(folder: Path, number: int) -> Path:
    """Pictures of 8 × 8 random pixels, about as many of each leaf."""
    rng, leaves = np.random.default_rng(0), sorted({leaf for below in LEAVES.values() for leaf in below})
    for leaf in leaves:
        (folder / leaf).mkdir(parents=True)
    for at in range(number):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / leaves[at % len(leaves)] / f"{at:05d}.png")
    return folder


def encoder(name: str, device: str) -> Encoder:
    """An encoder that costs nothing: random features, turned by as much as the picture's pixels are bright."""
    drawn = np.random.default_rng(1).standard_normal((GRID[0] * GRID[1], WIDTH), np.float32)

    def forward(pixels: np.ndarray) -> np.ndarray:
        return np.stack([np.roll(drawn, int(picture.sum())) for picture in pixels])

    def prepare(picture: Image.Image) -> np.ndarray:
        return np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)

    return Encoder(name, "1", "none", "CC0-1.0", GRID, WIDTH, prepare, forward)


def peak() -> int:
    """The most bytes that were resident; of this program alone where Linux tells that apart from its parent's."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(folder: Path, lm: str, pictures: int) -> None:
    """All stages, one after the other, each of which opens the features anew."""
    os.environ["TAXOPROBE_CACHE"] = str(folder / "cache")
    encoders.load = encoder
    words = (
        f"data.pictures={write_pictures(folder / 'pictures', pictures)}",
        f"data.taxonomy={write_taxonomy(folder / 'taxonomy.csv')}",
        f"model.lm={lm}",
        *SETTINGS,
    )
    run = Run.create(folder / "run", config.read(None, words))
    pipeline.train_run(run)
    scores = pipeline.evaluate_run(run)
    assert np.isfinite(scores.image_scores).all()
    assert scores.image["leaf"].value_counts().max() <= 30
    sys.stdout.write(f"{peak()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int([*sys.argv[3:], PICTURES][0]))
