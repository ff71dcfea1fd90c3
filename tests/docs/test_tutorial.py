"""The tutorial runs from its first block to its last: on a toy world, and by night on the models that it is about."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.docs.running import DOCS, as_toml, blocks, run_page, same
from tests.world import toy_folder

PAGE = DOCS / "tutorial.md"
FIGURES = DOCS / "figures" / "tutorial"


@pytest.fixture
def outputs(tmp_path, toy_lm):
    with toy_folder(tmp_path, toy_lm) as settings:
        yield list(run_page(PAGE, {"crow.toml": as_toml((*settings, "capture.at=0,last"))}))


def test_every_block_runs_on_a_toy_world_and_prints_where_the_page_shows_an_output(outputs):
    assert len(outputs) == len([one for one in blocks(PAGE) if one.language != "toml"]) > 12
    assert [one.text for one, said in outputs if one.output and not said.strip()] == []
    assert len([one for one, _ in outputs if one.language == "bash"]) == 6
    of_python = {one.text: said.splitlines() for one, said in outputs if one.language == "python"}
    (counts,) = [said[0] for text, said in of_python.items() if "value_counts" in text]
    assert set(json.loads(counts.replace("'", '"'))) == {"leaf"}  # no question about a hypernym
    (asked,) = [said for text, said in of_python.items() if "question.ids" in text]
    assert asked[0].count("[picture]") == 2
    assert (Path("artifacts/report/report.html")).is_file()


def test_lines_that_a_program_did_not_print_are_found():
    assert same("bird  +9.1\nreptile  +6.6\n", "bird  +9.1\nwatercraft  +6.8\nreptile  +6.6\n") == []
    assert same("bird  +9.1\n", "bird  +9.2\n") == ["bird  +9.1"]
    assert same("bird  +9.1\n", "bird  +9.2\n", tolerance=0.2) == []
    assert same("a 1\nb 2\n", "b 2\na 1\n") == ["b 2"]  # in this order


@pytest.mark.slow
@pytest.mark.nightly
def test_the_outputs_on_the_page_are_those_of_these_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    differing = {
        one.text: lines
        for one, said in run_page(PAGE, {})
        if (lines := same(one.output, said, tolerance=0.02))
    }
    assert differing == {}
    for drawn in ("crow.png", "nearest.png"):
        with Image.open(tmp_path / drawn) as made, Image.open(FIGURES / drawn) as shown:
            assert made.tobytes() == shown.tobytes()  # the bytes of the files are those of a version of zlib
