"""The doctor of a run: green where all is as it was written, red with the name of what is not; it writes nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analyses.frame import parts
from probing.store import records
from taxogen.runs.run import Run
from tests.taxogen.drawn.scene import Answer, command, copied, inside, must, write_scene

RUN = Path("run")
STORES = ("captures/step-000006", "captures/text", "captures-extra/step-000006")
WORLD = (
    *("pictures.csv", "taxonomy.csv", "leaf_map.json", "prompts.json"),
    *("train.csv", "train.json", "test.csv", "test.json", "capture.csv", "capture.json"),
)
ARTIFACTS = (
    *("config.json", "run.json", "training.csv", "scores.h5", "baselines.h5", "made.json", "world.json"),
    *("projector/step-000000.safetensors", "projector/step-000006.safetensors", "projector/made.json"),
    *(f"{folder}/{name}" for folder in STORES for name in ("shard-00000.h5", "store.json", "index.json")),
    *(f"analyses/behaviour/behaviour.{suffix}" for suffix in ("parquet", "csv", "png", "svg")),
    *("analyses/behaviour/made.json", "analyses/behaviour/directions.npz"),
    *("analyses/behaviour/parts/rows.parquet", "analyses/behaviour/parts/made.json"),
)
"""Files of a run, beside those of its world: some of each kind, with a file and a part that few analyses have."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory, asking_lm):
    folder = write_scene(tmp_path_factory.mktemp("doctor") / "scene", asking_lm)
    with inside(folder):
        results, run = RUN / "analyses" / "behaviour", Run.open(RUN)
        makers = {"runs": {"run": run.makers()}}
        records.write(results / "directions.npz", lambda part: part.write_bytes(b"directions"), makers)
        rows = pd.DataFrame({"row": [1, 2]})
        parts.stored(results / "parts", "rows", lambda: rows, parts.TABLE, run.makers())
    return folder


@pytest.fixture
def copy(scene, tmp_path):
    """A copy of the scene, which is the working directory."""
    with inside(copied(scene, tmp_path / "scene")) as folder:
        yield folder


def examined() -> Answer:
    return command("doctor", "--run", str(RUN))


def red() -> list[str]:
    """The red lines about the run, or the one with which it is refused."""
    answer = examined()
    lines = [line for line in answer.said.splitlines() if line.startswith("RED")]
    if answer.code == 2:
        assert answer.refused
        return answer.refusal
    assert answer.code == (1 if lines else 0)
    return lines


def green(name: str) -> str:
    """The detail of a line; no line is red."""
    answer = examined()
    assert answer.code == 0, answer.said
    assert "RED" not in answer.said
    (line,) = (line for line in answer.said.splitlines() if line.startswith(f"green  {name}  "))
    return line.removeprefix(f"green  {name}").strip()


def flip(path: Path) -> None:
    """Flips a bit of a file: of JSON the last bit of its last text or number, as blanks say nothing."""
    content = bytearray(path.read_bytes())
    place = len(content) * 2 // 3
    if path.suffix == ".json":
        place = max(at for at, letter in enumerate(content) if chr(letter).isalnum())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_a_whole_run_is_green_and_nothing_is_written(copy):
    for path in copy.rglob("*.lock"):
        path.unlink()
    before = {path: path.lstat().st_mtime_ns for path in copy.rglob("*")}
    answer = examined()
    assert answer.code == 0
    assert {path: path.lstat().st_mtime_ns for path in copy.rglob("*")} == before
    lines = [line for line in answer.said.splitlines()[1:] if line]
    assert lines
    assert all(line.startswith("green") for line in lines)
    for name in ("world", "pictures", "taxonomy", "features", "language model", "results", "scores", *STORES):
        assert any(line.startswith(f"green  {name} ") for line in lines), name


@pytest.mark.parametrize("name", [*WORLD, *ARTIFACTS])
def test_a_flipped_bit_is_red_and_the_file_named(scene, name):
    with inside(scene):
        path = RUN / name
        content = path.read_bytes()
        flip(path)
        try:
            lines = red()
        finally:
            path.write_bytes(content)
    assert any(str(path) in line for line in lines), lines


def test_every_file_of_the_world_is_tried(scene):
    with inside(scene):
        assert set(WORLD) == set(Run.open(RUN).world["files"])


def test_a_flipped_bit_in_the_cache_is_red_and_the_file_named(copy):
    (shard,) = Path("cache").rglob("*.h5")
    flip(shard)
    (line,) = red()
    assert line.startswith("RED    features")
    assert shard.name in line
    assert shard.exists()


def test_an_empty_cache_is_green_and_said(copy):
    shutil.rmtree("cache")
    assert "96 that are made when needed" in green("features")
    assert not Path("cache").exists()


def test_other_pictures_are_green_and_said(copy):
    Image.fromarray(np.zeros((14, 14, 3), np.uint8)).save("pictures/crow/anew.png")
    Path("pictures/crow/bird0.png").unlink()
    shutil.copy("pictures/pea/vegetable0.png", "pictures/pea/vegetable1.png")
    said = green("pictures")
    for part in ("1 missing (crow/bird0.png)", "1 changed (pea/vegetable1.png)", "; 1 more"):
        assert part in said


