import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analyses.frame import drawing
from probing.store import records
from tests.analyses.colour_vision import VISION, distance, lab

CONDITIONS = ("pretrained", "random_init", "within", "across")


def curve_rows(n=12, seed=0):
    values = np.random.default_rng(seed).uniform(0.5, 0.9, n)
    return pd.DataFrame(
        {"layer": np.arange(n) - 1.0, "value": values, "lower": values - 0.05, "upper": values + 0.1}
    )


def forest_rows():
    return pd.DataFrame(
        {
            "condition": [*CONDITIONS, "pretrained · gpt2"],
            "value": [0.83, 0.5, 0.87, 0.56, np.nan],
            "lower": [0.79, 0.45, 0.83, 0.5, np.nan],
            "upper": [0.86, 0.55, 0.91, 0.61, np.nan],
        }
    )


def example() -> Figure:
    with drawing.style():
        figure = Figure(figsize=(7.2, 3), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        drawing.curve(left, curve_rows(), "layer", drawing.colour("pretrained"), "pretrained")
        drawing.points(middle, forest_rows(), "condition")
        drawing.heat(right, pd.DataFrame(np.eye(4)), (0, 1), "value")
        drawing.footnote(figure, drawing.caption(361, "leaf concepts", "95 % bootstrap", "dashed"))
    return figure


def test_all_colours_are_distinct_to_all_eyes_and_dark_enough_on_white():
    for first, second in itertools.combinations(drawing.MARKER_OF, 2):
        assert distance(first, second) > 15, (first, second)
    assert all(lab(colour, VISION["none"])[0] < 75 for colour in drawing.MARKER_OF)
    assert distance("#D55E00", "#8DB600") < distance("#D55E00", "#0072B2")  # what red-green blindness is
    assert set(drawing.COLOURS.values()) <= set(drawing.MARKER_OF)


def test_curves_are_distinct_without_colour():
    shapes = list(drawing.MARKER_OF.values())
    assert len(set(shapes)) == len(shapes)
    axes = Figure().subplots()
    for colour in drawing.MARKER_OF:
        drawing.curve(axes, curve_rows(30), "layer", colour)
    assert [line.get_marker() for line in axes.lines] == shapes
    assert len({tuple(line.get_markevery()) for line in axes.lines}) > 1  # not one over the other


def test_names_without_a_fixed_colour_get_different_ones_that_no_condition_has():
    names = ["pretrained", "a", "b", "c", "a"]
    palette = drawing.colours(names)
    assert list(palette) == ["pretrained", "a", "b", "c"]
    assert palette["pretrained"] == drawing.colour("pretrained")
    assert len(set(palette.values())) == 4
    conditions = {drawing.colour(name) for name in CONDITIONS}
    assert conditions.isdisjoint(palette[name] for name in "abc")
    assert drawing.colour("a") not in conditions


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("within · steps 200", "within"),
        ("pretrained-embeddings", "pretrained embeddings"),
        ("none", "pretrained"),
        ("within_minus_across", "within − across"),
        ("pretrained − random_init", "pretrained_minus_random_init"),
        ("within · steps 200_minus_across · steps 800", "within − across"),
        ("graded.25", "graded 0.25"),
    ],
)
def test_spellings_of_one_condition_or_contrast_have_its_colour(one, other):
    expected = drawing.colour(other)
    assert expected in drawing.COLOURS.values()
    assert (
        drawing.colour(one)
        == drawing.colours(["a", one])[one]
        == drawing.colours([one, "b"])[one]
        == expected
    )


def test_fixed_colours_of_one_kind_differ_and_are_distinct_to_all_eyes():
    doses = [f"graded{dose}" for dose in (".25", ".5", ".75")]
    kinds = (
        ["pretrained", "random_init", "pretrained-embeddings", "within", "across", "category", *doses],
        [
            "pretrained_minus_random_init",
            "within − across",
            "within − category",
            "category − across",
            *CONDITIONS,
        ],
    )
    for names in kinds:
        tints = [drawing.colour(name) for name in names]
        assert set(tints) <= set(drawing.COLOURS.values())
        assert all(distance(first, second) > 15 for first, second in itertools.combinations(tints, 2))


def test_of_names_that_differ_in_what_else_varies_one_has_the_fixed_colour():
    names = ["within · steps 200", "within", "within · steps 800"]
    palette = drawing.colours(names)
    assert palette["within"] == drawing.colour("within")
    assert len(set(palette.values())) == 3


def test_numbers_beside_points_have_a_minus_sign_and_no_minus_zero():
    axes = Figure().subplots()
    rows = forest_rows()[:2].assign(value=[-0.003, -0.25])
    drawing.points(axes, rows, "condition")
    assert [text.get_text() for text in axes.texts] == ["0.00", "−0.25"]


def test_a_curve_is_its_table_in_order_whatever_the_order_of_rows():
    rows = curve_rows()
    rows.loc[3, "layer"] = np.nan
    axes = Figure().subplots()
    drawing.curve(axes, rows.sample(frac=1, random_state=0), "layer", "k", "random_init")
    kept = rows.dropna()
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), kept[["layer", "value"]])
    assert axes.lines[0].get_label() == "random init"
    path = axes.collections[0].get_paths()[0].vertices
    assert path[:, 1].min() == kept["lower"].min()
    assert path[:, 1].max() == kept["upper"].max()


