"""The report page read back: its numbers are those of the tables, its sample answers those of the scores."""

import base64
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from analyses import report
from analyses.behaviour.rows import headline
from analyses.emergence.rows import best_layers
from taxogen.answers.evaluate import Scores
from taxogen.runs.run import Run
from tests.analyses.test_end_to_end import TOY, run_demo
from tests.world import write_world


class Page(HTMLParser):
    """The tables of a page as rows of texts, its pictures, and its headings."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.images: list[str] = []
        self.heads: list[str] = []
        self._cell: list[str] | None = None
        self._head: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag in ("h2", "h3"):
            self._head = []
        elif tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif tag in ("h2", "h3"):
            self.heads.append("".join(self._head).strip())
            self._head = None

    def handle_data(self, data):
        for part in (self._cell, self._head):
            if part is not None:
                part.append(data)

    def table(self, *header: str) -> list[list[str]]:
        """The rows of the only table that begins with these columns."""
        (rows,) = [table for table in self.tables if table and table[0][: len(header)] == list(header)]
        return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run_demo(folder, (*write_world(folder, toy_lm), *TOY))
        yield folder


@pytest.fixture(scope="module")
def page(made):
    return Page((made / "demo" / "report.html").read_text())


def runs(made):
    return {path.name: Run.open(path) for path in sorted((made / "runs").iterdir()) if path.is_dir()}


def text(row, places=2):
    limits = (f"{row[limit]:.2f}" if pd.notna(row[limit]) else "–" for limit in ("lower", "upper"))
    return f"{row['value']:.{places}f} [{', '.join(limits)}]" if pd.notna(row["value"]) else "–"


def test_the_scores_of_the_page_are_those_of_the_table(made, page):
    table = headline(pd.read_parquet(made / "demo" / "behaviour.parquet"))
    means = table[(table["target"] == "mean") & (table["contrast"] == "")]
    rows = page.table("measure", "asked about", "chance")
    names = [name.replace(" ", "_") for name in rows[0][3:]]
    assert set(names) == {"pretrained", "random_init", "within", "across"}
    cells = [cell for row in rows[1:] for cell in row[3:]]
    wanted = [
        text(
            means[(means["modality"] == modality) & (means["measure"] == measure)]
            .set_index("condition")
            .loc[name],
            3,
        )
        for modality, measure in means[["modality", "measure"]].drop_duplicates().itertuples(index=False)
        for name in names
    ]
    assert cells == wanted
    hypernyms = page.table("hypernym")
    of = table[(table["measure"] == "auroc") & (table["modality"] == "image") & (table["contrast"] == "")]
    of = of.set_index(["target", "condition"])
    for target, *cells in hypernyms[1:]:
        assert cells == [text(of.loc[(target, name)]) for name in names]


def test_the_heads_are_the_contrasts(made):
    source = (made / "demo" / "report.html").read_text()
    heads = re.findall(
        r"<b>([+-][.\d]+)</b> <span class=\"soft\">\[([-.\d]+), ([-.\d]+)\], n = (\d+)", source
    )
    table = headline(pd.read_parquet(made / "demo" / "behaviour.parquet"))
    rows = table[(table["contrast"] != "") & (table["measure"] == "auroc") & (table["target"] == "mean")]
    rows = rows[rows["modality"] == "image"]
    assert heads == [
        (f"{row.value:+.2f}", f"{row.lower:.2f}", f"{row.upper:.2f}", str(row.n)) for row in rows.itertuples()
    ]


def test_the_best_blocks_are_those_of_the_probe_tables(made, page):
    best = best_layers(pd.read_parquet(made / "demo" / "emergence.parquet"))
    (rows,) = [table for table in page.tables if table and "half-rise" in table[0]]
    assert len(rows) == 1 + len(best)
    for cells, row in zip(rows[1:], best.to_dict("records"), strict=True):
        said = " ".join(cells)
        assert cells[0].replace(" ", "_") == row["condition"]
        assert f"{row['auroc']:.2f}" in said
        assert f"{row['control']:.2f}" in said


def test_sample_answers_are_the_three_hypernyms_with_the_highest_scores(made, page):
    known = runs(made)
    rows = page.table("picture", "leaf", "true hypernyms")
    conditions = [name.replace(" ", "_") for name in rows[0][3:]]
    assert conditions == ["pretrained", "random_init"]
    assert len(rows) > 5
    for _, leaf, truth, *answers in rows[1:]:
        assert truth.split(", ") == list(known["demo-pretrained"].taxonomy.hypernyms_of(leaf))
        for name, said in zip(conditions, answers, strict=True):
            scores = Scores.read(known[f"demo-{name}"])
            order = np.argsort(-scores.image_scores, axis=1)[:, :3]
            possible = [
                [scores.hypernyms[column] for column in order[at]]
                for at in np.flatnonzero(scores.image["leaf"].to_numpy() == leaf)
            ]
            assert said.split(", ") in possible


def test_every_picture_is_the_figure_on_disk(made, page):
    figures = [*(made / "demo").glob("*.png"), *(made / "runs").glob("*/analyses/layer_probes/*.png")]
    stored = {base64.b64encode(path.read_bytes()).decode() for path in figures}
    shown = {source.partition(",")[2] for source in page.images if "image/png" in source}
    assert shown == stored


def test_questions_that_were_not_asked_are_listed_with_their_command(made, page):
    rows = page.table("question", "command")
    commands = " ".join(row[1] for row in rows[1:])
    assert "python -m analyses.lens --run" in commands
    assert "python -m analyses.behaviour" not in commands


def test_a_report_of_runs_that_were_not_evaluated_says_which_command_does_it(made, tmp_path):
    run = runs(made)["demo-within"]
    unevaluated = shutil.ignore_patterns("scores.h5", "baselines.h5", "analyses", "captures")
    copy = shutil.copytree(run.path, tmp_path / "bare", ignore=unevaluated)
    text_of_page = report.write(tmp_path / "page", [Run.open(copy)], {}).path.read_text()
    assert "python -m taxogen evaluate --run" in text_of_page


def test_a_missing_run_is_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        report.main(["--run", str(tmp_path / "nowhere"), "--out", str(tmp_path / "page")])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "page").exists()
