"""Every table of the results that has figures is drawn legibly in every style, at every width."""

import itertools
import warnings
from pathlib import Path

import pandas as pd
import pytest

from analyses.emergence.side_by_side import side_by_side
from analyses.figures import main, redraw
from analyses.frame import drawing
from tests.analyses.drawn import misprints

RESULTS = Path(__file__).parents[2] / "docs/results"
DRAWN = (
    "evidence",
    "interchange-pooled",
    "knockout-pooled",
    "mediation",
    "mediation-init",
    "mediation-longer",
    "mediation-truth",
    "patching-pooled",
    "text-alignment",
)
LOOKS = [*itertools.product(drawing.STYLES, ("", *drawing.WIDTHS))]
QUICK = [("mediation", "paper", "one"), ("patching-pooled", "talk", "one")]


def faults(name: str, monkeypatch, folder) -> dict[str, list[str]]:
    """What is misprinted in each figure of a table, as it is saved."""
    found: dict[str, list[str]] = {}
    save = drawing.save

    def look(figure, folder, name, made_from):
        drawing.lay_out(figure)
        found[name] = misprints(figure)

    monkeypatch.setattr(drawing, "save", look)
    redraw(RESULTS / f"{name}.parquet", folder)
    monkeypatch.setattr(drawing, "save", save)
    assert found
    return {name: lines for name, lines in found.items() if lines}


def drawn(name, style, width, monkeypatch, folder):
    with warnings.catch_warnings(), drawing.style(style, width):
        warnings.filterwarnings("error", message="constrained_layout not applied")
        return faults(name, monkeypatch, folder)


@pytest.mark.parametrize(("name", "style", "width"), QUICK)
def test_figures_that_are_narrower_than_their_panels_ask_are_legible(
    name, style, width, monkeypatch, tmp_path
):
    assert drawn(name, style, width, monkeypatch, tmp_path) == {}


def test_the_leading_figure_has_as_many_ticks_as_its_panels_have_room_for():
    table = pd.read_parquet(RESULTS / "evidence.parquet")
    with drawing.style("paper", "one"):
        figure = side_by_side(table, "pretrained")
        drawing.lay_out(figure)
        assert misprints(figure) == []
    for axes in figure.axes:
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


@pytest.mark.nightly
@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(("style", "width"), LOOKS)
def test_every_figure_is_legible(name, style, width, monkeypatch, tmp_path):
    assert drawn(name, style, width, monkeypatch, tmp_path) == {}


def test_no_table_with_figures_is_left_out():
    """A table is one of an analysis by its column; of those, `numbers` has no figures of its own."""
    tables = {path.stem for path in RESULTS.glob("*.parquet") if "analysis" in pd.read_parquet(path)}
    assert tables - {"numbers"} == set(DRAWN)


def test_a_figure_that_collapses_is_refused_and_leaves_no_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("analyses.frame.drawing.fitting.stacked", lambda *_: None)
    monkeypatch.setattr("analyses.frame.drawing.fitting.make_room", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        main(
            [str(RESULTS / "mediation.parquet"), "--style", "paper", "--width", "one", "--out", str(tmp_path)]
        )
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "figure effects has no room for its panels at this width; give --width two" in line
    assert not list(tmp_path.glob("effects.*"))
