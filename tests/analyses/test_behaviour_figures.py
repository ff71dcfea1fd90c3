"""Figures, summary and section of the `behaviour` analysis read back and compared with the table."""

import itertools
import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from analyses.behaviour.figures import KINDS, baselines, draw, fractions
from analyses.behaviour.rows import behaviour_table, headline, summary
from analyses.behaviour.section import section
from analyses.frame import drawing
from analyses.frame.section import Grid
from analyses.inputs.answers import Answers
from taxogen.questions import ablation
from tests.analyses.test_behaviour import FOUND, TAXONOMY, condition


@pytest.fixture(scope="module")
def table():
    """Four conditions, the first with a baseline that is good and one that is bad."""
    rng = np.random.default_rng(5)
    first = FOUND[0]
    answers = []
    for one in first.answers:
        labels = TAXONOMY.labels(one.leaves.tolist())
        given = {"gold": labels + 0.5 * rng.normal(size=labels.shape), "blind": rng.normal(size=labels.shape)}
        answers.append(Answers(one.seed, one.scores, one.taxonomy, one.removal, one.effective, given))
    changed = type(first)(first.name, first.about, tuple(answers))
    return behaviour_table((changed, *FOUND[1:]), draws=100)


def means(table, measure, contrast=False):
    rows = headline(table)
    kept = (rows["target"] == "mean") & (rows["modality"] == "image") & (rows["measure"] == measure)
    return rows[kept & ((rows["contrast"] != "") == contrast)]


def drawn_points(axes):
    """y → (value, lower, upper) of a forest plot: a line of two points and a marker at every height."""
    spans, markers = {}, {}
    for line in axes.get_lines():
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if len(x) == 2 and y[0] == y[1] and line.get_marker() == "None":
            spans[round(y[0], 6)] = (x[0], x[1])
        elif len(x) == 1:
            markers[round(y[0], 6)] = (x[0], to_hex(line.get_color()))
    return {at: (markers[at][0], *spans[at], markers[at][1]) for at in markers if at in spans}


@pytest.mark.parametrize(
    ("panel", "measure", "contrast"), [(0, "auroc", False), (1, "leaf_naming", False), (2, "auroc", True)]
)
def test_the_forest_shows_the_numbers_of_its_rows_in_their_order(table, panel, measure, contrast):
    rows = means(table, measure, contrast)
    axes = draw(table)["behaviour"].axes[panel]
    points = drawn_points(axes)
    names = rows["contrast" if contrast else "condition"].tolist()
    named = (
        draw(table)["behaviour"].axes[0] if panel == 1 else axes
    )  # whose labels are those of the panel before
    assert [text.get_text() for text in named.get_yticklabels()] == [drawing.readable(name) for name in names]
    for place, row in enumerate(rows.to_dict("records")):
        assert points[place][:3] == pytest.approx((row["value"], row["lower"], row["upper"]), abs=1e-12)
        if not contrast:
            assert points[place][3] == to_hex(drawing.colour(row["condition"]))
    assert [text.get_text() for text in axes.texts] == [
        f"{value:.2f}".replace("-", "−") for value in rows["value"]
    ]
    null = [line.get_xdata()[0] for line in axes.get_lines() if list(line.get_ydata()) == [0, 1]]
    assert null == [0 if contrast else rows["chance"].iloc[0]]


def test_panels_of_other_conditions_have_labels_of_their_own(table):
    fewer = table[(table["measure"] != "leaf_naming") | (table["condition"] != "within")]
    named = [one.get_text() for one in draw(fewer)["behaviour"].axes[1].get_yticklabels()]
    assert named == [drawing.readable(name) for name in means(fewer, "leaf_naming", False)["condition"]]
    assert not draw(table)["behaviour"].axes[1].get_yticklabels()


@pytest.mark.parametrize(("panel", "measure"), [(0, "auroc"), (1, "macro_f1")])
def test_baselines_stand_below_the_score_of_their_condition_each_at_its_own_place(table, panel, measure):
    axes = baselines(table).axes[panel]
    points = drawn_points(axes)
    kept = table[(table["target"] == "mean") & (table["modality"] == "image") & (table["contrast"] == "")]
    kept = kept[(kept["headline"] | (kept["baseline"] != "")) & (kept["measure"] == measure)]
    names = list(dict.fromkeys(kept["condition"]))
    assert len(kept) > len(names)
    for row in kept.to_dict("records"):
        at = round(names.index(row["condition"]) - 0.3 + 0.1 * list(KINDS).index(row["baseline"]), 6)
        value, lower, upper, tint = points[at]
        np.testing.assert_allclose(
            [value, lower, upper], [row["value"], row["lower"], row["upper"]], atol=1e-12
        )
        assert tint == to_hex("0.35" if row["baseline"] else drawing.colour(row["condition"]))


