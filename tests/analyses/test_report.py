"""The report page read back: its numbers are those of the tables, its sample answers those of the scores."""

import base64
import itertools
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from analyses import report
from analyses.behaviour.rows import headline
from analyses.emergence.rows import best_layers
from analyses.frame import registry
from analyses.report import looks
from taxogen.answers.evaluate import Scores
from taxogen.answers.rows import labels_of
from taxogen.runs.run import Run
from tests.analyses.pages import BROWSER, Elements, Page, browse
from tests.analyses.test_end_to_end import TOY, run_demo
from tests.world import write_world


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
    if pd.isna(row["value"]):
        return "–"
    limits = f"[{row['lower']:.2f}, {row['upper']:.2f}]" if pd.notna(row["lower"]) else "(no interval)"
    return f"{row['value']:.{places}f} {limits}"


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
    rows = page.table("condition", "place", "question")
    assert len(rows) == 1 + len(best)
    for cells, row in zip(rows[1:], best.to_dict("records"), strict=True):
        said = " ".join(cells)
        assert cells[0].replace(" ", "_") == row["condition"]
        assert f"{row['auroc']:.2f}" in said
        assert f"{row['control']:.2f}" in said


def test_sample_answers_are_where_pictures_stand_among_those_without_the_hypernym(made, page):
    known = runs(made)
    rows = page.table("picture", "leaf")
    conditions = [name.replace(" ", "_") for name in rows[0][2:]]
    assert conditions == ["pretrained", "random_init"]
    assert len(rows) > 5
    for _, leaf, *answers in rows[1:]:
        for name, said in zip(conditions, answers, strict=True):
            scores = Scores.read(known[f"demo-{name}"])
            having = labels_of(scores.image, known[f"demo-{name}"].taxonomy, scores.hypernyms)
            possible = []
            for row in np.flatnonzero(scores.image["leaf"].to_numpy() == leaf):
                shares = []
                for column in np.flatnonzero(having[row]):
                    values = scores.image_scores[~having[:, column], column]
                    own = scores.image_scores[row, column]
                    shares.append((np.mean(values < own) + np.mean(values <= own)) / 2)
                names = np.array(scores.hypernyms)[having[row]]
                possible.append(
                    "".join(f"{name} {round(100 * share)} %" for name, share in zip(names, shares))
                )
            assert any(f"{text} highest:" in said for text in possible)


def test_every_picture_is_the_figure_on_disk(made, page):
    figures = [*(made / "demo").glob("*.png"), *(made / "runs").glob("*/analyses/layer_probes/*.png")]
    assert {path.stem for path in figures} >= {"behaviour", "emergence", "evidence-pretrained", "curves"}
    stored = {base64.b64encode(path.read_bytes()).decode() for path in figures}
    shown = {source.partition(",")[2] for source in page.images if "image/png" in source}
    assert shown == stored


def test_questions_that_were_not_asked_are_listed_with_their_command(made, page):
    rows = page.table("question", "command")
    commands = " ".join(row[1] for row in rows[1:])
    assert "python -m analyses.lens --run" in commands
    assert "python -m analyses.behaviour" not in commands


def test_a_command_that_would_be_refused_is_not_offered_but_the_reason_is(made, page):
    rows = {question: offer for question, offer in page.table("question", "command")[1:]}
    (maps,) = [offer for question, offer in rows.items() if question.startswith("Which patches")]
    assert "model.projector=flat-gelu-mlp" in maps
    assert "python -m analyses.picture_maps" not in maps
    (unpooled,) = [offer for offer in rows.values() if "text-to-image-denoising-effects.h5" in offer]
    assert "python -m analyses.patching --run" in unpooled
    assert any("--dictionary DIR" in offer for offer in rows.values())


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


@pytest.fixture(scope="module")
def source(made):
    return (made / "demo" / "report.html").read_text(encoding="utf-8")


def test_the_page_has_landmarks_and_every_part_a_heading(source):
    elements = Elements(source)
    assert elements.faults == []
    assert [len(elements.of(tag)) for tag in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    identities = [one.attributes["id"] for one in elements.all if "id" in one.attributes]
    assert sorted(set(identities)) == sorted(identities)
    sections = elements.of("section")
    assert len(sections) > 5
    assert {one.attributes["aria-labelledby"] for one in sections} <= set(identities)
    links = {one.attributes["href"] for one in elements.of("a")}
    assert {link.removeprefix("#") for link in links} <= set(identities)
    assert {f"#{one.attributes['aria-labelledby']}" for one in sections} <= links
    fields = {one.attributes["id"] for one in elements.of("select", "input")}
    assert fields == {one.attributes["for"] for one in elements.of("label")}
    levels = [int(one.tag[1]) for one in elements.of("h1", "h2", "h3", "h4")]
    assert all(second - first <= 1 for first, second in itertools.pairwise(levels))
    assert elements.of("html")[0].attributes["lang"] == "en"


def test_pictures_have_words_and_wide_parts_a_box_of_their_own(source):
    elements = Elements(source)
    assert all((one.attributes["alt"] or "").strip() for one in elements.of("img"))
    assert all("div" in one.around for one in elements.of("table"))
    boxes = [one.attributes for one in elements.all if one.attributes.get("class") == "scroll"]
    assert len(boxes) >= len(elements.of("table"))
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in boxes)
    assert elements.of("svg")
    assert all(one.attributes["role"] == "img" for one in elements.of("svg"))


