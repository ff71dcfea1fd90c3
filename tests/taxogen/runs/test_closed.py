"""Closed runs: what changes around a finished or an interrupted run changes none of its numbers, or is refused."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer, Dinov2Config, Dinov2Model

from probing.store import MismatchError, records
from probing.store.records import DamagedError
from taxogen.__main__ import main
from taxogen.answers import baselines
from taxogen.answers.scores import Scores
from taxogen.questions import prompts
from taxogen.runs import closed
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import pipeline, train
from taxogen.world.taxonomy import Taxonomy
from tests.world import toy_config, write_world

QUICK = (
    "train.steps=6",
    "train.snapshots=0,last",
    "capture.at=last",
    "capture.sites=hook_embed",
    "data.fraction=1",
)


class Scene:
    """A toy world of its own, a run in it, and a cache that can be emptied."""

    def __init__(self, folder: Path, toy_lm: Path, monkeypatch):
        self.folder, self.lm, self.cache = folder, folder / "lm", folder / "cache"
        shutil.copytree(toy_lm, self.lm)
        self.settings = write_world(folder, self.lm)
        self.pictures, self.taxonomy = folder / "pictures", folder / "taxonomy.csv"
        monkeypatch.setenv("TAXOPROBE_CACHE", str(self.cache))

    def train(self) -> Run:
        run = Run.create(self.folder / "run", toy_config(self.settings, *QUICK))
        with run.alone():
            pipeline.train_run(run)
            pipeline.evaluate_run(run)
        return run

    def train_killed(self, monkeypatch) -> None:
        """A training that dies in its fourth step."""
        step, calls = train._step, []

        def killed(*given):
            calls.append(1)
            if len(calls) > 3:
                raise KeyboardInterrupt
            return step(*given)

        with monkeypatch.context() as patch:
            patch.setattr(train, "_step", killed)
            with pytest.raises(KeyboardInterrupt):
                self.train()

    @property
    def run(self) -> Run:
        return Run.open(self.folder / "run")

    def numbers(self) -> dict[str, bytes]:
        names = ("scores.h5", "baselines.h5", "test.csv", "train.csv", "taxonomy.csv", "training.csv")
        names += ("projector/step-000006.safetensors",)
        return {name: self.run.file(name).read_bytes() for name in names}

    def again(self) -> int:
        """The exit code of a new evaluation."""
        for name in ("scores.h5", "baselines.h5"):
            self.run.file(name).unlink(missing_ok=True)
        return main(["evaluate", "--run", str(self.folder / "run")])


def _flags(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in (*settings, *QUICK) for word in ("--set", setting)]


@pytest.fixture
def scene(tmp_path, toy_lm, monkeypatch):
    return Scene(tmp_path, toy_lm, monkeypatch)


def _grown(scene):
    rng = np.random.default_rng(5)
    for leaf in sorted(scene.pictures.iterdir()):
        for number in range(4):
            pixels = rng.integers(0, 255, (14, 14, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(leaf / f"a-new-{number}.png")


def _fewer(scene):
    for leaf in sorted(scene.pictures.iterdir()):
        sorted(leaf.iterdir())[0].unlink()


def _swapped(scene):
    first, second = (sorted((scene.pictures / leaf).iterdir())[0] for leaf in ("crow", "pea"))
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def _redrawn(scene):
    for path in scene.pictures.rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def _new_leaf(scene):
    shutil.copytree(scene.pictures / "crow", scene.pictures / "raven")
    scene.taxonomy.write_text(scene.taxonomy.read_text() + "raven,bird\n")


def _renamed_leaf(scene):
    (scene.pictures / "crow").rename(scene.pictures / "raven")
    scene.taxonomy.write_text(scene.taxonomy.read_text().replace("crow,", "raven,"))


def _moved_edge(scene):
    scene.taxonomy.write_text(scene.taxonomy.read_text().replace("crow,bird", "crow,fruit"))


def _no_taxonomy(scene):
    scene.taxonomy.unlink()


def _gone(scene):
    shutil.rmtree(scene.pictures)


def _other_encoder(scene):
    torch.manual_seed(99)
    size = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=14, patch_size=7
    )
    Dinov2Model(size).save_pretrained(scene.folder / "encoder")


def _set(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _encoder_of_other_activations(scene):
    _set(scene.folder / "encoder", hidden_act="relu")


def _lm_of_other_activations(scene):
    _set(scene.lm, hidden_act="gelu")


def _lm_of_other_angles(scene):
    _set(scene.lm, rope_parameters={"rope_theta": 300.0, "rope_type": "default"})


def _other_lm(scene):
    model = AutoModelForCausalLM.from_pretrained(scene.lm)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 0.01
    model.save_pretrained(scene.lm)


def _other_tokenizer(scene):
    path = scene.lm / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["crow"], vocabulary["duck"] = vocabulary["duck"], vocabulary["crow"]
    path.write_text(json.dumps(content))


def _other_template(scene):
    tokenizer = AutoTokenizer.from_pretrained(scene.lm)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(scene.lm)


DATA = (
    _grown,
    _fewer,
    _swapped,
    _redrawn,
    _new_leaf,
    _renamed_leaf,
    _moved_edge,
    _no_taxonomy,
    _gone,
    _other_encoder,
    _encoder_of_other_activations,
)
LM = {
    _other_lm: "weight_hash",
    _lm_of_other_activations: "config",
    _lm_of_other_angles: "config",
    _other_tokenizer: "tokenizer",
    _other_template: "tokenizer",
}


@pytest.mark.parametrize("change", DATA)
def test_a_finished_run_is_scored_on_its_own_world_whatever_became_of_it(scene, change):
    scene.train()
    before = scene.numbers()
    change(scene)
    assert scene.again() == 0
    assert scene.numbers() == before


@pytest.mark.parametrize("change", LM)
def test_another_language_model_is_refused_by_name(scene, change, caplog):
    scene.train()
    change(scene)
    assert scene.again() == 2
    assert caplog.records[-1].getMessage().count("\n") == 0
    assert LM[change] in caplog.text
    assert "was prepared with another language model" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_grown, None),
        (_new_leaf, None),
        (_moved_edge, None),
        (_fewer, "crow/"),
        (_swapped, "crow/bird0.png"),
        (_redrawn, "96 changed"),
        (_renamed_leaf, "crow/"),
        (_gone, "pictures"),
        (_other_encoder, "revision"),
        (_encoder_of_other_activations, "revision"),
    ],
)
def test_features_are_made_again_from_the_same_pictures_and_encoder_or_not_at_all(
    scene, change, said, caplog
):
    scene.train()
    before = scene.numbers()
    change(scene)
    shutil.rmtree(scene.cache)
    if said is None:
        assert scene.again() == 0
        assert scene.numbers() == before
    else:
        assert scene.again() == 2
        message = caplog.records[-1].getMessage()
        assert said in message
        assert message.count("\n") == 0


@pytest.mark.parametrize("change", [*DATA, *LM])
def test_an_interrupted_training_goes_on_in_its_own_world_or_not_at_all(scene, change, monkeypatch, caplog):
    whole = scene.train()
    before = scene.numbers()
    shutil.rmtree(whole.path)
    scene.train_killed(monkeypatch)
    change(scene)
    if change in LM:
        with pytest.raises(MismatchError, match=LM[change]):
            scene.train()
        assert not scene.run.complete
    else:
        scene.train()
        assert scene.numbers() == before


def test_nothing_of_a_closed_world_is_written_again(scene):
    run = scene.train()
    world = {name: run.file(name).stat().st_mtime_ns for name in (*run.world["files"], "world.json")}
    _grown(scene)
    assert scene.again() == 0
    assert main(["prepare", "--run", str(run.path)]) == 0
    assert main(["train", "--run", str(run.path)]) == 0
    assert {name: run.file(name).stat().st_mtime_ns for name in world} == world


def test_every_file_of_the_world_is_compared_with_its_hash(scene):
    run = scene.train()
    for name in run.world["files"]:
        path = run.file(name)
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 4]) + content[-1:])
        with pytest.raises(DamagedError, match=name.replace(".", r"\.")):
            closed.read(Run.open(run.path))
        path.write_bytes(content)


def test_a_config_changed_by_hand_is_refused(scene, caplog):
    run = scene.train()
    path = run.file("config.json")
    path.write_text(path.read_text().replace('"lr": 0.001', '"lr": 0.003'))
    assert main(["evaluate", "--run", str(run.path)]) == 2
    assert "config.json is damaged" in caplog.text
    run.file("made.json").unlink()
    assert main(["evaluate", "--run", str(run.path)]) == 2
    assert "is not the config that" in caplog.text


def test_scores_of_another_projector_are_refused_and_evaluated_anew(scene, caplog):
    run = scene.train()
    right = scene.numbers()["scores.h5"]
    shutil.copy(run.snapshot(0), run.snapshot(6))
    records.add(run.snapshot(6), {"world": run.world["digest"]})
    with pytest.raises(MismatchError, match=r"scores\.h5 was made from another projector"):
        Scores.read(scene.run)
    with pytest.raises(MismatchError, match=r"baselines\.h5 was made from another projector"):
        baselines.baselines(scene.run)
    assert main(["evaluate", "--run", str(run.path)]) == 0
    assert scene.numbers()["scores.h5"] != right


def test_snapshots_of_another_run_are_refused(scene, caplog):
    run = scene.train()
    other = scene.folder / "other"
    assert main(["train", "--run", str(other), "--set", "seed=1", *_flags(scene.settings)]) == 0
    shutil.rmtree(run.path / "projector")
    shutil.copytree(other / "projector", run.path / "projector")
    assert scene.again() == 2
    assert "step-000006.safetensors is of another run" in caplog.text


@pytest.mark.parametrize("name", ["scores.h5", "projector/step-000006.safetensors"])
def test_a_file_without_a_record_is_not_trusted_in_a_closed_run(scene, name, caplog):
    """Another run's file under the same name, with no word of where it came from."""
    run = scene.train()
    before = scene.numbers()
    other = scene.folder / "other"
    assert main(["train", "--run", str(other), "--set", "seed=1", *_flags(scene.settings)]) == 0
    assert main(["evaluate", "--run", str(other)]) == 0
    shutil.copy(other / name, run.file(name))
    run.file(name).with_name("made.json").unlink()
    code = main(["evaluate", "--run", str(run.path)])
    assert "no record" in caplog.text
    if name == "scores.h5":
        assert code == 0
        assert scene.numbers() == before
    else:
        assert code == 2


