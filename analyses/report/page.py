"""The page of a report: its sections come from the registry of analyses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from analyses.expected.judged import of_registered
from analyses.frame.identity import distinguished
from analyses.frame.section import Grid, Shown, prose
from analyses.report import closer, provenance, sentences
from analyses.report.design import Design, designs
from analyses.report.diagram import Diagram, diagrams
from analyses.report.samples import HIGHEST, data_uri, samples, unshuffled
from analyses.report.sections import Section, sections_of, within
from analyses.report.sprite import MOST, Sprite, sprite
from analyses.report.told import Told, told_of, when_right
from probing.stats import bounds_text
from probing.store import cache, files
from taxogen.runs.run import Run

FIGURE_BYTES = 24_000_000
"""Of figures in a page, which are a third more there."""
_VALUE = r"(?:[−+-]?[.\d][\d.,]*|–|never|none|input|encoder)"
_CELL = re.compile(rf"(?:{_VALUE}(?: [×–] {_VALUE})?(?: %)?(?: \[[^\]]*\]| \(no interval\))?)?")


@dataclass(frozen=True)
class Page:
    """A written page, and the tables that were computed for it."""

    path: Path
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def write(out: Path, runs: Sequence[Run], seconds: Mapping[str, float]) -> Page:
    """The page about some runs; `seconds` is how long each stage took. No other process writes there meanwhile.

    Raises:
        FileNotFoundError: a run was not trained to its end.
        MismatchError: one run was given twice.
    """
    runs = distinguished(runs)
    with cache.locked(out.resolve()):
        return _write(out, runs, seconds)


def _write(out: Path, runs: Sequence[Run], seconds: Mapping[str, float]) -> Page:
    out.mkdir(parents=True, exist_ok=True)
    of = designs(runs)
    lead = sentences.lead(of)
    tables: dict[str, pd.DataFrame] = {}
    sections = sections_of(runs, out, tables)
    told = told_of(runs) if "behaviour" in tables else []
    context = {
        "title": sentences.listed(run.name for run in runs),
        "lead": lead,
        "conditions": provenance.conditions(of),
        "contrasts": contrasts(tables),
        "expected": of_registered(runs, tables),
        "sections": [section for section in sections if section.answers],
        "unasked": [section for section in sections if section.reasons or not section.answers],
        "made": [provenance.checklist(of, _about_page()), *provenance.made(of, seconds)],
        "page_note": f"Written by taxoprobe {version('taxoprobe')}. {_about_page()}",
        "runs": runs,
        **_pictured(of, told),
        **_closer(told, sections, tables),
        **_inlined(sections),
    }
    text = template().render(context)
    files.write_whole(out / "report.html", lambda part: part.write_text(text, encoding="utf-8"))
    return Page(out / "report.html", tables)


def template() -> jinja2.Template:
    """The template of the page, with its style and script."""
    loader = jinja2.PackageLoader("analyses.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = lambda value, places=2: "–" if pd.isna(value) else f"{value:.{places}f}"
    environment.filters["spaced"] = lambda name: name.replace("_", " ")
    environment.filters["parts"] = _parts
    environment.filters["limits"] = lambda row: bounds_text(row["lower"], row["upper"], ".2f")
    environment.filters["sentence"] = lambda text: text.partition(". ")[0]
    environment.filters["numeric_columns"] = _numeric_columns
    environment.filters["coded"] = _coded
    environment.filters["indented"] = lambda line: len(line) - len(line.lstrip())
    environment.tests["grid"] = lambda block: hasattr(block, "header")
    environment.tests["shown"] = lambda block: isinstance(block, Shown)
    folder = resources("analyses.report") / "templates"
    for name, path in (("style", "style.css"), ("script", "closer.js")):
        environment.globals[name] = Markup((folder / path).read_text(encoding="utf-8"))
    return environment.get_template("report.html")


def _numeric_columns(block: Grid) -> list[bool]:
    """Whether each column has nothing but numbers, with their intervals, and words or dashes where there is none."""
    columns = list(zip(*block.rows)) or [()] * len(block.header)
    return [
        at > 0 and any(map(re.compile(r"\d").search, one)) and all(map(_CELL.fullmatch, one))
        for at, one in enumerate(columns)
    ]


def _coded(text: str) -> Markup:
    """A text as HTML: names in it for people, and what stands between backticks, as it is, as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return Markup.escape(prose(text))
    parts = [Markup.escape(piece if at % 2 else prose(piece)) for at, piece in enumerate(pieces)]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts)
    )


def contrasts(tables: Mapping[str, pd.DataFrame]) -> list[dict[Any, Any]]:
    """The differences in hypernym AUROC that the page begins with."""
    table = tables.get("behaviour")
    if table is None:
        return []
    leading = table["headline"].astype(bool) & (table["target"] == "mean") & (table["contrast"] != "")
    return table[leading & (table["modality"] == "image") & (table["measure"] == "auroc")].to_dict("records")


def _pictured(of: Sequence[Design], told: Sequence[Told]) -> dict[str, Any]:
    """Sample pictures, when answers are right, and the design as a drawing with the first sample in it."""
    plain = unshuffled(told)
    shown = samples(plain)
    taxonomy = of[0].run.taxonomy
    leaf = shown[0].leaf if shown else taxonomy.leaves[0]
    drawings: list[Diagram] = diagrams(
        of, leaf, taxonomy.hypernyms_of(leaf)[0], shown[0].picture if shown else ""
    )
    return {
        "samples": shown,
        "sampled": [one.condition.name for one in plain],
        "highest": HIGHEST,
        "right": when_right(told) if told else None,
        "diagrams": drawings,
    }


def _closer(
    told: Sequence[Told], sections: Sequence[Section], tables: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """The closer look at every hypernym and leaf, with its small pictures."""
    told = [one for one in told if one.run.closed]
    if not told:
        return {"closer": "", "sprite": Sprite()}
    wanted = [(one.pictures, str(name)) for one in told for name in closer.shown(one)["picture"]]
    sheet = sprite(wanted)
    answers = [answer for section in sections for answer in section.answers]
    curves = {
        one.condition.name: closer.curves_of(
            [answer.table for answer in answers if answer.run == one.run.name and not answer.quick],
            [*one.answers.taxonomy.hypernyms, *one.answers.taxonomy.leaves],
        )
        for one in told
    }
    text = closer.as_json(told, curves, tables["behaviour"], sheet)
    number = len({name for _, name in wanted})
    note = f"{len(sheet.places)} of {number} test pictures are shown." if number > MOST else ""
    return {"closer": Markup(text), "sprite": sheet, "closer_note": note}


def _inlined(sections: Sequence[Section]) -> dict[str, Any]:
    paths = within(sections, FIGURE_BYTES)
    return {"inlined": {path: data_uri(path.read_bytes(), "png") for path in paths}}


def _about_page() -> str:
    return (
        f"One file that needs no network: figures up to {FIGURE_BYTES // 1_000_000} MB in all (those of first seeds "
        f"first), {MOST} small pictures, {closer.PICTURES} test pictures of a condition in the closer look."
    )


def _parts(cell: str) -> tuple[str, str]:
    """A cell's value and its interval, which stands in grey."""
    value, *interval = re.split(r" (?=\[|\(no interval\))", cell, maxsplit=1)
    return value, "".join(interval)
