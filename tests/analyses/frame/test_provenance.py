"""What results were made from is kept beside them and compared: damaged and stale ones are refused by name."""

import dataclasses
import json
import shutil
from dataclasses import make_dataclass, replace

import pytest

from analyses.frame import analysis, provenance, registry
from analyses.report.sections import stored
from probing.store import MismatchError, records
from taxogen.runs.run import Run
from tests.analyses.frame.planted_runs import (
    COUNT,
    FILES,
    STEPS,
    Options,
    fill,
    flip,
    planted_run,
    write_world,
)


def test_every_file_says_what_it_was_made_from(run, table):
    assert records.recorded(table.parent) == sorted(FILES)
    (record,) = {json.dumps(records.made_from(table.with_name(name)), sort_keys=True) for name in FILES}
    record = json.loads(record)
    assert record["analysis"] == "count"
    assert record["options"] == dataclasses.asdict(Options())
    assert record["runs"] == {"toy": run.makers()}
    assert record["reads"]["toy"]["scores.h5"] == records.sha256(run.file("scores.h5"))
    assert set(record["reads"]["toy"]) == {"scores.h5", "captures/step-000000", f"captures/step-{STEPS:06d}"}
    COUNT.ask([run], Options(step=0))
    other = records.made_from(run.path / "analyses" / "count-step-0" / "count.parquet")
    assert other is not None
    assert (
        other["runs"]["toy"]["projector"]
        == records.sha256(run.snapshot(0))
        != record["runs"]["toy"]["projector"]
    )


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_found_and_the_file_named(run, table, name):
    flip(table.with_name(name))
    for other in FILES:
        if other != name:
            records.made_from(table.with_name(other))
    with pytest.raises(records.DamagedError, match=name):
        records.made_from(table.with_name(name))
    COUNT.ask([run], Options())
    records.made_from(table.with_name(name))


def test_a_damaged_table_is_refused_with_the_command_that_makes_it(run, table):
    flip(table)
    with pytest.raises(records.DamagedError) as refusal:
        COUNT.table(run)
    assert f"{table} is damaged" in str(refusal.value)
    assert f"`python -m analyses.count --run {run.path}` makes it again" in str(refusal.value)


def write_other_run(run):
    other = replace(run, config=replace(run.config, seed=5))
    fill(run.path / "config.json", json.dumps(other.config.to_dict()).encode())
    write_world(other, threads=1)