def test_another_wording_of_a_template_is_refused(scene, monkeypatch, caplog):
    scene.train()
    form = prompts.TEMPLATES["kind"]
    (field,) = (one.name for one in fields(form) if "kind of" in str(getattr(form, one.name)))
    reworded = replace(form, **{field: getattr(form, field).replace("kind of", "type of")})
    monkeypatch.setitem(prompts.TEMPLATES, "kind", reworded)
    assert scene.again() == 2
    assert "was prepared with another wording of kind" in caplog.text


def test_a_step_without_a_snapshot_cannot_be_captured_later_and_does_not_stay_in_the_config(scene, caplog):
    run = scene.train()
    assert main(["train", "--run", str(run.path), "--set", "capture.at=0,2,last"]) == 2
    assert "capture.at names step 2" in caplog.text
    assert main(["train", "--run", str(run.path)]) == 0
    assert main(["train", "--run", str(run.path), "--set", "capture.at=0,last"]) == 0
    assert scene.run.steps == (0, 6)


def test_what_is_missing_of_a_closed_run_is_named_with_a_remedy(scene, caplog):
    run = scene.train()
    run.snapshot(6).rename(scene.folder / "snapshot")
    assert scene.again() == 2
    assert "has no projector of step 6" in caplog.text
    (scene.folder / "snapshot").rename(run.snapshot(6))
    (run.path / "captures" / "step-abc").mkdir(parents=True)
    assert scene.run.steps == (6,)
    run.file("test.csv").unlink()
    assert scene.again() == 2
    assert "test.csv was written at prepare and is missing; restore it" in caplog.text


