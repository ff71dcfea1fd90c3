"""The table of a sweep names its runs."""

import pytest

from analyses.frame.command_line import add_run_flags, described_parser, runs_in
from taxogen.stages.sweeping.sweep_table import runs_of_sweep


@pytest.fixture
def folder(tmp_path):
    for name in ("seed-1", "seed-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    (tmp_path / "sweep.csv").write_text('run,state,data.held_out\nseed-1,done,"a,b"\nseed-0,to train,c\n')
    return tmp_path


def test_the_runs_are_those_of_the_table_in_its_order(folder):
    assert runs_of_sweep(folder) == [folder / "seed-1", folder / "seed-0"]


def test_a_command_asks_runs_that_it_names_and_all_of_its_sweeps(folder):
    parser = described_parser("program", "About.")
    add_run_flags(parser)
    given = parser.parse_args(["--sweep", str(folder), "--run", "other", "--run", "third"])
    assert [path.name for path in runs_in(given)] == ["other", "third", "seed-1", "seed-0"]
    assert runs_in(parser.parse_args([])) == []


def test_a_folder_without_a_table_or_a_run_is_refused(folder):
    with pytest.raises(FileNotFoundError, match=r"is no folder of a sweep \(it has no sweep.csv\)"):
        runs_of_sweep(folder / "seed-0")
    (folder / "seed-0" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 runs in .*sweep.csv are not there, such as seed-0"):
        runs_of_sweep(folder)
