"""Run: what is said where a path is no run, or a run stands where runs are taken."""

from pathlib import Path

import pytest

from taxogen.runs.config import Config
from taxogen.runs.run import Run


@pytest.fixture
def runs(tmp_path):
    for name in ("demo-pretrained", "demo-random_init", "demo-across"):
        Run(tmp_path / name, Config(name=name)).save_config()
    (tmp_path / "demo-within").mkdir()  # no run: nothing in it
    return tmp_path


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("demo-pretraind", "demo-pretrained"),
        ("demo-random-init", "demo-random_init"),
        ("DEMO-across", "demo-across"),
        ("demo-acros/", "demo-across"),
    ],
)
def test_a_mistyped_run_is_answered_by_the_nearest(runs, typed, meant, monkeypatch):
    for path, answer in ((runs / typed, runs / meant), (typed, meant)):
        monkeypatch.chdir(runs)
        with pytest.raises(FileNotFoundError) as refused:
            Run.open(path)
        assert str(refused.value).endswith(f"did you mean {answer}?")
        assert "train" not in str(refused.value).replace("pretrain", "")


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("demo-pretrained", "artifacts/runs/demo-pretrained"),
        ("demo-pretraind", "artifacts/runs/demo-pretrained"),
        ("artifacts/run/demo-pretrained", "artifacts/runs/demo-pretrained"),
        ("artifacts/runs/sweeep/demo-across", "artifacts/runs/sweep/demo-across"),
        ("artifacts/rums/demo-across", "artifacts/runs/demo-across"),
        ("elsewhere/runs/demo-pretrained", "artifacts/runs/demo-pretrained"),
    ],
)
def test_a_mistyped_folder_is_answered_by_the_run_of_that_name(tmp_path, typed, meant, monkeypatch):
    for folder in ("demo-pretrained", "demo-across", "sweep/demo-across", "sweep/demo-within"):
        Run(tmp_path / "artifacts/runs" / folder, Config(name=Path(folder).name)).save_config()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"did you mean {meant}[?]$"):
        Run.open(typed)


@pytest.mark.parametrize("typed", ["xyzzy", "elsewhere/xyzzy", "."])
def test_where_no_run_is_near_the_command_that_makes_one_is_named(runs, typed):
    with pytest.raises(FileNotFoundError, match=r"`python -m taxogen train --out .*` makes one"):
        Run.open(runs / typed)


def test_a_run_in_the_place_of_runs_is_told_how_it_is_written(runs):
    run = Run.open(runs / "demo-across")
    with pytest.raises(TypeError, match=r"write \[run\], as in compute\(\[run\], Options\(\)\)"):
        _ = [*run]
