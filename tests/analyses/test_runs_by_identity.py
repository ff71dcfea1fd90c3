"""Two runs in folders of one name, and one run given twice: every question, the report, and runs named as partners."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny_dictionaries import drawn, write_sae_lens

from analyses import report
from analyses.frame import registry
from analyses.frame.analysis import Takes
from probing.store import MismatchError, records
from taxogen.runs.run import Run
from taxogen.stages.pipeline import evaluate_run, train_run
from tests.test_contract import BEFORE, OF_RUNS, PATCHES, arguments
from tests.world import toy_config, toy_folder

WAYS = ("the path", "a link", "a copy")


@pytest.fixture(scope="module")
def toy(tmp_path_factory, asking_lm):
    """A folder with runs a/toy and b/toy of two conditions, and a/toy once more as a link and as a copy."""
    folder = tmp_path_factory.mktemp("identity")
    with toy_folder(folder, asking_lm) as settings:
        for name, more in {"a": (), "b": ("data.shuffle=across",), "c": ("model.init=random",)}.items():
            run = Run.create(Path(name, "toy"), toy_config(settings, *PATCHES, *more))
            train_run(run)
            evaluate_run(run)
        width = run.store(None, "text").read("blocks.1.hook_resid_post", "last").shape[1]
        write_sae_lens(Path("dictionary"), drawn(width, 2 * width))
        Path("a link").symlink_to(Path("a", "toy"))
        shutil.copytree("a/toy", "a copy")
        yield folder


def path_of(way):
    return "a/toy" if way == "the path" else way


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OF_RUNS)
def test_one_run_given_twice_is_refused_before_anything_is_computed(toy, name, way, capsys):
    with pytest.raises(SystemExit) as end:
        registry.load(name).main(arguments(name, "a/toy", "b/toy", path_of(way)))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"one run was given twice, as a/toy and as {path_of(way)}" in line
    assert not list(Path("a copy").glob("analyses/*"))


@pytest.mark.parametrize("name", OF_RUNS)
def test_runs_in_folders_of_one_name_are_two_runs(toy, name, capsys):
    analysis = registry.load(name)
    for before in (*analysis.needs, *BEFORE.get(name, ())):
        registry.load(before).main(arguments(before, "a/toy", "b/toy"))
    analysis.main(arguments(name, "a/toy", "b/toy"))
    said = capsys.readouterr()
    alone = analysis.takes is Takes.EACH_RUN
    for names in (["a/toy"], ["b/toy"]) if alone else (["a/toy", "b/toy"],):
        path = analysis.table_path(Run.open(names[0]))
        record = records.made_from(path)
        assert record is not None
        assert sorted(record["runs"]) == names
        table = pd.read_parquet(path)
        if alone or name == "emergence":
            assert sorted(set(table["run"])) == names
        if alone:
            assert f"{name} of {names[0]}\n" in said.err


def test_a_run_alone_has_the_name_of_its_folder(toy):
    registry.load("cohesion").main(arguments("cohesion", "b/toy"))
    assert set(registry.load("cohesion").table(Run.open("b/toy"))["run"]) == {"toy"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "flag"), [("layer_probes", "--against"), ("patching", "--placebo-run")])
def test_a_run_is_no_partner_of_itself(toy, name, flag, way, capsys):
    with pytest.raises(SystemExit) as end:
        registry.load(name).main([*arguments(name, "a/toy"), flag, path_of(way)])
    assert end.value.code == 2
    assert f"one run was given twice, as a/toy and as {path_of(way)}" in capsys.readouterr().err


def test_a_partner_of_the_same_name_is_another_run(toy):
    registry.load("layer_probes").main([*arguments("layer_probes", "a/toy"), "--against", "c/toy"])
    path = Path("a/toy/analyses/layer_probes/contrasts.parquet")
    assert set(pd.read_parquet(path)["run"]) == {"a/toy minus c/toy"}
    record = records.made_from(path)
    assert record is not None
    assert list(record["beside"]) == ["c/toy"]


def test_partners_are_each_given_once(toy, capsys):
    runs = arguments("layer_probes", "a/toy", "b/toy")
    with pytest.raises(SystemExit):
        registry.load("layer_probes").main([*runs, "--against", "c/toy", "--against", "./c/toy"])
    assert "one run was given twice, as c/toy and as" in capsys.readouterr().err


def test_one_language_model_by_two_names_is_refused(toy, capsys):
    Path("linked").symlink_to("lm")
    with pytest.raises(SystemExit):
        registry.load("text_alignment").main(
            [*arguments("text_alignment", "a/toy"), "--other", "lm", "--other", "linked"]
        )
    assert "is the folder of two references" in capsys.readouterr().err


def test_the_report_names_runs_apart_and_refuses_one_twice(toy, tmp_path):
    page = report.write(tmp_path / "page", [Run.open("a/toy"), Run.open("b/toy")], {})
    text = page.path.read_text(encoding="utf-8")
    assert ">a/toy</" in text
    assert ">b/toy</" in text
    for way in WAYS:
        with pytest.raises(MismatchError, match="one run was given twice"):
            report.write(tmp_path / "twice", [Run.open("a/toy"), Run.open(path_of(way))], {})
    assert not (tmp_path / "twice").exists()
