"""Styles of figures: their files and widths, names at the ends of curves, forests of one layer, true axes of layers."""

import itertools
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analyses.frame import drawing
from analyses.frame.drawing import panels

CAPTION = drawing.caption(31, "leaf concepts", "95 % bootstrap", "dashed, 0")


def rows(level: float, layers=range(12)) -> pd.DataFrame:
    layers = np.asarray(layers, dtype=float)
    return pd.DataFrame({"layer": layers, "value": level, "lower": level - 0.1, "upper": level + 0.2})


def curves(levels: dict[str, float], layers=range(12), count: int = 2) -> Figure:
    """Panels with a curve at each of some levels, a legend and a caption."""
    with drawing.style():
        figure, places = panels.side_by_side(count)
        palette = drawing.colours(list(levels))
        for axes in places:
            for name, level in levels.items():
                drawing.curve(axes, rows(level, layers), "layer", palette[name], name)
            panels.frame(axes, "cue")
        places[0].set_ylabel("cohesion")
        panels.legend(figure, places[0], 3)
        drawing.footnote(figure, CAPTION)
    return figure


def saved(folder, figure: Figure, name: str, width: str = ""):
    with drawing.style(name, width):
        drawing.save(figure, folder, "one", {})
    return {path.name for path in folder.iterdir()} - {"made.json"}