def test_a_file_that_an_option_of_text_names_is_a_part_of_what_results_were_made_from(run, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("crow 1 2", encoding="utf-8")
    options = make_dataclass("Texts", [("words", str), ("far", str), ("word", str)])
    record = provenance.made_from(
        replace(COUNT, options=options), [run], options(str(words), "x" * 5000, "no-file")
    )
    assert record["beside"] == {str(words): {"digest": records.sha256(words)}}
    path = fill_with(run, record)
    provenance.Stored(COUNT, path, [run]).require()
    words.write_text("crow 2 1", encoding="utf-8")
    with pytest.raises(MismatchError, match=r"words.txt has changed since"):
        provenance.Stored(COUNT, path, [run]).require()


def fill_with(run, record):
    """A table of a run that was made from these things."""
    path = run.path / "texts.parquet"
    records.write(path, lambda part: part.write_bytes(b"table"), record)
    return path


CHANGES = {
    "another projector": lambda run: fill(run.snapshot(STEPS), b"another"),
    "another scores.h5": lambda run: fill(run.file("scores.h5"), b"others"),
    "another captures/step-000012": lambda run: fill(run.path / "captures/step-000012/index.json", b"[]"),
    "another captures/step-000000": lambda run: shutil.rmtree(run.path / "captures/step-000000"),
    "another run": lambda run: write_other_run(run),
    "another world": lambda run: write_world(run, threads=2),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_table_of_another_state_of_the_run_is_stale(run, table, what):
    assert len(COUNT.table(run)) == 1
    CHANGES[what](run)
    run = Run.open(run.path)
    with pytest.raises(MismatchError) as refusal:
        COUNT.table(run)
    assert f"{table} is stale: it was made from {what}" in str(refusal.value)
    assert f"`python -m analyses.count --run {run.path}` makes it again" in str(refusal.value)
    COUNT.ask([run], Options())
    assert len(COUNT.table(run)) == 1


def test_the_version_of_the_code_and_what_came_later_refuse_nothing(run, table, monkeypatch):
    fill(run.path / "captures/step-000004/index.json", b"{}")
    fill(run.file("baselines.h5"), b"later")
    makers = Run.makers
    monkeypatch.setattr(Run, "makers", lambda run, step=None: makers(run, step) | {"code": "99"})
    assert len(COUNT.table(run)) == 1


def test_a_table_of_a_version_that_kept_no_records_stays_readable(run, table):
    (table.parent / records.FILE).unlink()
    flip(table.with_name("count.csv"))
    assert len(COUNT.table(run)) == 1
    assert COUNT.stored([run])["count"].require() is None


def test_records_that_cannot_be_read_are_refused_and_set_aside_by_the_next_start(run, table, caplog):
    flip(table.parent / records.FILE)
    with pytest.raises(records.DamagedError, match=r"made\.json is damaged"):
        COUNT.table(run)
    COUNT.ask([run], Options())
    assert "set aside" in caplog.text
    assert len(COUNT.table(run)) == 1


def test_the_last_step_by_number_is_the_default_question(run):
    COUNT.ask([run], Options(step=STEPS))
    assert COUNT.table_path(run).is_file()
    assert not list(run.path.glob("analyses/count-*"))


@pytest.mark.parametrize("takes", [analysis.Takes.RUNS_TOGETHER, analysis.Takes.RUNS_OR_NONE])
def test_a_table_of_several_runs_is_about_these_runs_and_no_others(run, tmp_path, takes):
    other, third = (planted_run(tmp_path / name, seed) for seed, name in enumerate(("b", "c"), start=1))
    together = replace(COUNT, takes=takes)
    together.ask([run, other], Options())
    for same in ([run, other], [run, replace(other, label="x/b")]):
        assert together.stored(same)["count"].require() is not None
    for another in ([run, third], [run], [run, other, third]):
        with pytest.raises(MismatchError, match="is about b, toy, not about"):
            together.stored(another)["count"].require()
    fill(other.snapshot(STEPS), b"another")
    with pytest.raises(MismatchError, match="another projector"):
        together.stored([run, other])["count"].require()


def test_a_question_that_needs_a_table_is_made_from_that_table(run, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: COUNT)
    COUNT.ask([run], Options())
    reader = replace(COUNT, name="reader", needs=("count",), reads=lambda _: ())
    reader.ask([run], Options())
    record = reader.stored([run])["reader"].require()
    assert record is not None
    assert record["reads"]["toy"] == {"analyses/count/count.parquet": records.sha256(COUNT.table_path(run))}
    COUNT.ask([run], Options(draws=7))
    with pytest.raises(MismatchError, match=r"another analyses/count/count\.parquet"):
        reader.table(run)


def shown(run):
    """The section of the report about the run's tables."""
    return stored(COUNT, [run])


def test_the_report_shows_what_fits_and_lists_the_rest_with_reason_and_command(run, table):
    (answer,) = shown(run).answers
    assert list(answer.figures) == ["count"]
    assert answer.asked == ""
    for change, reason in (
        (lambda: flip(table), "is damaged"),
        (lambda: fill(run.snapshot(STEPS), b"another"), "is stale: it was made from another projector"),
    ):
        COUNT.ask([run], Options())
        assert not shown(run).reasons
        change()
        section = shown(run)
        assert not section.answers
        assert f"{table} {reason}" in section.reasons[0]
        assert f"`python -m analyses.count --run {run.path}` makes it again" in section.reasons[0]


@pytest.mark.parametrize("way", ["flipped", "of another table"])
def test_the_report_leaves_out_a_figure_that_is_not_of_its_table(run, table, way):
    figure = table.with_name("count.png")
    if way == "flipped":
        flip(figure)
    else:
        fill(figure, b"a figure")
    section = shown(run)
    assert not section.answers[0].figures
    assert str(figure) in section.reasons[0]


def test_the_report_says_with_which_options_a_question_was_asked(run):
    COUNT.ask([run], Options(draws=20))
    assert shown(run).answers[0].asked == "--draws 20"
