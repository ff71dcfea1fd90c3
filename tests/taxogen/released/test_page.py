"""docs/your_model.md: what it prints runs as printed, on tiny models of four kinds."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from analyses import layer_probes, report
from probing.store import ActivationStore
from taxogen.__main__ import main
from taxogen.runs.run import Run
from tests.probing import tiny_vlms

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PAGE = Path(__file__).parents[3] / "docs" / "your_model.md"
LEAVES = {"crow": "bird", "hawk": "bird", "owl": "bird", "trout": "fish", "shark": "fish", "carp": "fish"}


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 20, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("name", tiny_vlms.VLMS)
def test_the_python_way(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for seed, picture in enumerate(("crow.png", "trout.png")):
        draw(Path(picture), seed)
    folder = tiny_vlms.save(name, tmp_path / "model")
    exec(code.replace("HuggingFaceTB/SmolVLM-256M-Instruct", str(folder)), {})
    assert capsys.readouterr().out == "(2, 32)\n"


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (words,) = re.findall(r"^    taxoprobe (adopt --vlm HuggingFaceTB.*)$", page, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for seed, leaf in enumerate(LEAVES):
        for picture in range(3):
            draw(Path("photos", leaf, f"{picture}.png"), 10 * seed + picture)
    rows = [f"{leaf},{hypernym}" for leaf, hypernym in LEAVES.items()]
    Path("taxonomy.csv").write_text("\n".join(["leaf,hypernym", *rows]) + "\n", encoding="utf-8")
    folder = tiny_vlms.save("idefics3", tmp_path / "model")
    asked = [str(folder) if word.startswith("HuggingFaceTB") else word for word in words.split()]
    assert main(asked) == 0
    run = Run.open("artifacts/runs/mine")
    assert sorted(run.taxonomy.hypernyms) == ["bird", "fish"]
    layer_probes.main(["--run", str(run.path), "--draws", "10"])
    assert list(Path(run.path, "analyses", "layer_probes").glob("*.png"))
    report.main(["--run", str(run.path), "--out", "report"])
    page = Path("report", "report.html").read_text(encoding="utf-8")
    assert "a vision-language model as it was released" in page
    assert "was trained between" not in page
    assert "Credits of the pictures" not in page
    assert main(asked) == 0  # goes on with what is there


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--vlm", "./nowhere"], "there is no such folder"),
        (["--vlm", "./empty"], "cannot be read"),
        (["--vlm", "./nowhere", "--set", "train.steps=5"], "train.steps"),
        (["--vlm", "./nowhere", "--template", "kinnd"], "kinnd"),
    ],
)
def test_refusals_are_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert main(["adopt", *words, "--out", "run"]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said in line
    assert "\n" not in line
    assert not list(Path("run").glob("captures*"))


def test_a_language_model_is_asked_about_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{leaf},{hypernym}" for leaf, hypernym in LEAVES.items()]
    Path("taxonomy.csv").write_text("\n".join(["leaf,hypernym", *rows]) + "\n", encoding="utf-8")
    model, processor = tiny_vlms.VLMS["llava"]()
    text = hf.LlamaForCausalLM(model.config.text_config)
    text.save_pretrained("lm")
    processor.tokenizer.save_pretrained("lm")
    words = [
        "adopt",
        "--lm",
        "./lm",
        "--taxonomy",
        "taxonomy.csv",
        "--out",
        "run",
        "--sites",
        "blocks.0.hook_resid_post,blocks.2.hook_resid_post",
    ]
    assert main(words) == 0
    store = ActivationStore.open("run/words")
    assert sorted(store.item_ids) == sorted(LEAVES)
    assert len(store.sites) == 2
    ids = processor.tokenizer("A crow is a kind of", return_tensors="pt").input_ids
    start = processor.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    ids = torch.cat([torch.tensor([[start]]), ids], 1)
    expected = text(ids, output_hidden_states=True, use_cache=False).hidden_states[1][0, -1]
    own = store.read("blocks.0.hook_resid_post", "last")[list(store.item_ids).index("crow")]
    np.testing.assert_allclose(own, expected.detach().numpy(), atol=0.02 * expected.abs().max().item())
    layer_probes.main(["--text", "run/words", "--taxonomy", "run/taxonomy.csv", "--draws", "10"])
    assert main([*words, "--pictures", "photos"]) == 2


NO_TORCHVISION = pytest.mark.skipif(
    bool(importlib.util.find_spec("torchvision")), reason="torchvision is installed"
)


@NO_TORCHVISION
@pytest.mark.parametrize(
    ("model", "processor", "pictures", "package"),
    [
        ("llava", "PixtralProcessor", "", "Torchvision"),
        ("llava", "", "Lfm2VlImageProcessor", "torchvision"),
        ("llava", "", "DINOv3ViTImageProcessor", "torchvision"),
        ("qwen2_5_vl", "SmolVLMProcessor", "", "num2words"),
    ],
)
def test_a_processor_whose_package_is_missing_names_it(
    model: str,
    processor: str,
    pictures: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tiny_vlms.save(model, tmp_path / "vlm") / "processor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    if processor:
        settings["processor_class"] = processor
    if pictures:
        settings["image_processor"]["image_processor_type"] = pictures
    file.write_text(json.dumps(settings), encoding="utf-8")
    assert main(["adopt", "--vlm", "./vlm", "--out", "run"]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert re.search(
        rf"'./vlm' was asked for; a package is missing \(.*{package}.*\)\. Install that package", line
    )
    assert "save_pretrained" not in line
    assert "\n" not in line
    assert not list(Path("run").glob("captures*"))
