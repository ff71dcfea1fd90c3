"""Stored tables: killed while they are written, they are the old ones or the new."""

from pathlib import Path

import pandas as pd
import pytest

from analyses.study import main
from analyses.study.tables import COLUMNS, WHOLE, Tables
from taxogen.stages.sweeping import plan_file
from tests.analyses.study.planted import planted

PLAN = 'name = "toy"\n[groups.full]\nvary.model.init = ["pretrained", "random"]\n'


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN)
    plan = plan_file.read(path)
    first = planted(plan, lambda config: 1.0, lacking=lambda run: "random" in run)
    return first, planted(plan, lambda config: 1.0)


@pytest.mark.parametrize(("moves", "new"), [(0, False), (1, True), (2, True), (7, True)])
def test_tables_killed_while_written_are_the_old_or_the_new(states, tmp_path, monkeypatch, moves, new):
    states[0].write(tmp_path)
    left, replace = iter(range(moves)), Path.replace

    def dying(path, to):
        if (path.name == f"{WHOLE}.part" or path.parent.name == WHOLE) and next(left, None) is None:
            raise KeyboardInterrupt
        return replace(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            states[1].write(tmp_path)
    assert_same(Tables.read(tmp_path), states[new])
    assert len(pd.read_parquet(tmp_path / "runs.parquet")) == len(states[0].runs), "it is moved last"
    states[0].write(tmp_path)
    assert_same(Tables.read(tmp_path), states[0])
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.parquet" for name in COLUMNS}


def assert_same(one, other):
    for name in COLUMNS:
        assert len(getattr(one, name)) == len(getattr(other, name)), name
    pd.testing.assert_series_equal(one.runs["run"], other.runs["run"], check_dtype=False)


def test_where_a_table_is_missing_collecting_begins_anew(states, tmp_path):
    states[1].write(tmp_path / "out")
    (tmp_path / "out" / "pictures.parquet").unlink()
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "runs").mkdir()
    main(
        [
            f"--{name}={tmp_path / value}"
            for name, value in (("plan", "plan.toml"), ("runs", "runs"), ("out", "out"))
        ]
    )
    assert Tables.read(tmp_path / "out").runs.empty


@pytest.mark.parametrize(
    ("name", "column"), [("taxonomies", "node"), ("runs", "effective"), ("numbers", "n")]
)
def test_tables_of_other_versions_are_refused_by_name(states, tmp_path, capsys, name, column):
    states[1].write(tmp_path)
    path = tmp_path / f"{name}.parquet"
    pd.read_parquet(path).drop(columns=column).to_parquet(path)
    with pytest.raises(SystemExit) as ended:
        main(["--tables", str(tmp_path), "--out", str(tmp_path / "figures")])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{path} has no column {column}" in said
    assert "--out DIR" in said