def test_the_page_needs_no_other_file(source):
    sources = re.findall(r"""(?:src|href|url)\s*(?:=\s*["']|\()([^"')]{0,80})""", source)
    assert len(sources) > 10
    assert not [one for one in sources if not one.startswith(("data:", "#", "url(#"))]
    assert "@import" not in source
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|import)\s*\(", source)


def test_every_figure_has_n_null_and_the_command_that_draws_it_again(made, source):
    figures = re.findall(r"<figure>\s*<img.*?</figure>", source, flags=re.DOTALL)
    assert len(figures) > 6
    for figure in figures:
        caption = figure[figure.index("<figcaption>") :]
        assert "n = " in caption
        assert "95 %" in caption
        (table,) = re.findall(r"<code>python -m analyses\.figures (\S+) --style paper</code>", figure)
        assert pd.read_parquet(table)["n"].notna().any()


def test_the_closer_look_has_the_read_outs_of_every_test_picture(made, source):
    data = json.loads(re.search(r'id="closer-data">(.*?)</script>', source, flags=re.DOTALL)[1])
    known = runs(made)
    assert [one["name"] for one in data["conditions"]] == ["pretrained", "random init", "within", "across"]
    for one in data["conditions"]:
        scores = Scores.read(known[one["run"]])
        values = np.frombuffer(base64.b64decode(one["images"]), "<i2").reshape(-1, len(one["hypernyms"]))
        place = {name: row for row, name in enumerate(scores.image["picture"])}
        rows = [place[data["pictures"][at]] for at in one["picture"]]
        assert sorted(rows) == list(range(len(scores.image)))
        np.testing.assert_allclose(values * data["step"], scores.image_scores[rows], atol=data["step"])
        assert [one["leaves"][at] for at in one["leaf"]] == scores.image["leaf"].iloc[rows].tolist()
        assert {name for kind in one["curves"].values() for name in kind["of"]} == set(one["hypernyms"])
    assert sorted(data["places"]) == list(range(len(data["pictures"])))


@pytest.mark.nightly
@pytest.mark.skipif(BROWSER is None, reason="no browser is here")
@pytest.mark.parametrize("flags", [(), ("--blink-settings=preferredColorScheme=0",)], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_the_page_without_errors_and_never_wider_than_the_window(
    made, tmp_path, width, flags
):
    page = tmp_path / "page.html"
    measure = "document.title = document.documentElement.scrollWidth + ' of ' + window.innerWidth"
    text = (made / "demo" / "report.html").read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", f"<script>{measure}</script></body>"), encoding="utf-8")
    for fragment, head in (("", "bird"), ("#condition=2&leaf=crow", "crow"), ("#hypernym=fruit", "fruit")):
        flags = (f"--window-size={width},900", *flags)
        shown, errors = browse(page, tmp_path, "--dump-dom", *flags, fragment=fragment)
        assert errors == []
        wide, window = map(int, re.search(r"<title>(\d+) of (\d+)", shown).groups())
        assert wide <= window
        assert f'<div id="closer-view" aria-live="polite"><h3>{head}</h3>' in shown


@pytest.mark.nightly
@pytest.mark.skipif(BROWSER is None, reason="no browser is here")
def test_the_page_prints(made, tmp_path):
    browse(made / "demo" / "report.html", tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_what_the_page_refuses_is_refused_before_a_look(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(looks, "questions_about_runs", lambda: pytest.fail("a look was taken"))
    path = str(made / "runs" / "demo-within")
    with pytest.raises(SystemExit) as end:
        report.main(["--run", path, "--run", path, "--out", str(tmp_path / "page"), "--quick"])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_quick_looks_are_of_the_first_run_and_give_way_to_whole_answers(made, tmp_path, monkeypatch, capsys):
    asked = [registry.load(name) for name in ("picture_maps", "sparse_features", "visual_coherence", "lens")]
    monkeypatch.setattr(looks, "questions_about_runs", lambda: asked)
    paths = [
        shutil.copytree(made / "runs" / f"demo-{name}", tmp_path / name) for name in ("within", "across")
    ]
    given = [*(word for path in paths for word in ("--run", str(path))), "--out", str(tmp_path / "page")]
    report.main([*given, "--quick"])
    left_out = capsys.readouterr().err
    assert "picture_maps: no quick look: " in left_out
    assert "sparse_features: no quick look: " in left_out
    tables = sorted(tmp_path.glob("*/analyses/*-quick/*.parquet"))
    assert {path.parent.name for path in tables} == {"lens-quick", "visual_coherence-quick"}
    assert {path.parents[2].name for path in tables} == {"within"}
    source, before = (
        (tmp_path / "page" / "report.html").read_text(),
        [path.stat().st_mtime_ns for path in tables],
    )
    assert "within, a quick look" in source
    assert source.count("A quick look, not the answer: asked with") == 2
    both = " ".join(f"--run {path}" for path in paths)
    assert f"by a quick look alone, of within, across: <code>python -m analyses.lens {both}" in source
    registry.load("lens").main(["--run", str(paths[0])])
    report.main([*given, "--quick"])
    source = (tmp_path / "page" / "report.html").read_text()
    assert source.count("A quick look, not the answer: asked with") == 1
    assert "a quick look<" not in source
    assert f"Not asked of across: <code>python -m analyses.lens --run {paths[1]}<" in source
    assert [path.stat().st_mtime_ns for path in tables] == before
