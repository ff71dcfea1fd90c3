"""Runs by identity: names that differ where folders do not, and one run given twice in every way."""

import shutil
from dataclasses import replace

import pytest

from analyses.frame.identity import distinguished
from probing.store import MismatchError
from tests.analyses.frame.planted_runs import fill, planted_run


def names(runs):
    return [run.name for run in distinguished(runs)]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("toy",), ["toy"]),
        (("a/toy", "b/other"), ["toy", "other"]),
        (("a/toy", "b/toy"), ["a/toy", "b/toy"]),
        (("a/toy", "b/toy", "b/other"), ["a/toy", "b/toy", "other"]),
        (("a/x/toy", "b/x/toy", "x/y/toy"), ["a/x/toy", "b/x/toy", "y/toy"]),
        (("toy/toy", "toy"), ["toy/toy", "{root}/toy"]),
    ],
)
def test_names_are_the_shortest_ends_of_paths_that_differ(tmp_path, paths, expected, monkeypatch):
    runs = [planted_run(tmp_path / path, seed) for seed, path in enumerate(paths)]
    expected = [name.format(root=tmp_path.name) for name in expected]
    assert names(runs) == expected
    assert names(distinguished(runs)) == expected
    assert names(runs[::-1]) == expected[::-1]
    monkeypatch.chdir(tmp_path)
    assert names([replace(run, path=run.path.relative_to(tmp_path)) for run in runs]) == expected


@pytest.mark.parametrize("way", ["same", "dots", "link", "copy"])
def test_one_run_given_twice_is_refused_with_both_paths(tmp_path, way):
    run = planted_run(tmp_path / "a" / "toy")
    other = tmp_path / "b"
    path = {"same": run.path, "dots": tmp_path / "a" / ".." / "a" / "toy"}.get(way, other)
    if way == "link":
        other.symlink_to(run.path)
    if way == "copy":
        shutil.copytree(run.path, other)
    third = planted_run(tmp_path / "c" / "toy", seed=1)
    with pytest.raises(MismatchError) as refusal:
        distinguished([run, third, replace(run, path=path)])
    assert str(refusal.value).startswith(f"one run was given twice, as {run.path} and as {path}")


def test_runs_that_differ_in_their_projector_alone_are_two(tmp_path):
    """Such as two that were trained in different worlds of the same config."""
    first, second = planted_run(tmp_path / "a"), planted_run(tmp_path / "b", projector=b"another")
    assert names([first, second]) == ["a", "b"]
    for run in (first, second):
        fill(run.snapshot(12), b"the same")
    with pytest.raises(MismatchError, match="copy"):
        distinguished([first, second])


def test_unfinished_runs_of_one_config_are_left_to_those_who_need_them_finished(tmp_path):
    first, second = planted_run(tmp_path / "a"), planted_run(tmp_path / "b")
    second.file("run.json").unlink()
    assert names([first, second]) == ["a", "b"]
    (tmp_path / "link").symlink_to(second.path)
    with pytest.raises(MismatchError, match="given twice"):
        distinguished([first, second, replace(second, path=tmp_path / "link")])
    shutil.rmtree(first.path / "projector")
    assert names([first, second]) == ["a", "b"]
