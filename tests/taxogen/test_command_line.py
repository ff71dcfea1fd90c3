"""`python -m taxogen`: presets, a run's own config, the sweep and the doctor."""

import re
import sys

import pandas as pd
import pytest

from probing.hooks import verify
from taxogen.__main__ import main
from taxogen.runs import config, presets
from taxogen.runs.run import Run
from taxogen.stages import pipeline, sweep
from tests.world import write_world


@pytest.fixture(scope="module")
def settings(tmp_path_factory, asking_lm):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        made = write_world(folder, asking_lm)
        yield [
            word
            for setting in (*made, "capture.at=last", "capture.sites=hook_embed")
            for word in ("--set", setting)
        ]


def test_the_study_preset_is_the_published_recipe(capsys, tmp_path):
    assert main(["config", "--preset", "study", "--set", "data.ablation=random"]) == 0
    path = tmp_path / "study.toml"
    path.write_text(capsys.readouterr().out)
    found = config.read(path)
    assert found.train == config.TrainConfig(
        steps=0, epochs=5, batch=16, order="items", lr=1e-3, weight_decay=0.0, warmup=0.03
    )
    assert (found.train.clip, found.name) == (1.0, "study")
    data = found.data
    assert (data.task, data.split, data.negatives, data.rule) == ("yes_no", "study", "study", "study")
    assert (data.ablation, data.templates) == ("random", ("study_leaf", "study"))
    with pytest.raises(KeyError, match="preset 'thesis' was asked for; known: default, study"):
        presets.preset("thesis")


@pytest.mark.parametrize("more", [(), ("data.ablation=random", "data.fraction=.5")])
def test_the_study_preset_runs(tmp_path, settings, more):
    words = [word for setting in more for word in ("--set", setting)]
    run = tmp_path / "run"
    assert (
        main(["train", "--preset", "study", "--run", str(run), *settings, *words, "--set", "train.steps=2"])
        == 0
    )
    assert main(["evaluate", "--run", str(run)]) == 0
    provenance = Run.open(run).manifest("train").provenance
    assert provenance[-1]["rule"] == ("leaf" if more else "study")


def test_a_run_keeps_its_own_config_where_only_some_settings_are_given(tmp_path, settings, caplog):
    run = tmp_path / "run"
    assert main(["train", "--run", str(run), *settings, "--set", "train.steps=2"]) == 0
    assert main(["evaluate", "--run", str(run), "--set", "evaluate.templates=kind,is_a"]) == 0
    assert Run.open(run).config.evaluate.templates == ("kind", "is_a")
    assert Run.open(run).config.train.steps == 2
    assert main(["train", "--run", str(run), "--set", "train.lr=1"]) == 2
    assert "train.lr: asked 1.0, found 0.001" in caplog.text


def test_the_doctor_is_green_for_a_run_and_red_for_a_broken_model(tmp_path, settings, capsys, monkeypatch):
    run = tmp_path / "run"
    assert main(["prepare", "--run", str(run), *settings]) == 0
    assert main(["doctor", "--run", str(run)]) == 0
    out = capsys.readouterr().out
    assert "green" in out
    assert "RED" not in out
    broken = verify.Report("toy", (verify.Check("residual identity", False, "off by 0.3"),))
    monkeypatch.setattr("taxogen.stages.doctor.verify", lambda model: broken)
    assert main(["doctor", "--run", str(run)]) == 1
    assert re.search(r"^RED    residual identity +off by 0\.3$", capsys.readouterr().out, re.MULTILINE)


def test_a_sweep_trains_and_scores_every_combination_and_leaves_done_ones_alone(
    tmp_path, settings, monkeypatch, capsys
):
    wanted = ["sweep", "--out", str(tmp_path), *settings, "--set", "train.steps=2", "--set", "name=toy"]
    wanted += ["--vary", "seed=0,1", "--vary", "data.shuffle=within"]
    assert main(wanted) == 0
    said = f"{tmp_path / 'sweep.csv'} is written, 2 of 2 runs are done; next: "
    assert capsys.readouterr().out == f"{said}taxoprobe analyse behaviour --sweep {tmp_path}\n"
    table = pd.read_csv(tmp_path / "sweep.csv")
    names = [f"toy_seed-{seed}_shuffle-within" for seed in (0, 1)]
    assert table["run"].tolist() == names
    assert set(table["state"]) == {"done"}
    assert table["seed"].tolist() == [0, 1]
    assert set(table.columns) == {"run", "state", "seed", "auroc", "top1", "leaf_naming"}
    assert Run.open(tmp_path / names[1]).config.seed == 1
    monkeypatch.setattr(pipeline, "open_bench", lambda run: pytest.fail("was done already"))
    assert main(wanted) == 0


