"""Train, export, adopt: a run on real weights and the checkpoint that it becomes are one model to every analysis."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from taxogen.answers.scores import Scores
from taxogen.exchange import saliency
from taxogen.exchange.llava import export_llava
from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.stages import pipeline

SIDE = 112  # 8 × 8 patches, a quarter of the encoder's usual grid
WORLD = (
    "data.leaves=16",
    "data.pictures_per_leaf=2",
    "capture.pictures_per_leaf=1",
    "capture.at=last",
    "capture.dtype=float32",
    "evaluate.leaf_choices=8",
    "model.dtype=float32",
)
PROJECTOR = (
    "model.projector=gelu-mlp",
    "model.hidden=0",
    "model.encoder_tokens=64",
    "model.image_tokens=64",
    "model.normalise=false",
    "train.steps=3",
    "train.batch=4",
)
ANALYSES = {
    "behaviour": ("--draws", "20"),
    "layer_probes": ("--span", "cue", "--draws", "20"),
    "cohesion": ("--draws", "20"),
    "text_alignment": ("--draws", "20"),
    "patching": ("--pairs", "4", "--sites", "blocks.9.hook_resid_post", "--placebo", "--draws", "20"),
}


def whole(path: Path, *settings: str) -> Run:
    run = Run.create(path, config.read(None, (*WORLD, *settings)))
    with run.alone():
        pipeline.train_run(run)
        pipeline.evaluate_run(run)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A run, and the one that its checkpoint is adopted as."""
    folder = tmp_path_factory.mktemp("round trip")
    saliency.dinov2().save_pretrained(folder / "encoder")
    processor = saliency.image_processor()
    processor.size = processor.crop_size = {"height": SIDE, "width": SIDE}
    processor.save_pretrained(folder / "encoder")
    trained = whole(folder / "trained", f"model.encoder={folder / 'encoder'}", *PROJECTOR)
    export_llava(trained, folder / "llava")
    return trained, whole(folder / "adopted", f"model.vlm={folder / 'llava'}")


@pytest.mark.slow
def test_captures_and_scores_are_those_of_the_run(runs: tuple[Run, Run]) -> None:
    trained, adopted = runs
    for modality, own in (("image", (3, 0)), ("text", (None, None))):
        first, second = (run.store(step, modality) for run, step in zip(runs, own, strict=True))
        assert list(first.item_ids) == list(second.item_ids)
        for site in first.sites:
            for span in first.spans:
                one, other = first.read(site, span), second.read(site, span)
                np.testing.assert_allclose(other, one, rtol=0, atol=1e-4 * np.abs(one).max())
    one, other = Scores.read(trained), Scores.read(adopted)
    np.testing.assert_allclose(other.image_scores, one.image_scores, rtol=0, atol=1e-3)
    assert other.image["named"].tolist() == one.image["named"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("question", ANALYSES)
def test_analyses_give_the_tables_of_the_run(runs: tuple[Run, Run], question: str) -> None:
    tables = []
    for run in runs:
        importlib.import_module(f"analyses.{question}").main(["--run", str(run.path), *ANALYSES[question]])
        paths = sorted((run.path / "analyses").glob(f"{question}*/*.parquet"))
        table = pd.concat(map(pd.read_parquet, paths))
        # What the encoder gives is a picture's features there, and its image tokens here.
        of_encoder = table["baseline"] != "" if "baseline" in table else table["site"] == "encoder"
        tables.append(table[~of_encoder])
    one, other = tables
    assert len(one) == len(other) > 0
    # Two leaves whose probe scores are nearly the same may change places: one step of an AUROC.
    near = 0.02 if question == "layer_probes" else 2e-4 * max(1.0, one["value"].abs().max())
    np.testing.assert_allclose(other["value"], one["value"], rtol=2e-3, atol=near)
