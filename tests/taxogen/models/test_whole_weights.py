"""Models whose weights are not those of their configuration are refused; those that only lack a head are not."""

import json
import logging
import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    Gemma3TextConfig,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from probing.store import MismatchError
from taxogen.models import encoders, lms, weights

VOCABULARY = 20
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
}
BLOCKS: dict[str, Any] = {**SIZES, "num_hidden_layers": 2, "num_key_value_heads": 2}
GPT2: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 28,
    "patch_size": 7,
}
TEXT: dict[str, Any] = {
    **BLOCKS,
    "num_hidden_layers": 1,
    "max_position_embeddings": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

LMS = {
    "tied llama": lambda: LlamaConfig(**BLOCKS, tie_word_embeddings=True),
    "llama": lambda: LlamaConfig(**BLOCKS, tie_word_embeddings=False),
    "gpt2": lambda: GPT2Config(**GPT2),
    "qwen2": lambda: Qwen2Config(**BLOCKS),
    "gemma3": lambda: Gemma3TextConfig(**BLOCKS, head_dim=8),
}
HEADLESS = {
    "a base model": lambda: GPT2Model(GPT2Config(**GPT2)),
    "another head": lambda: LlamaForSequenceClassification(LlamaConfig(**BLOCKS, tie_word_embeddings=True)),
}
ENCODERS = {
    "vit": lambda: ViTModel(ViTConfig(**VISION)),
    "vit with a head": lambda: ViTForImageClassification(ViTConfig(**VISION)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**VISION)),
    "dinov2 with a head": lambda: Dinov2WithRegistersForImageClassification(
        Dinov2WithRegistersConfig(**VISION)
    ),
    "clip": lambda: CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION)),
    "clip's vision": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
    "siglip": lambda: SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)),
    "siglip with a head": lambda: SiglipForImageClassification(
        SiglipConfig(text_config=TEXT, vision_config=VISION)
    ),
}


def write_tokenizer(folder):
    built = Tokenizer(models.WordLevel({f"w{at}": at for at in range(VOCABULARY)}, unk_token="w0"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=built, bos_token="w1", eos_token="w2").save_pretrained(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Maker of a folder with a tiny model, by its name; each is made once."""
    folders = {}

    def folder(name):
        if name not in folders:
            folders[name] = path = tmp_path_factory.mktemp("model")
            torch.manual_seed(3)
            if name in LMS:
                AutoModelForCausalLM.from_config(LMS[name]()).save_pretrained(path, max_shard_size="10KB")
            else:
                (HEADLESS | ENCODERS)[name]().save_pretrained(path)
            write_tokenizer(path)
            CLIPImageProcessorPil(
                size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
            ).save_pretrained(path)
        return folders[name]

    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return lambda name: shutil.copytree(saved(name), tmp_path / "copy")


def set_blocks(folder, count):
    """A configuration with another number of blocks, in every place that counts them."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    owner = config.get("vision_config", config)
    owner["n_layer" if "n_layer" in owner else "num_hidden_layers"] = count
    for key in ("layer_types", "stage_names", "out_features", "out_indices"):
        owner.pop(key, None)
    path.write_text(json.dumps(config))


def edit(folder, change):
    """Every weight file with its tensors changed by a function of their dictionary."""
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})


def name_of(folder, ending):
    tensors = [name for path in folder.glob("*.safetensors") for name in load_file(path)]
    return min(name for name in tensors if name.endswith(ending))


@pytest.mark.parametrize("name", [*LMS, *HEADLESS])
def test_a_whole_language_model_is_loaded_the_same_each_time(saved, name):
    first, again = lms.load(str(saved(name))), lms.load(str(saved(name)))
    assert first.weight_hash() == again.weight_hash()


@pytest.mark.parametrize("init", ["pretrained", "pretrained-embeddings"])
@pytest.mark.parametrize("name", LMS)
@pytest.mark.parametrize(("blocks", "fault"), [(4, "missing: "), (1, "without a place in the model: ")])
def test_a_language_model_of_another_depth_is_refused(copy, caplog, name, blocks, fault, init):
    folder = copy(name)
    set_blocks(folder, blocks)
    with (
        caplog.at_level(logging.WARNING, logger="transformers"),
        pytest.raises(
            MismatchError, match=f"language model '{folder}'.*tensors {fault}\\d+, first "
        ) as refusal,
    ):
        lms.load(str(folder), init=init)
    assert "Restore config.json and all weight files" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not [record for record in caplog.records if "LOAD REPORT" in record.getMessage()]
    assert lms.load(str(folder), init="random").model.config.num_hidden_layers == blocks


@pytest.mark.parametrize(("blocks", "fault"), [(3, "missing: "), (1, "without a place in the model: ")])
def test_a_base_model_of_another_depth_is_refused_too(copy, blocks, fault):
    folder = copy("a base model")
    set_blocks(folder, blocks)
    with pytest.raises(MismatchError, match=fault):
        lms.load(str(folder))


