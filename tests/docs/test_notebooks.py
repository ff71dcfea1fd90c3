"""Notebooks run from top to bottom, and show what they showed when they were written."""

import html
import json
import re
from pathlib import Path

import pytest

from tests.docs import notebooks
from tests.docs.running import same

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDED = re.compile(r"<details>.*?</details>", flags=re.DOTALL)
TAG = re.compile(r"<[^>]+>")


def told(outputs):
    """What a reader sees before opening what is folded, a line for each piece of text."""
    shown = TAG.sub("\n", FOLDED.sub("", notebooks.texts(outputs)))
    return "\n".join(line for line in html.unescape(shown).splitlines() if line.strip())


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_showed(path, tmp_path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebooks.code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    now = notebooks.run(notebook, tmp_path)
    for cell, outputs in zip(cells, now, strict=True):
        assert [set(one.get("data", {})) for one in outputs] == [
            set(one.get("data", {})) for one in cell["outputs"]
        ]
        assert same(told(cell["outputs"]), told(outputs), tolerance=0.02) == []
    assert any("image/png" in one.get("data", {}) for outputs in now for one in outputs)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_small_and_names_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 150_000
    assert not re.search(r"/(root|home|tmp|Users)/", text)


def test_a_cell_shows_what_it_prints_and_its_last_expression():
    cell = {"cell_type": "code", "source": ["x = 2\n", "print('a')\n", "x + 1"]}
    (outputs,) = notebooks.run({"cells": [cell]}, Path())
    assert [one["output_type"] for one in outputs] == ["stream", "display_data"]
    assert notebooks.texts(outputs).split() == ["a", "3"]