def test_a_run_of_a_sweep_that_fails_says_so_and_the_others_go_on(tmp_path, settings, capsys, monkeypatch):
    train = pipeline.train_run

    def fail(run, bench=None):
        if run.config.data.held_out == ("fruit",):
            raise FloatingPointError("the loss is not finite")
        train(run, bench)

    monkeypatch.setattr(pipeline, "train_run", fail)
    wanted = ["sweep", "--out", str(tmp_path), *settings, "--set", "train.steps=2", "--jobs", "1"]
    wanted += ["--set", "data.ablation=systematic", "--vary", "data.held_out=fruit,bird"]
    assert main(wanted) == 1
    assert capsys.readouterr().out == f"{tmp_path / 'sweep.csv'} is written, 1 of 2 runs are done\n"
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert "the loss is not finite" in table["state"][0]
    assert table["state"][1] == "done"


@pytest.mark.parametrize(
    ("varied", "message"),
    [([], "give --vary KEY=A,B"), (["seed"], "write it KEY=A,B"), (["seed=1,1"], "give every value once")],
)
def test_a_sweep_of_nothing_is_refused(varied, message):
    with pytest.raises(ValueError, match=message):
        sweep.grid({}, varied)


@pytest.mark.parametrize("flags", [("--ray",), ("--address", "127.0.0.1:1")])
def test_ray_is_asked_for_by_name_where_it_is_missing(tmp_path, monkeypatch, settings, caplog, flags):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["sweep", "--out", str(tmp_path), *settings, "--vary", "seed=0,1", *flags]) == 2
    assert "pip install 'taxoprobe[cluster]'" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_one_line_and_nothing_starts(tmp_path, settings, caplog):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "runs"
    assert main(["sweep", "--out", str(out), *settings, "--vary", "seed=0,1"]) == 2
    (line,) = caplog.text.strip().splitlines()
    assert f"{out} cannot be written to: Not a directory; mount it" in line


def test_a_run_that_is_not_there_is_not_made_by_asking_for_its_scores(tmp_path, caplog):
    assert main(["evaluate", "--run", str(tmp_path / "nothing")]) == 2
    assert "is not a run directory" in caplog.text
    assert "python -m taxogen train" in caplog.text
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train.steps=2", "capture.at=900"],
            "capture.at names step 900, and training ends at step 2: name steps up",
        ),
        (
            ["train.steps=0", "train.epochs=1", "capture.at=last,900"],
            "capture.at names step 900, and training ends",
        ),
        (
            ["evaluate.leaf_choices=50"],
            "evaluate.leaf_choices=50 was asked for, and 11 leaves are shown: name at most",
        ),
    ],
)
def test_steps_that_never_come_and_choices_that_are_not_there_are_refused(
    tmp_path, settings, caplog, monkeypatch, words, message
):
    monkeypatch.setattr(pipeline, "train", lambda *_: pytest.fail("it was trained"))
    given = [word for one in words for word in ("--set", one)]
    for command in ("train",) if "train.steps=0" in words else ("prepare", "train"):
        caplog.clear()
        assert main([command, "--run", str(tmp_path / "run"), *settings, *given]) == 2
        (line,) = [line for line in caplog.text.splitlines() if message in line]
        assert line.count(message) == 1


def test_a_refused_start_leaves_nothing(tmp_path, settings, caplog):
    for wrong in ("model.encoder=nowhere/none", "capture.sites=blocks.9.hook_resid_post"):
        assert main(["prepare", "--run", str(tmp_path / "runs" / "run"), *settings, "--set", wrong]) == 2
        assert not list(tmp_path.iterdir()), wrong


def test_choices_of_a_trained_run_are_refused_before_they_are_kept(tmp_path, settings, caplog):
    run = tmp_path / "run"
    assert (
        main(["train", "--run", str(run), *settings, "--set", "train.steps=2", "--set", "capture.at=last"])
        == 0
    )
    assert main(["evaluate", "--run", str(run), "--set", "evaluate.leaf_choices=50"]) == 2
    assert "leave it out" in caplog.text
    assert Run.open(run).config.evaluate.leaf_choices == 4