@pytest.mark.parametrize("name", LMS)
def test_a_tensor_under_another_name_is_refused(copy, name):
    folder = copy(name)
    tensor = name_of(folder, ("mlp.down_proj.weight", "mlp.c_proj.weight"))

    def rename(tensors):
        if tensor in tensors:
            tensors[f"old.{tensor}"] = tensors.pop(tensor)

    edit(folder, rename)
    with pytest.raises((MismatchError, FileNotFoundError), match=r"missing: 1, |is not whole"):
        lms.load(str(folder))


def test_a_missing_weight_file_is_refused(copy):
    folder = copy("llama")
    min(folder.glob("*.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match=f"model '{folder}' .* its folder is not whole .*00001-of-"):
        lms.load(str(folder))


def test_a_missing_weight_file_that_the_index_does_not_name_is_refused(copy):
    folder = copy("llama")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    lost = content["weight_map"]["model.norm.weight"]
    (folder / lost).unlink()
    content["weight_map"] = {name: file for name, file in content["weight_map"].items() if file != lost}
    index.write_text(json.dumps(content))
    with pytest.raises(MismatchError, match=r"missing: \d+, first '(lm_head|model)\."):
        lms.load(str(folder))


def test_a_tied_model_that_is_said_to_be_untied_lacks_its_output_matrix(copy):
    folder = copy("tied llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(MismatchError, match=r"missing: 1, first 'lm_head\.weight'"):
        lms.load(str(folder))


def test_a_width_that_is_not_that_of_the_weights_is_refused(copy):
    folder = copy("llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(MismatchError, match=r"of another shape: 6, first 'model\.layers\.0\.mlp"):
        lms.load(str(folder))


@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        ("config.json", "{", FileNotFoundError, "not a valid JSON file"),
        ("config.json", '{"hidden_size": 3}', ValueError, "cannot be read .*model_type"),
        ("model-00001-of-00003.safetensors", "short", ValueError, "cannot be read .*header"),
        (
            "tokenizer.json",
            '{"version": "1.0", "added_tokens": [{"id": 0}]}',
            ValueError,
            "cannot be read .*missing",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(copy, file, content, error, message):
    folder = copy("gpt2")
    if file not in {path.name for path in folder.iterdir()}:
        file = min(path.name for path in folder.glob("*.safetensors"))
    (folder / file).write_text(content)
    with pytest.raises(error, match=f"language model '{folder}'.*{message}") as refusal:
        lms.load(str(folder))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("layer", ["", "#final"])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_whole_encoder_is_the_same_at_each_load_whatever_its_checkpoint_lacks_on_top(saved, name, layer):
    first, again = (encoders.load(f"{saved(name)}{layer}") for _ in range(2))
    assert first.revision == again.revision
    assert first.grid == (4, 4)


@pytest.mark.parametrize("layer", ["", "#final"])
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("blocks", "fault"), [(4, "missing: "), (2, "without a place in the model: ")])
def test_an_encoder_of_another_depth_is_refused(copy, name, blocks, fault, layer):
    folder = copy(name)
    set_blocks(folder, blocks)
    with pytest.raises(
        MismatchError, match=f"image encoder '{folder}'.*tensors {fault}\\d+, first "
    ) as refusal:
        encoders.load(f"{folder}{layer}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("vit", "position_embeddings"),
        ("vit with a head", "cls_token"),
        ("dinov2", "projection.bias"),
        ("clip", "vision_model.encoder.layers.2.mlp.fc2.bias"),
        ("siglip", "vision_model.post_layernorm.weight"),
    ],
)
def test_an_encoder_without_one_tensor_of_its_features_is_refused(copy, name, ending):
    folder = copy(name)
    tensor = name_of(folder, ending)
    edit(folder, lambda tensors: tensors.pop(tensor))
    with pytest.raises(MismatchError, match=f"missing: 1, first .*{ending}"):
        encoders.load(str(folder))


@pytest.mark.parametrize(
    ("name", "ending"),
    [("vit", "pooler.dense.weight"), ("dinov2", "mask_token"), ("clip", "text_projection.weight")],
)
def test_an_encoder_without_a_tensor_that_no_feature_uses_is_loaded(copy, saved, name, ending):
    folder = copy(name)
    tensor = name_of(folder, ending)
    edit(folder, lambda tensors: tensors.pop(tensor))
    first, again, whole = (encoders.load(str(path)) for path in (folder, folder, saved(name)))
    assert first.revision == again.revision
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)).numpy()
    assert (first.forward(pixels) == whole.forward(pixels)).all()


def test_an_encoder_of_another_picture_size_is_refused(copy):
    folder = copy("vit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_size": 35}))
    with pytest.raises(MismatchError, match=r"of another shape: 1, first '.*position_embeddings'"):
        encoders.load(str(folder))


def test_missing_tensors_are_named_by_what_they_reach_and_become_zero():
    model = ViTModel(ViTConfig(**VISION)).eval().requires_grad_(False)
    pixels = torch.zeros(1, 3, 28, 28)
    missing = ["pooler.dense.weight", "layernorm.bias", "pooler.dense.bias"]
    assert weights.reaching(model, missing, lambda: model(pixels).last_hidden_state) == ["layernorm.bias"]
    assert weights.reaching(model, missing[::2], lambda: model(pixels).last_hidden_state) == []
    assert not any(model.get_parameter(name).any() for name in missing)
