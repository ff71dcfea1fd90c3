"""The page of a report: its sections come from the registry of analyses, none is named here."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from analyses.expected.judged import of_registered
from analyses.frame import provenance, registry, wording
from analyses.frame.analysis import REFUSALS, Analysis, Takes, in_one_line
from analyses.frame.identity import distinguished
from analyses.frame.section import Block, Shown
from analyses.inputs.conditions import condition_of
from probing.stats.seeding import stream
from probing.store import MismatchError, cache, files, records
from taxogen.answers.evaluate import Scores, candidates
from taxogen.runs import closed
from taxogen.runs.run import Run
from taxogen.world import pictures

SAMPLES = 10
ABOUT = {
    "pretrained": "pretrained LM, pictures as they are",
    "released": "a released model, pictures as they are",
    "random_init": "the same architecture with random weights",
    "within": "pretrained LM, each leaf shown by another leaf of its category",
    "category": "pretrained LM, whole categories shown by each other, leaf by leaf",
    "across": "pretrained LM, each leaf shown by one that shares no hypernym with it",
    "across-plain": "pretrained LM, each leaf shown by any other leaf",
}


@dataclass(frozen=True)
class Answer:
    """One table of an analysis as a report shows it.

    Attributes:
        of: the run, or empty for all of them together.
        blocks: of its section.
        figures: name → the PNG, inline.
        asked: the flags with which it was asked, those that are the default left out.
    """

    of: str
    blocks: Sequence[Block]
    figures: Mapping[str, str]
    asked: str = ""

    @property
    def beside(self) -> list[str]:
        """The figures, where no block names those to be shown."""
        return [] if any(isinstance(block, Shown) for block in self.blocks) else list(self.figures)


@dataclass(frozen=True)
class Section:
    """A question with its answers, and why there are no others."""

    analysis: Analysis
    answers: Sequence[Answer] = ()
    reasons: Sequence[str] = ()


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
    described = [_described(run, runs) for run in runs]
    tables: dict[str, pd.DataFrame] = {}
    sections = [_section(analysis, runs, out, tables) for analysis in _analyses()]
    page = _template().render(
        runs=described,
        seconds=seconds,
        contrasts=_contrasts(tables),
        expected=of_registered(runs, tables),
        sections=[section for section in sections if section.answers],
        unasked=[section for section in sections if section.reasons or not section.answers],
        samples=_samples(runs) if "behaviour" in tables else {"conditions": [], "rows": []},
        credits=pictures.credits().to_dict("records"),
        about=ABOUT,
        given=" ".join(f"--run {run.path}" for run in runs),
    )
    files.write_whole(out / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return Page(out / "report.html", tables)


def _analyses() -> list[Analysis]:
    """All that can be asked of runs, in the order of their sections."""
    known = [registry.load(name) for name in registry.questions()]
    return sorted(
        (one for one in known if one.takes is not Takes.NO_RUN), key=lambda one: (one.order, one.name)
    )


def _section(analysis: Analysis, runs: Sequence[Run], out: Path, tables: dict[str, pd.DataFrame]) -> Section:
    if not analysis.light:
        return _stored(analysis, runs)
    options = analysis.options()
    try:
        made_from = provenance.made_from(analysis, runs, options)
        result = analysis.compute(runs, options)
    except REFUSALS as refusal:
        return Section(analysis, reasons=[in_one_line(refusal)])
    analysis.save(result, out, options, made_from)
    tables[analysis.name] = result.table
    names = [*analysis.draw(result.table), *result.extras.figures]
    shown = {name: _inline((out / f"{name}.png").read_bytes(), "png") for name in names}
    return Section(analysis, [Answer("", analysis.blocks(result.table), shown)])


def _stored(analysis: Analysis, runs: Sequence[Run]) -> Section:
    """The tables that lie in the runs' folders, with their figures; those that do not fit the runs are left out."""
    alone, answers, reasons = analysis.takes is Takes.EACH_RUN, [], []
    for group in [[run] for run in runs] if alone else [runs]:
        for name, stored in analysis.stored(group).items():
            try:
                record = stored.require()
            except (OSError, MismatchError) as refusal:
                reasons.append(in_one_line(refusal))
                continue
            table, prefix = pd.read_parquet(stored.path), "" if name == analysis.name else f"{name}-"
            paths = {
                figure: stored.path.with_name(f"{prefix}{figure}.png") for figure in analysis.draw(table)
            }
            unfit = {figure: _unfit(path, record, stored) for figure, path in paths.items() if path.is_file()}
            reasons += filter(None, unfit.values())
            shown = {name: _inline(paths[name].read_bytes(), "png") for name in unfit if not unfit[name]}
            title = f"{group[0].name}{', ' + name if prefix else ''}" if alone else ""
            asked = wording.spelled(analysis.options, record["options"]) if record else ""
            answers.append(Answer(title, analysis.blocks(table), shown, asked))
    return Section(analysis, answers, reasons)


