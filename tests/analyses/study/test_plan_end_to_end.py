"""From a plan file to figures in the toy world: runs are made, killed, made on, collected, drawn and judged."""

import json
import os
import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest

from analyses.study import answers, asking, collecting, main
from analyses.study.estimates import Study
from analyses.study.tables import COLUMNS, Tables
from probing.store import records
from taxogen.__main__ import main as taxogen
from taxogen.runs.run import Run
from taxogen.runs.setting import flatten
from taxogen.stages import pipeline, sweep
from taxogen.stages.sweeping import plan_file
from taxogen.stages.sweeping.main_scores import main_scores
from taxogen.stages.sweeping.sweep_table import TABLE
from tests.world import toy_folder

RUNS = [f"toy-full-{init}-{seed}" for init in ("pretrained", "random") for seed in (0, 1)]
PLAN = """
name = "toy"
seeds = [0, 1]
[common]
train.steps = 3
capture.at = ["last"]
capture.spans = ["cue"]
train.snapshots = ["last"]
[questions]
layer-probes = { step = ["last"], transfer = ["raw"], controls = 1, shuffled = 0, draws = 20 }
[together]
behaviour = { draws = 20 }
[seconds]
train = 2
[equivalence]
auroc = 0.03
[groups.full]
about = "everything removed"
vary.model.init = ["pretrained", "random"]
[groups.shuffle]
cases.none = {}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, toy_lm):
    """The folder of a plan whose second run was killed while it was scored, and gone on with; and its listings."""
    folder = tmp_path_factory.mktemp("study")
    with toy_folder(folder, toy_lm) as settings, pytest.MonkeyPatch.context() as patch:
        own = dict(one.split("=", 1) for one in settings)
        with open(own["data.taxonomy"], "a", encoding="utf-8") as table:
            table.write("fruit,food\nvegetable,food\n")
        keys = [key for key, _ in flatten(tomllib.loads(PLAN)["common"])]
        lines = [f"{key} = {_toml(value)}" for key, value in own.items() if key not in keys]
        (folder / "plan.toml").write_text(PLAN.replace("[common]", "\n".join(["[common]", *lines])))
        evaluate, said = pipeline.evaluate_run, []

        def killed(run, bench=None):
            if run.name == RUNS[1]:
                raise KeyboardInterrupt
            return evaluate(run, bench)

        words = ["sweep", "plan.toml", "--out", "runs", "--jobs", "1"]
        said.append(listing(folder))
        patch.setattr(pipeline, "evaluate_run", killed)
        with pytest.raises(KeyboardInterrupt):
            taxogen(words)
        patch.setattr(pipeline, "evaluate_run", evaluate)
        said.append(listing(folder))
        patch.setattr(pipeline, "train_run", _only(pipeline.train_run, RUNS[2:]))
        assert taxogen(words) == 0
        said.append(listing(folder))
        yield folder, said


def listing(folder):
    return sweep.listing(plan_file.read(folder / "plan.toml"), folder / "runs", jobs=1)


def _toml(text):
    return text if text in ("true", "false") or text.replace(".", "").isdigit() else json.dumps(text)


def _only(train, names):
    """Training that fails for runs that were trained before."""

    def guarded(run, bench=None):
        assert run.name in names, f"{run.name} was trained already"
        train(run, bench)

    return guarded


def test_a_killed_plan_goes_on_and_says_what_is_done_and_left(made):
    folder, said = made
    assert "toy: 4 runs of 3 stages (train, evaluate, layer-probes): 0 of 12 stages done, 12 left" in said[0]
    assert "as the plan expects" in said[0]
    assert "4 of 12 stages done, 8 left" in said[1]
    assert "as the stages that have ended took" in said[1]
    assert said[2].endswith("12 of 12 stages done, 0 left\n")
    assert ["of all runs together: behaviour (left)" in one for one in said] == [True, True, False]
    assert "of all runs together: behaviour (done)" in said[2]
    assert [line.split()[:4] for line in said[1].splitlines()[1:3]] == [
        ["full", "4", "1", "3"],
        ["shuffle", "2", "1", "1"],
    ]
    assert "(2 of them are in a group above)" in said[1]
    seconds = json.loads((folder / "runs" / sweep.SECONDS).read_text())
    stages = ("train", "evaluate", "layer-probes")
    assert set(seconds) == {
        f"features {RUNS[0]}",
        *(f"{stage} {run}" for run in RUNS for stage in stages),
        "behaviour toy",
    }


def test_the_table_has_a_column_for_each_varied_setting_and_the_main_scores(made):
    folder, _ = made
    table = pd.read_csv(folder / "runs" / TABLE)
    assert table["run"].tolist() == RUNS
    assert set(table["state"]) == {"done"}
    assert table["model.init"].tolist() == ["pretrained", "pretrained", "random", "random"]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    for row in table.to_dict("records"):
        assert {name: row[name] for name in ("auroc", "top1", "leaf_naming")} == pytest.approx(
            main_scores(Run.open(folder / "runs" / row["run"]))
        )


def test_what_was_asked_of_all_runs_lies_with_the_first_and_is_of_all_as_they_are(made):
    folder, _ = made
    behaviour = pd.read_parquet(folder / "runs" / RUNS[0] / "analyses" / "behaviour" / "behaviour.parquet")
    conditions = behaviour[behaviour["contrast"] == ""]
    assert set(conditions["condition"]) == {"pretrained", "random_init"}
    assert set(conditions["runs"]) == {2}
    scores = folder / "runs" / RUNS[3] / "scores.h5"
    written = scores.read_bytes()
    try:
        scores.write_bytes(written[:-100])
        assert "of all runs together: behaviour (left)" in listing(folder)
    finally:
        scores.write_bytes(written)
    assert "of all runs together: behaviour (done)" in listing(folder)


def test_a_question_that_was_cut_off_while_it_was_saved_is_asked_again(made, monkeypatch):
    folder, _ = made
    run, options = (
        Run.open(folder / "runs" / RUNS[2]),
        plan_file.read(folder / "plan.toml").questions["layer-probes"],
    )
    draws = next((run.path / "analyses").rglob("draws.h5"))
    before = draws.read_bytes()

    def killed(path, *others):
        if path.name == draws.name:
            raise KeyboardInterrupt
        write(path, *others)

    write = records.write
    with monkeypatch.context() as patch:
        patch.setattr(records, "write", killed)
        draws.unlink()
        with pytest.raises(KeyboardInterrupt):
            asking.ask([run], "layer-probes", options)
    assert not asking.asked([run], "layer-probes", options)
    asking.ask([run], "layer-probes", options)
    assert asking.asked([run], "layer-probes", options)
    assert draws.read_bytes() == before


def test_another_plan_in_the_folder_is_refused_in_one_line(made, caplog):
    folder, _ = made
    other = folder / "other.toml"
    other.write_text((folder / "plan.toml").read_text().replace("train.steps = 3", "train.steps = 4"))
    assert taxogen(["sweep", str(other), "--out", str(folder / "runs"), "--jobs", "1"]) == 2
    (line,) = caplog.text.strip().splitlines()[-1:]
    assert "train.steps" in line


@pytest.fixture(scope="module")
def collected(made):
    folder, _ = made
    collect(folder)
    return folder


def collect(folder, out="results", plan="plan.toml", runs="runs", words=()):
    where = {"--plan": plan, "--runs": runs, "--out": out}
    main([*(word for flag, name in where.items() for word in (flag, str(folder / name))), *words])


def test_tables_say_what_the_runs_do(collected):
    tables = Tables.read(collected / "results")
    assert tables.runs["run"].tolist() == sorted(RUNS)
    assert tables.runs["hash"].tolist() == [
        Run.open(collected / "runs" / run).config.hash for run in sorted(RUNS)
    ]
    assert set(tables.runs["code"]) != {""}
    edges = tables.taxonomies[["node", "hypernym"]].itertuples(index=False, name=None)
    assert set(edges) == set(Run.open(collected / "runs" / RUNS[0]).taxonomy.edges) > {("fruit", "food")}
    assert set(Study.of(tables, "toy").heights(["toy-full-pretrained"])["height"].dropna()) == {1, 2}
    sizes = tables.numbers[tables.numbers["measure"] == "size"]
    assert set(sizes["run"]) == set(RUNS), "of two blocks the last one is the last third"
    scores = Study.of(tables, "toy").scores()
    for name in ("auroc", "top1", "leaf_naming"):
        for condition in ("toy-full-pretrained", "toy-full-random"):
            of_seeds = [
                main_scores(Run.open(collected / "runs" / f"{condition}-{seed}"))[name] for seed in (0, 1)
            ]
            rows = scores[(scores["condition"] == condition) & (scores["measure"] == name)]
            value = rows.loc[rows["baseline"] == "", "value"].item()
            assert value == pytest.approx(np.mean(of_seeds), abs=1e-9)


def test_a_second_collection_reads_nothing_and_a_fresh_one_has_the_same_bytes(collected, capsys):
    before = {name: (collected / "results" / f"{name}.parquet").read_bytes() for name in COLUMNS}
    collect(collected)
    assert "4 of 4 runs" in (said := capsys.readouterr().out)
    assert "(0 read now)" in said
    for run in RUNS:
        os.utime(collected / "runs" / run / "run.json", (0, 0))  # as a plain copy has other times
    collect(collected, "fresh")
    for name, bytes in before.items():
        assert all(
            (collected / out / f"{name}.parquet").read_bytes() == bytes for out in ("results", "fresh")
        ), name


def test_runs_that_the_tables_have_are_not_made_again(collected, tmp_path):
    words = [
        "sweep",
        str(collected / "plan.toml"),
        "--out",
        str(tmp_path),
        "--tables",
        str(collected / "results"),
    ]
    assert taxogen(words) == 0
    assert set(pd.read_csv(tmp_path / TABLE)["state"]) == {sweep.STORED}
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_tables_name_no_folder_of_the_machine_that_made_them(collected):
    configs = [json.loads(text) for text in Tables.read(collected / "results").runs["config"]]
    assert not [text for text in map(json.dumps, configs) if str(collected) in text or '"/' in text]
    assert {one["model"]["lm"] for one in configs} == {
        Run.open(collected / "runs" / RUNS[0]).config.model.lm.split("/")[-1]
    }


def test_figures_have_the_numbers_of_the_tables_and_claims_name_what_is_missing(collected, capsys):
    out, tables = collected / "figures", shutil.copytree(collected / "results", collected / "with another")
    shutil.copy(next((collected / "runs").rglob("layer_probes.parquet")), tables / "one-run.parquet")
    main(["--tables", str(tables), "--out", str(out)])
    said = capsys.readouterr().out
    made = {path.stem for path in out.glob("*.png")}
    assert {name for name in made if not name.startswith("one-run-")} == {"toy-heights", "toy-transfer"}
    assert made >= {"one-run-curves", "one-run-hypernyms"}
    assert "toy: 4 of 4 runs" in said
    assert "The plan has no contrast 'shuffle.coherence'." in said
    figures, verdicts, lines = answers(Tables.read(collected / "results"), "toy")
    (axes,) = [axes for axes in figures["transfer"].axes if axes.get_title() == "full"]
    assert axes.get_ylabel() == "AUROC above control"
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert np.asarray(drawn["pretrained"].get_xdata()).tolist() == [-1, 0, 1], "the input and two blocks"
    assert len(verdicts) > 10
    stored = Tables.read(tables).numbers.query("measure == 'size' and span == 'cue'")
    of_runs = stored.groupby("run")["value"].mean()
    for line, init in zip(lines[1:], ("pretrained", "random"), strict=True):
        seeds = of_runs[[name for name in RUNS if init in name]]
        assert line.startswith(f"    toy-full-{init}: first block")
        assert f"size {seeds.mean():.3f} [" in line
        assert line.endswith(f"sd between seeds {seeds.std():.3f}")
    assert all(line in said for line in lines)


def test_a_stored_run_of_another_plan_is_refused(collected, capsys):
    other = collected / "third.toml"
    other.write_text((collected / "plan.toml").read_text().replace("train.steps = 3", "train.steps = 5"))
    (collected / "empty").mkdir(exist_ok=True)
    with pytest.raises(SystemExit) as end:
        main(["--plan", str(other), "--runs", str(collected / "empty"), "--out", str(collected / "results")])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the tables have toy-full-pretrained-0 of another config" in line


def test_probes_of_other_options_are_none_of_the_plan(collected):
    text = (collected / "plan.toml").read_text()
    (collected / "options.toml").write_text(text.replace("draws = 20", "draws = 30"))
    collect(collected, "options", "options.toml")
    tables = Tables.read(collected / "options")
    assert len(tables.runs) == len(RUNS)
    assert tables.numbers.empty
    assert tables.draws.empty
    collect(collected, "options")
    assert set(Tables.read(collected / "options").draws["run"]) == set(RUNS)


def test_a_run_that_cannot_be_read_is_told_in_one_line_and_the_others_are_collected(collected, capsys):
    runs = shutil.copytree(collected / "runs", collected / "spoilt")
    (runs / RUNS[1] / "scores.h5").write_bytes((runs / RUNS[1] / "scores.h5").read_bytes()[:-100])
    (runs / RUNS[2] / "run.json").write_text("{")
    draws = next((runs / RUNS[3]).rglob("draws.h5"))
    draws.write_bytes(draws.read_bytes()[:-100])
    collect(collected, "spoilt-results", runs="spoilt")
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert [line.split(" ")[0] for line in lines] == RUNS[1:]
    assert all("is left out: " in line for line in lines)
    assert "1 of 4 runs" in said.out
    assert Tables.read(collected / "spoilt-results").runs["run"].tolist() == RUNS[:1]
    before = Tables.read(collected / "results").runs
    collect(collected, runs="spoilt")
    pd.testing.assert_frame_equal(Tables.read(collected / "results").runs, before)


def test_runs_that_are_scored_otherwise_than_the_plan_says_are_left_out(collected, capsys):
    collect(collected, "choices", words=["--set", "evaluate.leaf_choices=3"])
    said = capsys.readouterr()
    assert "0 of 4 runs" in said.out
    lines = said.err.strip().splitlines()
    assert [line.split(" ")[0] for line in lines] == RUNS
    assert all("is scored with other settings `evaluate`" in line for line in lines)


def test_rows_of_another_format_are_read_again(collected, capsys, monkeypatch):
    collect(collected, "format")
    monkeypatch.setattr(collecting, "FORMAT", collecting.FORMAT + 1)
    collect(collected, "format")
    assert "(4 read now)" in capsys.readouterr().out.splitlines()[-1]


def test_tables_of_all_seeds_are_not_cut_to_one(collected, capsys):
    with pytest.raises(SystemExit):
        collect(collected, words=["--set", "seed=1"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the tables have 2 runs of toy that this plan has not, such as toy-full-pretrained-0" in line
    collect(collected, "grown", words=["--set", "seed=1"])
    collect(collected, "grown")
    assert Tables.read(collected / "grown").runs["run"].tolist() == sorted(RUNS)