@pytest.mark.parametrize(("width", "inches"), [("one", 3.35), ("", 6.9)])
def test_a_paper_has_its_columns_its_kinds_of_files_and_captions_beside_them(tmp_path, width, inches):
    assert saved(tmp_path, curves({"a": 0, "b": 1}), "paper", width) == {
        f"one.{x}" for x in ("pdf", "png", "svg", "txt")
    }
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == pytest.approx(inches * 300, abs=1)
    assert (tmp_path / "one.txt").read_text(encoding="utf-8") == CAPTION + "\n"
    pdf, svg = (tmp_path / "one.pdf").read_bytes(), (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert b"/FontFile2" in pdf  # whole TrueType fonts inside
    assert b"CreationDate" not in pdf
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
    assert float(box) == pytest.approx(72 * inches, abs=0.1)
    assert re.search(r"<text[^>]*>cohesion</text>", svg)
    assert "leaf concepts" not in svg


def test_the_same_figure_has_the_same_bytes_as_pdf(tmp_path):
    for name in ("a", "b"):
        saved(tmp_path / name, curves({"a": 0}), "talk", "one")
    assert (tmp_path / "a/one.pdf").read_bytes() == (tmp_path / "b/one.pdf").read_bytes()


def test_on_the_screen_the_caption_is_inside_and_files_of_another_style_do_not_stay(tmp_path):
    saved(tmp_path, curves({"a": 0}), "talk")
    figure = curves({"a": 0})
    before = figure.get_size_inches().tolist()
    assert saved(tmp_path, figure, "screen") == {"one.png", "one.svg"}
    assert figure.get_size_inches().tolist() == before
    assert "leaf concepts" in (tmp_path / "one.svg").read_text(encoding="utf-8")


def test_an_inner_style_without_a_name_is_that_around_it():
    with drawing.style("paper"), drawing.style():
        assert matplotlib.rcParams["font.size"] == drawing.STYLES["paper"].size
    assert matplotlib.rcParams["font.size"] != drawing.STYLES["paper"].size


@pytest.mark.parametrize(("name", "width"), [("poster", ""), ("paper", "three"), ("Paper", "one")])
def test_an_unknown_style_or_width_is_refused_with_those_that_there_are(name, width):
    with pytest.raises(ValueError, match="was asked for; known: "), drawing.style(name, width):
        raise AssertionError


def fitted(figure: Figure, width: float = 0) -> Figure:
    with drawing.style():
        drawing.fit(figure, width or float(figure.get_size_inches()[0]))
        figure.draw_without_rendering()
    return figure


def test_curves_that_end_apart_carry_their_names_at_their_ends_without_overlap():
    figure = fitted(curves({"a": 0, "b": 0.05, "c": 1}))
    assert not figure.legends
    first, last = figure.axes
    assert not first.texts
    boxes = [text.get_window_extent() for text in last.texts]
    names = sorted(last.texts, key=lambda text: text.get_window_extent().y0)
    assert [text.get_text() for text in names] == ["a", "b", "c"]
    assert [text.get_color() for text in last.texts] == [line.get_color() for line in last.lines[:3]]
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    assert all(box.x0 > last.bbox.x1 and box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize(
    "levels",
    [dict.fromkeys("abcdefg", 0.5), {"a name that is far too long for the end of a curve": 0, "b": 1}],
    ids=["crowded", "long"],
)
def test_a_legend_stays_where_names_find_no_room(levels):
    figure = fitted(curves(levels))
    (legend,) = figure.legends
    assert legend.get_visible()
    assert not any(axes.texts for axes in figure.axes)
    assert legend.get_window_extent().width <= figure.bbox.width


def test_a_legend_and_titles_fit_a_narrow_figure():
    figure = curves({f"name number {k}": 0.01 * k for k in range(6)})
    figure.axes[0].set_title("a title of many words for so narrow a panel")
    figure = fitted(figure, 2.7)
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width
    assert figure.axes[0].title.get_window_extent().width <= 1.3 * figure.axes[0].bbox.width


def test_points_of_one_layer_are_a_forest_with_a_line_each():
    figure = fitted(curves({"a": 0, "b": 0.1, "c": 0.1}, layers=[7]))
    assert not figure.legends
    for axes in figure.axes:
        points = [one.lines[0].get_xydata().tolist()[0] for one in axes.containers]
        assert points == [[0, 0], [0.1, 1], [0.1, 2]]
        bars = [one.lines[2][0].get_segments()[0] for one in axes.containers]
        np.testing.assert_allclose(bars[1], [[0, 1], [0.3, 1]])
        low, high = axes.get_xlim()
        assert low < -0.1 < 0.3 < high < 1
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]
    assert figure.axes[0].get_ylabel() == "block 7"
    assert figure.axes[0].get_xlabel() == "cohesion"


def test_layers_have_ticks_at_whole_numbers():
    axes = fitted(curves({"a": 0}, layers=range(4))).axes[0]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_heat_map_and_its_dots_have_a_place_for_each_layer():
    grid = pd.DataFrame([[1.0, 2.0, 3.0]], ["cue"], pd.Index([0.0, 4.0, 5.0], name="layer"))
    axes = Figure().subplots()
    image = drawing.heat(axes, grid, (0, 3))
    shown = np.ma.filled(np.ma.asarray(image.get_array()), np.nan)
    np.testing.assert_array_equal(shown, [[1, np.nan, np.nan, np.nan, 2, 3]])
    drawing.dots(axes, grid > 1)
    assert axes.lines[0].get_xydata().tolist() == [[4, 0], [5, 0]]


@pytest.mark.parametrize(
    ("values", "low"), [([0.7, 0.9], 0.5), ([0.42, 1], 0.4), ([np.nan], 0.5), ([0.3, np.nan], 0.3)]
)
def test_a_scale_of_aurocs_begins_at_chance_or_below_the_lowest(values, low):
    assert drawing.auroc_limits(pd.Series(values)) == (pytest.approx(low), 1)


def heat_maps():
    """Three heat maps side by side, as layer probes over training have them."""
    figure = Figure(figsize=(6.6, 2.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    steps = pd.Index([0, 25, 50, 100, 200, 300], name="step")
    grid = pd.DataFrame(np.linspace(0.5, 1, 60).reshape(10, 6), pd.Index(range(10), name="layer"), steps)
    for axes, name in zip(panels, ("slot", "cue", "last")):
        drawing.heat(axes, grid, (0.5, 1.0), "mean AUROC" if name == "last" else None)
        axes.set(title=name, xlabel="training step")
    panels[0].set_ylabel("layer")
    drawing.footnote(figure, "Pictures. n = 351 leaf concepts.")
    return figure, list(panels)


@pytest.mark.parametrize(("width", "below"), [("one", True), ("two", False)])
def test_heat_maps_that_are_too_many_for_a_column_stand_below_one_another(tmp_path, width, below):
    with drawing.style("paper", width):
        figure, panels = heat_maps()
        drawing.save(figure, tmp_path, "maps", {})
        tops = [axes.get_position().y0 for axes in panels]
        assert (tops == sorted(set(tops), reverse=True)) is below
        assert [axes.get_xlabel() for axes in panels] == (
            ["", "", "training step"] if below else ["training step"] * 3
        )
        assert [axes.get_ylabel() for axes in panels] == (["layer"] * 3 if below else ["layer", "", ""])
        for axes in panels[-1:] if below else panels:
            names = [label.get_window_extent() for label in axes.get_xticklabels()]
            assert all(one.x1 < other.x0 for one, other in itertools.pairwise(names))
        (bar,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
        assert bar.get_ylabel() == "mean AUROC"
        whole = panels[0].get_position().y1 - panels[-1].get_position().y0
        assert np.isclose(bar.get_position().height, whole, atol=0.02)
        assert np.allclose(
            [axes.get_position().width for axes in panels], panels[0].get_position().width, rtol=0.01
        )
