"""Figures and summary of the `lm_knowledge` analysis read back and compared with the table."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from analyses import lm_knowledge as analysis
from analyses.frame import drawing
from analyses.lm_knowledge.figures import AGREEMENT
from analyses.lm_knowledge.rows import knowledge_table
from tests.analyses.drawn import distinct, reread
from tests.analyses.test_behaviour_figures import drawn_points
from tests.analyses.test_lm_knowledge import QUICK, answers_that_follow, known


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two read-outs, each with two conditions; every number of the table is another one."""
    words = [known(1.0), known(2.0, "yes_no")]
    conditions = [answers_that_follow(words[0]), answers_that_follow(words[0], "within", noise=0.5)]
    made = knowledge_table(words, {0: conditions, 1: conditions}, QUICK)
    return reread(distinct(made), tmp_path_factory.mktemp("knowledge"))


def own(table, measure):
    return table[(table["condition"] == "") & (table["measure"] == measure)]


def test_means_stand_in_their_order_with_their_intervals(table):
    left = analysis.draw(table)["knowledge"].axes[0]
    rows = own(table, "auroc").query("target == 'mean'")
    assert [text.get_text() for text in left.get_yticklabels()] == ["completion", "yes no"]
    points = drawn_points(left)
    for place, row in enumerate(rows.to_dict("records")):
        assert points[place][:3] == pytest.approx((row["value"], row["lower"], row["upper"]))


def test_heights_stand_over_their_height(table):
    right = analysis.draw(table)["knowledge"].axes[1]
    rows = own(table, "auroc_by_height")
    for place, (container, name) in enumerate(zip(right.containers, ("completion", "yes_no"), strict=True)):
        of = rows[rows["readout"] == name]
        data, _, (bars,) = container
        x = of["target"].str.removeprefix("height ").astype(float) + 0.08 * place
        np.testing.assert_allclose(np.asarray(data.get_xdata(), float), x)
        np.testing.assert_allclose(np.asarray(data.get_ydata(), float), of["value"])
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, of[["lower", "upper"]])


def test_every_hypernym_has_a_marker_and_an_interval_for_each_read_out(table):
    axes = analysis.draw(table)["hypernyms"].axes[0]
    rows = own(table, "auroc").query("target != 'mean'")
    order = [text.get_text() for text in axes.get_yticklabels()]
    first = rows[rows["readout"] == "completion"].set_index("target")
    assert order == first.sort_values("value").index.tolist()
    assert len(order) == 3
    lines = {line.get_label(): line for line in axes.get_lines()}
    for label, name, bars in zip(
        ("completion", "yes no"), ("completion", "yes_no"), axes.collections, strict=True
    ):
        of = rows[rows["readout"] == name].set_index("target").loc[order]
        np.testing.assert_allclose(lines[label].get_xdata(), of["value"])
        np.testing.assert_array_equal(lines[label].get_ydata(), range(len(order)))
        ends = np.array([segment[:, 0] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, of[["lower", "upper"]])


def test_agreement_shows_each_measure_of_each_condition_for_any_and_for_all_pictures(table):
    figure = analysis.draw(table)["agreement"]
    panels = np.array(figure.axes).reshape(2, len(AGREEMENT))
    for line, readout in zip(panels, ("completion", "yes_no"), strict=True):
        assert line[0].get_ylabel() == readout.replace("_", "/")
        for axes, measure in zip(line, AGREEMENT, strict=True):
            points = drawn_points(axes)
            rows = table[(table["readout"] == readout) & (table["measure"] == measure)]
            assert len(rows) == len(points) == 4
            for row in rows.to_dict("records"):
                at = ("pretrained", "within").index(row["condition"]) + {"any": -0.14, "all": 0.14}[
                    row["pictures"]
                ]
                value, lower, upper, _ = points[round(at, 6)]
                assert (value, lower, upper) == pytest.approx((row["value"], row["lower"], row["upper"]))
    markers = {
        line.get_label(): line for line in panels[0, 0].get_lines() if "picture" in str(line.get_label())
    }
    assert markers["any picture of the leaf"].get_marker() == "o"
    assert markers["all pictures of the leaf"].get_marker() == "s"
    assert to_hex(markers["any picture of the leaf"].get_markeredgecolor()) in {
        drawing.colour(name).lower() for name in ("pretrained", "within")
    }


def test_the_summary_says_the_means_heights_and_agreements_of_the_table(table):
    said = []
    for line in analysis.summary(table).splitlines()[1:]:
        found = re.match(r"(.{57}) (\w+)\s+([-\d.]+)  \[([-\d.]+), ([-\d.]+)\]\s+(\d+)$", line)
        assert found, line
        said.append((found[2], *(float(number) for number in found.groups()[2:])))
    kept = (table["target"] == "mean") | ~table["measure"].isin(
        ["auroc", "macro_f1", "balanced_accuracy", "tpr", "tnr"]
    )
    wanted = [
        (row.measure, round(row.value, 3), round(row.lower, 3), round(row.upper, 3), float(row.n))
        for row in table[kept].itertuples()
    ]
    assert len(said) == len(wanted)
    for mine, theirs in zip(sorted(said), sorted(wanted), strict=True):
        assert mine[0] == theirs[0]
        assert mine[1:] == pytest.approx(theirs[1:], abs=1.1e-3)
