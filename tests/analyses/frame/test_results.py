"""Results of another question are moved, those of an older state removed; a quick look is marked and lies apart."""

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.results import EARLIER, QUICK, one_or_several
from probing.store import records
from taxogen.runs.run import Run
from tests.analyses.frame.planted_runs import COUNT, FILES, Options, fill, planted_run


def moved(folder: Path) -> dict[str, Path]:
    """The names of files in folders of earlier results → where they lie."""
    return {path.name: path for path in folder.glob(f"{EARLIER}/*/*") if path.name in FILES}


def test_results_with_other_options_move_with_their_figures_and_records_and_a_line(run, table, capsys):
    before = {name: table.with_name(name).read_bytes() for name in FILES}
    COUNT.ask([run], Options())
    assert "was made" not in capsys.readouterr().err
    COUNT.ask([run], Options(draws=20))
    where = moved(table.parent)[table.name].parent
    said = capsys.readouterr().err
    assert (
        f"count: {table} was made with the default options; it lies in {where} now, with its figures" in said
    )
    assert {name: path.read_bytes() for name, path in moved(table.parent).items()} == before
    made = [records.made_from(path) or {} for path in moved(table.parent).values()]
    assert {one["options"]["draws"] for one in made} == {Options().draws}
    COUNT.ask([run], Options(draws=30, seed=2))
    assert f"{table} was made with --draws 20; it lies in" in capsys.readouterr().err
    assert len(list(table.parent.glob(f"{EARLIER}/*"))) == 2
    COUNT.ask([run], Options(draws=20))
    COUNT.ask([run], Options(draws=30, seed=2))
    assert len(list(table.parent.glob(f"{EARLIER}/*"))) == 3
    assert sorted(records.recorded(table.parent)) == sorted(FILES)


def draw_some(table):
    """Figures of which names depend on the table."""
    return {str(name): Figure() for name in table["kind"]}


def asked(kinds, **more) -> Analysis:
    """A question whose table has a row and a figure for each of these kinds."""
    result = Result(pd.DataFrame({"kind": kinds, "value": 1.0}), Extras(**more))
    return replace(COUNT, compute=lambda runs, options: result, draw=draw_some, conclude=None)


@pytest.mark.parametrize("change", ["another projector", "another version of the code"])
def test_figures_of_an_older_state_are_not_left_beside_a_new_table(run, monkeypatch, capsys, change):
    asked(["slot", "cue"]).ask([run], Options())
    folder = run.path / "analyses" / "count"
    assert {path.stem for path in folder.glob("*.png")} == {"slot", "cue"}
    if change == "another projector":
        fill(run.snapshot(run.record["steps"]), b"another")
    else:
        makers = type(run).makers
        monkeypatch.setattr(type(run), "makers", lambda run, step=None: makers(run, step) | {"code": "99"})
    asked(["slot"]).ask([run], Options())
    assert {path.stem for path in folder.glob("*.png")} == {"slot"}
    assert "cue.png" not in records.recorded(folder)
    assert not list(folder.glob(EARLIER))
    assert ("it is replaced" in capsys.readouterr().err) == (change == "another projector")


def test_results_across_other_runs_move_and_those_of_one_run_stay(tmp_path, run):
    others = [planted_run(tmp_path / name, seed=seed) for seed, name in enumerate(("second", "third"), 1)]
    across = replace(
        asked(["slot"]),
        conclude=lambda runs, results, options: Extras(
            tables={"runs": pd.DataFrame({"n": [len(runs)]})}, figures={"runs": Figure()}
        ),
    )
    across.ask([run, others[0]], Options())
    folder = run.path / "analyses" / "count"
    first = {name: (folder / name).read_bytes() for name in ("runs.parquet", "runs.png", "count.parquet")}
    across.ask([run, *others], Options())
    (where,) = folder.glob(f"{EARLIER}/*")
    assert (where / "runs.parquet").read_bytes() == first["runs.parquet"]
    assert (where / "runs.png").is_file()
    assert not (where / "count.parquet").exists()
    assert (folder / "count.parquet").read_bytes() == first["count.parquet"]
    assert pd.read_parquet(folder / "runs.parquet")["n"].tolist() == [3]


def pixels(path: Path) -> np.ndarray:
    return matplotlib.image.imread(path)


def test_a_quick_look_has_fewer_draws_a_folder_of_its_own_and_marks(run, table, capsys):
    whole = table.read_bytes()
    question = replace(COUNT, quick={"seed": 5})
    question.main(["--run", str(run.path), "--quick"])
    said = capsys.readouterr().out
    assert said.startswith("A quick look, not the answer (--draws 200 --seed 5):")
    folder = run.path / "analyses" / f"count-{QUICK}"
    assert table.read_bytes() == whole
    made = records.made_from(folder / table.name)
    assert made is not None
    assert (made["options"]["draws"], made["options"]["seed"]) == (200, 5)
    assert pd.read_parquet(folder / table.name)[QUICK].all()
    assert QUICK not in pd.read_parquet(table)
    (name,) = {path.stem for path in table.parent.glob("*.png")}
    assert (pixels(folder / f"{name}.png") != pixels(table.with_name(f"{name}.png"))).any()
    question.main(["--run", str(run.path), "--quick", "--draws", "30"])
    made = records.made_from(folder / table.name)
    assert made is not None
    assert made["options"]["draws"] == 30


def test_figures_of_a_quick_look_are_marked_whoever_draws_them():
    table = pd.DataFrame({"kind": ["slot"], "value": [1.0]})
    marks = [[text.get_text() for text in figure.texts] for figure in (
        *asked(["slot"]).figures(table).values(), *asked(["slot"]).figures(table.assign(quick=True)).values()
    )]  # fmt: skip
    assert marks == [[], ["quick look"]]


def test_by_hand_one_run_is_taken_for_a_list_of_it_and_no_options_for_the_defaults(run):
    @one_or_several
    def compute(runs: list[Run], options: Options) -> Result:
        """Says what it was given."""
        return Result(pd.DataFrame({"run": [one.name for one in runs], "draws": options.draws}))

    for given in (run, [run]):
        assert compute(given).table.to_dict("records") == [{"run": run.name, "draws": Options().draws}]
    assert list(compute([run, run], Options(draws=7)).table["draws"]) == [7, 7]
    assert compute.__doc__ == "Says what it was given."


def test_a_refused_question_leaves_no_folder_and_no_lock(run):
    def refuse(runs, options):
        raise ValueError("no such site")

    before = sorted(run.path.rglob("*"))
    with pytest.raises(ValueError, match="no such site"):
        replace(COUNT, name="none", compute=refuse).ask([run], Options())
    assert sorted(run.path.rglob("*")) == before