def test_fractions_show_each_series_over_the_share_that_was_really_removed():
    conditions = [
        condition(
            f"{name} {fraction}", strength * (1 - fraction), (0, 1),
            ablation.plan(TAXONOMY, "random", fraction=fraction),
            series=name, fraction=fraction, evidence=f"ablation random {fraction}", init=name,
        )
        for (name, strength), fraction in itertools.product((("pretrained", 2.0), ("random_init", 0.5)), (0.2, 0.6))
    ]  # fmt: skip
    table = behaviour_table(conditions, draws=40)
    panels = fractions(table).axes
    kept = table[(table["target"] == "mean") & (table["modality"] == "image") & (table["contrast"] == "")]
    kept = kept[(kept["leaves"] == "all") & (kept["baseline"] == "")]
    places = itertools.product(("held_out", "seen"), ("auroc", "macro_f1"))
    for axes, (scored, measure) in zip(panels, places, strict=True):
        for name in ("pretrained", "random_init"):
            rows = kept[(kept["scored"] == scored) & (kept["measure"] == measure) & (kept["series"] == name)]
            rows = rows.sort_values("effective")
            line = next(one for one in axes.get_lines() if one.get_label() == drawing.readable(name, " "))
            np.testing.assert_array_equal(line.get_xdata(), rows["effective"])
            np.testing.assert_array_equal(line.get_ydata(), rows["value"])
            assert to_hex(line.get_color()) == drawing.colour(name).lower()
            band = next(
                one
                for one in axes.collections
                if to_hex(one.get_facecolor()[0]) == drawing.colour(name).lower()
            )
            corners = band.get_paths()[0].vertices
            for x, lower, upper in zip(rows["effective"], rows["lower"], rows["upper"], strict=True):
                heights = corners[np.isclose(corners[:, 0], x), 1]
                assert (heights.min(), heights.max()) == pytest.approx((lower, upper))
        assert scored.replace("held_out", "removed") in axes.get_title()


def test_the_summary_says_the_numbers_of_the_table(table):
    lines = summary(table).splitlines()[1:]
    said = {}
    for line in lines:
        found = re.match(r"(.+?) \((.+?)\)\s+(\w+)\s+([-\d.]+)  \[([-\d.]+), ([-\d.]+)\]\s+(\d+)$", line)
        assert found, line
        said[found[1], found[2], found[3]] = tuple(map(float, found.groups()[3:]))
    rows = headline(table)
    rows = rows[rows["target"] == "mean"]
    for row in rows.to_dict("records"):
        numbers = said[row["contrast"] or row["condition"], row["modality"], row["measure"]]
        assert numbers == pytest.approx((row["value"], row["lower"], row["upper"], row["n"]), abs=5.1e-4)


def test_the_section_has_every_mean_and_every_hypernym(table):
    scores, hypernyms = (block for block in section(table) if isinstance(block, Grid))
    names = list(dict.fromkeys(table.loc[table["contrast"] == "", "condition"]))
    assert scores.header[3:] == names == hypernyms.header[1:]
    auroc = next(row for row in scores.rows if row[1] == "pictures" and row[2] == "0.500")
    of = means(table, "auroc").set_index("condition")
    for name, cell in zip(names, auroc[3:], strict=True):
        row = of.loc[name]
        assert cell == f"{row['value']:.3f} [{row['lower']:.2f}, {row['upper']:.2f}]"
    lines = headline(table)
    for target, *cells in hypernyms.rows:
        for name, cell in zip(names, cells, strict=True):
            kept = (lines["target"] == target) & (lines["condition"] == name) & (lines["measure"] == "auroc")
            (row,) = lines[kept & (lines["modality"] == "image")].to_dict("records")
            assert cell == f"{row['value']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]"
    order = [float(cells[1].split()[0]) for cells in hypernyms.rows]
    assert order == sorted(order, reverse=True)