def _unfit(figure: Path, record: Mapping[str, Any] | None, table: provenance.Stored) -> str:
    """Why a figure is not to be shown beside its table; empty where nothing speaks against it."""
    remedy = table.remedy(record["options"] if record else {})
    try:
        return (
            ""
            if records.made_from(figure, remedy) == record
            else f"{figure} is not of {table.path}; {remedy}"
        )
    except records.DamagedError as damage:
        return in_one_line(damage)


def _contrasts(tables: Mapping[str, pd.DataFrame]) -> list[dict[Any, Any]]:
    """The differences in hypernym AUROC that the page begins with."""
    table = tables.get("behaviour")
    if table is None:
        return []
    kept = table["headline"].astype(bool) & (table["target"] == "mean") & (table["contrast"] != "")
    return table[kept & (table["modality"] == "image") & (table["measure"] == "auroc")].to_dict("records")


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("analyses.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = lambda value, places=2: "–" if pd.isna(value) else f"{value:.{places}f}"
    environment.filters["spaced"] = lambda name: name.replace("_", " ")
    environment.filters["parts"] = _parts
    environment.tests["numeric"] = lambda text: bool(re.match(r"[−+-]?[.\d]|–$|never$|none$|input$", text))
    environment.tests["grid"] = lambda block: hasattr(block, "header")
    environment.tests["shown"] = lambda block: isinstance(block, Shown)
    return environment.get_template("report.html")


def _parts(cell: str) -> tuple[str, str]:
    """A cell's value and its interval, which stands in grey."""
    value, bracket, interval = cell.partition(" [")
    return value, bracket.strip() + interval


def _described(run: Run, among: Sequence[Run]) -> dict[str, Any]:
    record, data, model = run.record, run.config.data, run.config.model
    return {
        "name": run.name,
        "condition": condition_of(run, among),
        "record": record,
        "data": data,
        "model": model,
        "seed": run.config.seed,
        "train": run.config.train,
        "captured": run.steps,
    }


def _samples(runs: Sequence[Run]) -> dict[str, Any]:
    """Some test pictures, drawn by seed, with the three hypernyms that unshuffled models find likeliest."""
    plain = [run for run in runs if run.config.data.shuffle == "none" and run.closed]
    plain = list({condition_of(run, runs): run for run in reversed(plain)}.values())[::-1]
    if not plain:
        return {"conditions": [], "rows": []}
    scores = [Scores.read(run) for run in plain]
    collection, taxonomy = closed.read(plain[0]).pictures, plain[0].taxonomy
    shown = scores[0].image
    order = stream(plain[0].config.seed, "samples").permutation(len(shown))
    chosen = shown.iloc[order].drop_duplicates("leaf").head(SAMPLES)
    best = [dict(zip(found.image["picture"], candidates(found, 3), strict=True)) for found in scores]
    rows = [
        {
            "picture": _picture(collection, picture),
            "leaf": leaf,
            "truth": taxonomy.hypernyms_of(leaf),
            "answers": [of.get(picture, []) for of in best],
        }
        for picture, leaf in zip(chosen["picture"], chosen["leaf"], strict=True)
    ]
    return {"conditions": [condition_of(run, runs) for run in plain], "rows": rows}


def _picture(collection: pictures.Pictures, name: str) -> str:
    image = collection.open_or_blank(name)
    image.thumbnail((96, 96))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return _inline(buffer.getvalue(), "webp")


def _inline(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
