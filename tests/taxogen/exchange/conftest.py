"""Toy runs that can be exported: a tiny encoder of each kind that LLaVA takes, a projector of each token, no norm."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages.train import save_projector
from tests.world import toy_config, write_pictures, write_taxonomy

SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
SQUARE = {"height": 28, "width": 28}
TOKENS = 16
ENCODERS = {
    "dinov2": (
        lambda: Dinov2Model(Dinov2Config(mlp_ratio=2, layerscale_value=0.7, **SIZE)),
        lambda: BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE),
    ),
    "registers": (
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(mlp_ratio=2, **SIZE)),
        lambda: BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE),
    ),
    "clip": (
        lambda: CLIPVisionModel(CLIPVisionConfig(intermediate_size=32, **SIZE)),
        lambda: CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SQUARE),
    ),
    "siglip": (
        lambda: SiglipVisionModel(SiglipVisionConfig(intermediate_size=32, **SIZE)),
        lambda: SiglipImageProcessorPil(size=SQUARE),
    ),
    "vit": (
        lambda: ViTModel(ViTConfig(intermediate_size=32, **SIZE)),
        lambda: ViTImageProcessorPil(size=SQUARE),
    ),
}
"""Kind of encoder → how a tiny one is made, and its image processor."""


@pytest.fixture
def toy_run(tmp_path, monkeypatch):
    """What makes a complete run with a freshly drawn projector: `toy_run(lm, encoder, *settings)`."""
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))

    def make(
        lm: Path, encoder: str = "dinov2", *settings: str, name: str = "run", finished: bool = True
    ) -> Run:
        kind, mark, layer = encoder.partition("#")
        run = Run.create(
            tmp_path / name,
            toy_config(
                (
                    f"data.pictures={_pictures(tmp_path / 'pictures')}",
                    f"data.taxonomy={write_taxonomy(tmp_path / 'taxonomy.csv')}",
                    f"model.encoder={_encoder(tmp_path / kind, kind)}{mark}{layer}",
                    f"model.lm={lm}",
                    "model.dtype=float32",
                    "model.projector=gelu-mlp",
                    *(() if "model.projector=linear" in settings else ("model.hidden=0",)),
                    f"model.encoder_tokens={TOKENS}",
                    f"model.image_tokens={TOKENS}",
                    "model.normalise=false",
                    *settings,
                )
            ),
        )
        bench = open_bench(run)
        if finished:
            run.folder("projector")
            save_projector(bench.vlm.projector, run.snapshot(0), {"world": run.world["digest"], "step": 0})
            run.finish({"steps": 0, "training_items": 0})
        return run

    return make


def _pictures(folder: Path) -> Path:
    """The toy pictures, half of them twice as wide as high."""
    if not folder.is_dir():
        for path in sorted(write_pictures(folder).rglob("*.png"))[::2]:
            with Image.open(path) as picture:
                wide = picture.resize((28, 14))
            wide.save(path)
    return folder


def _encoder(folder: Path, kind: str) -> Path:
    if not folder.is_dir():
        torch.manual_seed(5)
        model, processor = ENCODERS[kind]
        model().save_pretrained(folder)
        processor().save_pretrained(folder)
    return folder
