"""Stored parts and results of a toy run: read again only by those whose projector, world and inputs they are of."""

import h5py
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from analyses import emergence, erasure, layer_probes, lens, text_alignment
from analyses.frame import registry
from probing.store import MismatchError, records
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.analyses.frame.planted_runs import flip
from tests.analyses.frame.test_one_at_a_time import READY, both, one_waits
from tests.test_contract import arguments
from tests.world import toy_config, write_world

LENS = f"""{READY}
from analyses import lens
from analyses.frame import parts

made, write = [], parts.records.write
parts.records.write = lambda path, *rest: (made.append(path), write(path, *rest))
wait_for_both(sys.argv[1])
lens.main(sys.argv[2:])
print("made", sum("parts" in path.parts for path in made), file=sys.stderr)
"""
WITH_PARTS = ("erasure", "knockout", "lens", "patching")


@pytest.fixture(scope="module")
def toys(tmp_path_factory, toy_lm):
    """Makes a trained toy run of its own in a folder of its own."""
    folder = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        world = write_world(folder / "world", toy_lm)

        def made(name: str, *more: str) -> Run:
            run = Run.create(folder / name, toy_config(world, "train.steps=4", "capture.at=last", *more))
            train_run(run)
            return run

        yield made


@pytest.fixture(scope="module")
def run(toys):
    return toys("run")


def ask(name, run, *more):
    registry.load(name).main([*arguments(name, str(run.path)), *more])


def parts_of(name, run):
    """The parts of an analysis of a run, by path → time of writing."""
    paths = run.path.glob(f"analyses/{name}/parts/**/*")
    return {path: path.stat().st_mtime_ns for path in paths if path.suffix in (".parquet", ".npz")}


def another_projector(run):
    """Puts other weights in place of the last projector of a run, as if it had been trained otherwise."""
    snapshot = run.snapshot(4)
    weights = {name: 1.5 * value for name, value in load_file(snapshot).items()}
    made_from = records.made_from(snapshot) or {}
    records.write(snapshot, lambda part: save_file(weights, part), made_from)


@pytest.mark.parametrize("name", WITH_PARTS)
def test_parts_do_not_survive_another_projector_and_damaged_ones_are_made_again(name, toys, caplog):
    run, analysis = toys(name), registry.load(name)
    ask(name, run)
    before, path = parts_of(name, run), analysis.table_path(run)
    table = pd.read_parquet(path)
    for part in before:
        record = records.made_from(part)
        assert record is not None
        assert run.makers().items() <= {**record, **record.get("makers", {})}.items()
    damaged = sorted(before)[0]
    flip(damaged)
    caplog.clear()
    ask(name, run)
    assert [line for line in caplog.messages if "damaged" in line] == [
        line for line in caplog.messages if str(damaged) in line and line.endswith("it is made again")
    ]
    after = parts_of(name, run)
    assert {part for part in before if after[part] != before[part]} == {damaged}
    pd.testing.assert_frame_equal(pd.read_parquet(path), table, check_exact=True)
    another_projector(run)
    with pytest.raises(MismatchError, match="stale: it was made from another projector"):
        analysis.table(run)
    ask(name, run)
    again = parts_of(name, run)
    assert {part: time for part, time in again.items() if part in after} == after
    assert len(again) > len(after)
    assert not pd.read_parquet(path).equals(table)
    assert len(analysis.table(run)) == len(table)


def test_two_lenses_on_one_run_both_end_and_the_second_reads_the_parts_of_the_first(toys, tmp_path):
    run = toys("two")
    said = both(tmp_path / "ready", LENS, *[arguments("lens", str(run.path))] * 2)
    assert one_waits(said)
    assert said[0][0] == said[1][0]
    made = [int(err.partition("made ")[2].split()[0]) for _, err in said]
    assert sorted(made) == [0, 4]  # the input, two layers, and the nearest words
    folder = run.path / "analyses" / "lens"
    table, parts = (folder / "lens.parquet").read_bytes(), parts_of("lens", run)
    for name in records.recorded(folder):
        records.made_from(folder / name)
    ask("lens", run)
    assert (folder / "lens.parquet").read_bytes() == table
    assert parts_of("lens", run) == parts


def probe(run, *more):
    layer_probes.main(["--run", str(run.path), "--draws", "20", "--folds", "2", "--step", "last", *more])


def refused(capsys, main, *given):
    """The one line with which a command line is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(list(given))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("way", ["damaged", "stale"])
def test_layer_probes_that_are_damaged_or_stale_are_read_by_no_other_question(way, toys, capsys):
    run = toys(f"probed-{way}")
    probe(run)
    folder = run.path / "analyses" / "layer_probes"
    emergence.main(["--run", str(run.path)])
    if way == "stale":
        index = run.store_path(4, "image") / "index.json"
        index.write_bytes(index.read_bytes() + b"\n")
    else:
        flip(folder / "layer_probes.parquet")
        flip(folder / "directions.h5")
    remedy = f"`python -m analyses.layer_probes --run {run.path}"
    line = refused(capsys, emergence.main, "--run", str(run.path))
    assert f"{folder / 'layer_probes.parquet'} is {way}" in line
    assert remedy in line
    steering = ("--steer", "--hypernym", "bird", "--layer", "0")
    line = refused(capsys, erasure.main, "--run", str(run.path), *steering)
    assert f"{folder / 'directions.h5'} is {way}" in line
    assert remedy in line
    text_alignment.main(["--run", str(run.path), "--draws", "20", "--span", "cue"])
    assert f"{folder / 'layer_probes.parquet'} is {way}" in capsys.readouterr().out


def test_runs_that_were_probed_with_other_options_are_not_compared(toys, capsys):
    first, second = toys("first"), toys("second", "seed=1")
    probe(first)
    probe(second, "--controls", "2")
    line = refused(capsys, emergence.main, "--run", str(first.path), "--run", str(second.path))
    assert f"{first.path} was probed with controls=3, {second.path} with controls=2" in line
    probe(second, "--span", "cue", "slot")
    emergence.main(["--run", str(first.path), "--run", str(second.path)])


def test_steering_along_other_probes_is_made_again(run):
    asking = ("--steer", "--hypernym", "bird", "--layer", "0", "--direction", "probe", "--dose", "2")
    probe(run)
    steer = ["--run", str(run.path), "--folds", "2", *asking]
    erasure.main(steer)
    before = parts_of("erasure", run)
    erasure.main(steer)
    assert parts_of("erasure", run) == before
    probe(run, "--seed", "3")
    steering = registry.load("erasure").stored([run])["steering"]
    with pytest.raises(MismatchError, match=r"another analyses/layer_probes/directions\.h5"):
        steering.require()
    erasure.main(steer)
    assert len(parts_of("erasure", run)) > len(before)
    with h5py.File(run.path / "analyses" / "layer_probes" / "directions.h5") as file:
        assert file.attrs["run"] == "run"


def test_a_smaller_question_replaces_the_table_with_a_line_and_another_one_does_not(run, capsys):
    lens.main(["--run", str(run.path), "--draws", "20"])
    path = registry.load("lens").table_path(run)
    whole = path.read_bytes()
    lens.main(["--run", str(run.path), "--draws", "20", "--step", "0"])
    assert path.read_bytes() == whole
    assert (run.path / "analyses" / "lens-step-0" / "lens.parquet").is_file()
    capsys.readouterr()
    lens.main(["--run", str(run.path), "--draws", "20", "--leaves", "5"])
    assert path.read_bytes() != whole
    assert f"{path} was made with --draws 20; it lies in" in capsys.readouterr().err
