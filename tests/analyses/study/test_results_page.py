"""The results page shows what the stored tables draw."""

import re
from pathlib import Path

import pytest

from analyses.study import main

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.nightly
def test_every_figure_of_the_results_page_is_drawn_from_the_stored_tables(tmp_path):
    main(["--tables", str(DOCS / "results"), "--out", str(tmp_path)])
    shown = set(re.findall(r"figures/([\w.-]+)\.png", (DOCS / "results.md").read_text(encoding="utf-8")))
    assert len(shown) > 12
    assert shown <= {path.stem for path in tmp_path.glob("*.png")}