def test_another_taxonomy_is_green_and_said(copy):
    table = Path("taxonomy.csv")
    table.write_text(table.read_text().replace("crow,bird", "crow,fruit"))
    assert "other edges" in green("taxonomy")
    table.unlink()
    assert "taxonomy.csv is gone" in green("taxonomy")


def _weights() -> str:
    content = bytearray(Path("lm/model.safetensors").read_bytes())
    content[-1] ^= 1
    Path("lm/model.safetensors").write_bytes(bytes(content))
    return "weight_hash"


def _vocabulary() -> str:
    path = Path("lm/tokenizer.json")
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["crow"], words["duck"] = words["duck"], words["crow"]
    path.write_text(json.dumps(content))
    return "tokenizer"


def _angles() -> str:
    path = Path("lm/config.json")
    content = json.loads(path.read_text()) | {"rms_norm_eps": 0.01}
    path.write_text(json.dumps(content))
    return "config"


def _gone() -> str:
    shutil.rmtree("lm")
    return "'lm'"


@pytest.mark.parametrize("change", [_weights, _vocabulary, _angles, _gone])
def test_another_language_model_is_red(copy, change):
    said = change()
    (line,) = red()
    assert line.startswith("RED    language model")
    assert said in line


def test_results_of_another_projector_are_red(copy):
    run = Run.open(RUN)
    made_from = records.made_from(run.snapshot(6))
    assert made_from is not None
    other = run.snapshot(0).read_bytes()
    records.write(run.snapshot(6), lambda part: part.write_bytes(other), made_from)
    lines = red()
    tables = [f"analyses/behaviour/behaviour.{end}" for end in ("csv", "parquet", "png", "svg")]
    for name in ("scores.h5", "baselines.h5", STORES[0], STORES[2], *tables):
        assert any(line.startswith(f"RED    {name} ") and "projector" in line for line in lines), name
    assert not any(STORES[1] in line for line in lines)


def test_results_that_were_set_aside_are_green_while_they_are_whole(copy):
    results = RUN / "analyses" / "behaviour"
    aside = results / "earlier" / "0a1b2c3d"
    for name in ("behaviour.parquet", "behaviour.csv"):
        records.move(results / name, aside)
    entries = json.loads((aside / records.FILE).read_text())["files"]
    for versions in entries.values():
        versions[0]["made_from"]["runs"]["run"]["projector"] = "of another training"
    records.write_sealed(aside / records.FILE, {"files": entries})
    assert not red()
    assert "; 2 of other questions, set aside in earlier/, as they were written" in examined().said
    (aside / "behaviour.csv").write_text("altered")
    (line,) = red()
    assert "earlier/0a1b2c3d/behaviour.csv" in line


@pytest.mark.parametrize(
    "folder", ["analyses/behaviour", "projector", "captures/text", "captures/step-000006"]
)
def test_a_folder_of_another_run_is_red(copy, folder):
    shutil.rmtree(RUN / folder)
    shutil.copytree(Path("other/run", folder), RUN / folder)
    assert any(folder in line for line in red())


def test_results_made_before_the_scores_were_are_red(copy):
    scores, makers = RUN / "scores.h5", Run.open(RUN).makers()
    other = Path("other/run/scores.h5").read_bytes()
    records.write(scores, lambda part: part.write_bytes(other), makers)
    lines = red()
    for name in ("analyses/behaviour/behaviour.parquet", "baselines"):
        assert any(line.startswith(f"RED    {name} ") and "scores" in line for line in lines), name


@pytest.mark.parametrize("name", ["store.json", "shard-00000.h5"])
def test_a_store_that_lacks_a_file_is_red(copy, name):
    (RUN / STORES[0] / name).unlink()
    (line,) = red()
    assert line.startswith(f"RED    {STORES[0]}")


def test_a_store_that_is_not_whole_is_green_and_said(copy):
    (RUN / STORES[0] / "index.json").unlink()
    assert green(STORES[0]) == "not whole yet"


def test_what_is_removed_and_what_has_no_record_is_green_and_said(copy):
    (RUN / "analyses/behaviour/behaviour.svg").unlink()
    (RUN / "notes.txt").write_text("mine")
    assert green("removed") == "analyses/behaviour/behaviour.svg"
    assert green("without a record") == "notes.txt"


def test_a_run_that_is_not_closed_is_refused(copy):
    (RUN / "world.json").unlink()
    (line,) = red()
    assert "python -m taxogen prepare --run run" in line


def test_what_the_doctor_finds_is_mended_by_the_commands_that_it_names(copy):
    flip(RUN / "scores.h5")
    flip(RUN / "captures/text/shard-00000.h5")
    assert len(red()) >= 2
    must("evaluate", "--run", str(RUN))
    must("capture", "--run", str(RUN))
    assert not red()