def test_a_dashed_curve_needs_no_interval_and_draws_none():
    axes = Figure().subplots()
    drawing.curve(axes, curve_rows()[["layer", "value"]], "layer", "k", dashed=True)
    assert len(axes.lines) == 1
    assert len(axes.collections) == 0


def test_points_stand_in_the_tables_order_from_the_top_with_their_intervals_and_numbers():
    axes = Figure().subplots()
    drawing.points(axes, forest_rows(), "condition")
    intervals = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert [tuple(line.get_xdata()) for line in intervals] == [
        (0.79, 0.86),
        (0.45, 0.55),
        (0.83, 0.91),
        (0.5, 0.61),
    ]
    assert [line.get_ydata()[0] for line in intervals] == [0, 1, 2, 3]
    assert [line.get_color() for line in intervals] == [drawing.colour(name) for name in CONDITIONS]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["0.83", "0.50", "0.87", "0.56", "–"]
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == ["pretrained", "random init", "within", "across", "pretrained\ngpt2"]


def test_a_contrast_reads_as_a_difference():
    axes = Figure().subplots()
    rows = forest_rows()[:1].assign(condition="within_minus_across")
    drawing.points(axes, rows, "condition")
    assert axes.get_yticklabels()[0].get_text() == "within −\nacross"


def test_a_heat_map_shows_the_cells_and_says_when_some_lie_beyond_the_scale():
    grid = pd.DataFrame([[0.2, 0.6], [0.9, np.nan]], index=[-1, 0], columns=[0, 100])
    figure = Figure()
    axes = figure.subplots()
    image = drawing.heat(axes, grid, (0.5, 1), "mean AUROC")
    shown = image.get_array()
    assert shown is not None
    np.testing.assert_array_equal(np.ma.filled(shown, np.nan), grid)
    assert image.get_clim() == (0.5, 1)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["−1", "0"]
    bar = image.colorbar
    assert bar is not None
    assert bar.extend == "min"
    assert bar.ax.get_ylabel() == "mean AUROC"


def test_a_heat_map_without_a_label_has_no_bar():
    figure = Figure()
    image = drawing.heat(figure.subplots(), pd.DataFrame(np.eye(2)), (0, 1))
    assert len(figure.axes) == 1
    assert image.colorbar is None


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (list(range(-1, 31)), ["0", "5", "10", "15", "20", "25", "30"]),
        ([0, 25, 50, 100, 300], ["0", "25", "50", "100", "300"]),
        ([1.0, 2.0, 3.0], ["1", "2", "3"]),
        ([f"word {i}" for i in range(12)], [f"word {i}" for i in range(12)]),
    ],
)
def test_ticks_are_few_and_round_for_numbers_and_all_for_words(names, shown):
    grid = pd.DataFrame(np.zeros((len(names), 1)), index=names)
    axes = Figure().subplots()
    drawing.heat(axes, grid, (0, 1))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == shown
    assert [str(names[int(place)]).removesuffix(".0") for place in axes.get_yticks()] == shown


def test_a_caption_says_n_interval_and_null():
    text = drawing.caption(361, "leaf concepts", "95 % bootstrap over leaves", "dashed line, chance")
    assert text == "n = 361 leaf concepts. Interval: 95 % bootstrap over leaves. Null: dashed line, chance."


@pytest.mark.parametrize("layout", ["constrained", "none"])
@pytest.mark.parametrize("words", [5, 120])
def test_a_footnote_overlaps_no_panel_and_stays_inside(layout, words):
    with drawing.style():
        figure = Figure(figsize=(5, 3), layout=layout)
        for axes in figure.subplots(1, 2):
            axes.set_xlabel("block")
        drawing.footnote(figure, "word " * words)
        figure.draw_without_rendering()
        note = figure.texts[0].get_window_extent()
        assert all(not note.overlaps(axes.get_tightbbox()) for axes in figure.axes)
        assert note.x0 >= 0
        assert note.y0 >= 0
        assert note.x1 <= figure.bbox.width


def test_saved_figures_are_legible_in_size_and_carry_no_date(tmp_path):
    drawing.save(example(), tmp_path, "example", {"run": "a"})
    with Image.open(tmp_path / "example.png") as picture:
        assert picture.size == (1440, 600)
    text = (tmp_path / "example.svg").read_text(encoding="utf-8")
    assert "<title>example</title>" in text
    assert "dc:date" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["example.png", "example.svg", "made.json"]
    assert records.made_from(tmp_path / "example.svg") == {"run": "a"}


AGAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_figures import drawing, example
drawing.save(example(), Path(sys.argv[2]), "example", {})
"""


def test_the_same_figure_has_the_same_bytes_under_another_hash_seed(tmp_path):
    here = __file__.rsplit("/", 1)[0]
    for seed in ("1", "2"):
        folder = tmp_path / seed
        command = [sys.executable, "-c", AGAIN, here, str(folder)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"})
    for name in ("example.png", "example.svg"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_the_style_is_left_behind():
    before = matplotlib.rcParams["font.size"]
    with drawing.style():
        assert matplotlib.rcParams["font.size"] != before
    assert matplotlib.rcParams["font.size"] == before
