"""What questions and results show in a notebook: options with defaults; a summary, and the columns that differ."""

import pandas as pd
import pytest

from analyses.frame import notebook, registry
from analyses.frame.results import Result
from tests.analyses.frame.planted_runs import COUNT
from tests.analyses.pages import Elements


def table(rows):
    constant = {"run": "crow", "analysis": "count", "step": 12, "split": ""}
    numbers = [{"layer": float(k), "value": k / 100, "lower": 0.0, "upper": 1.0, "n": 5} for k in range(rows)]
    return pd.DataFrame([{**constant, **one, "target": f"<{one['layer']:g}>"} for one in numbers])


def test_a_question_shows_its_options_with_their_defaults():
    elements = Elements(COUNT._repr_html_())
    assert not elements.faults
    rows = [one.texts[0] for one in elements.of("th") if one.attributes["scope"] == "row"]
    assert rows == ["takes", "example", "--step", "--kind", "--draws", "--seed"]
    assert elements.of("summary")[0].texts == ["4 options"]
    assert ["birds"] in [one.texts for one in elements.of("td")]


@pytest.mark.parametrize("name", registry.questions())
def test_every_question_can_be_shown(name):
    page = registry.load(name)._repr_html_()
    assert not Elements(page).faults
    assert "<script" not in page
    assert registry.questions()[name].rstrip(".")[:20].replace("'", "&#x27;") in page


def test_a_table_says_in_its_caption_what_is_the_same_in_all_rows():
    elements = Elements(notebook.table_html(table(20)))
    assert not elements.faults
    assert elements.of("caption")[0].texts == [
        "20 rows (the first 12 are shown); run crow; analysis count; step 12"
    ]
    header = [one.texts[0] for one in elements.of("th") if one.attributes["scope"] == "col"]
    assert header == ["layer", "target", "value [limits]", "n"]
    cells = [one.texts[0] for one in elements.of("td")]
    assert cells[3:6] == ["<1>", "0.01 [0.00, 1.00]", "5"]
    assert len(cells) == 3 * notebook.ROWS


def test_an_empty_table_and_one_row_are_shown_too():
    assert "0 rows" in notebook.table_html(table(0))
    elements = Elements(notebook.table_html(table(1)))
    assert elements.of("caption")[0].texts == ["1 rows"]
    assert [one.texts[0] for one in elements.of("th")][:3] == ["run", "analysis", "step"]


def test_a_result_of_a_question_begins_with_its_summary(monkeypatch):
    monkeypatch.setattr(registry, "questions", lambda: {"count": "How many?"})
    monkeypatch.setattr(registry, "load", lambda name: COUNT)
    page = Result(table(2))._repr_html_()
    assert not Elements(page).faults
    assert page.startswith("<pre>")
    assert COUNT.summary(table(2)) in page
    assert "<pre>" not in Result(table(2).assign(analysis=["count", "other"]))._repr_html_()