def test_a_folder_of_other_files_is_no_run_even_where_their_names_end_in_part(scene, caplog):
    for name in ("movie.part", "thesis.part"):
        path = scene.folder / name / name
        path.parent.mkdir()
        path.write_text("mine")
        settings = _flags(scene.settings)
        assert main(["prepare", "--run", str(path.parent), *settings]) == 2
        assert path.read_text() == "mine"
    assert "is not empty and holds no run" in caplog.text


def test_a_run_that_is_open_elsewhere_does_not_bring_back_old_settings(scene):
    run = scene.train()
    assert main(["evaluate", "--run", str(run.path), "--set", "evaluate.leaf_choices=3"]) == 0
    open_bench(run)
    assert scene.run.config.evaluate.leaf_choices == 3


@pytest.mark.parametrize("name", ["scores.h5", "baselines.h5"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_scores_is_found_and_evaluation_mends_it(scene, name, place, caplog):
    run = scene.train()
    path, right = run.file(name), scene.numbers()[name]
    content = bytearray(right)
    content[int(place * len(content))] ^= 16
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedError, match=f"{name} is damaged.*taxogen evaluate"):
        Scores.read(scene.run) if name == "scores.h5" else baselines.baselines(scene.run)
    assert main(["evaluate", "--run", str(run.path)]) == 0
    assert path.read_bytes() == right


def test_a_flipped_bit_in_a_snapshot_is_found(scene, caplog):
    run = scene.train()
    content = bytearray(run.snapshot(6).read_bytes())
    content[-5] ^= 1
    run.snapshot(6).write_bytes(bytes(content))
    assert scene.again() == 2
    assert "step-000006.safetensors is damaged" in caplog.text


def test_a_damaged_checkpoint_begins_anew_and_ends_the_same(scene, monkeypatch, caplog):
    whole = scene.train()
    before = scene.numbers()
    shutil.rmtree(whole.path)
    scene.train_killed(monkeypatch)
    path = scene.run.file("checkpoint.pt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    scene.train()
    assert "training begins anew" in caplog.text
    assert scene.numbers() == before


def test_a_run_of_an_older_version_is_closed_by_prepare_where_its_world_is_as_it_was(scene, caplog):
    run = scene.train()
    before = scene.numbers()
    for name in ("world.json", "pictures.csv", "prompts.json", "made.json", "projector/made.json"):
        run.file(name).unlink()
    assert scene.again() == 2
    assert "python -m taxogen prepare" in caplog.text
    assert main(["prepare", "--run", str(run.path)]) == 0
    assert scene.again() == 0
    assert scene.numbers() == before


@pytest.mark.parametrize("change", [_grown, _fewer, _moved_edge, _renamed_leaf, _other_lm])
def test_a_run_of_an_older_version_stays_open_where_its_world_has_changed(scene, change, caplog):
    run = scene.train()
    for name in ("world.json", "pictures.csv", "prompts.json", "made.json", "projector/made.json"):
        run.file(name).unlink()
    manifests = {name: run.file(f"{name}.csv").read_bytes() for name in ("train", "test", "capture")}
    change(scene)
    assert main(["prepare", "--run", str(run.path)]) == 2
    assert "it cannot be closed" in caplog.text
    assert not scene.run.closed
    assert {name: run.file(f"{name}.csv").read_bytes() for name in manifests} == manifests


def test_a_start_that_is_killed_while_it_writes_the_world_leaves_no_strangers_folder(scene, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Taxonomy, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            scene.train()
    assert (scene.folder / "run" / "pictures.csv").is_file()
    assert scene.train().complete
