"""A self-contained page about some runs: `python -m analyses.report --run R --run R2 … --out DIR`.

Reads: scores and layer-probe tables of the runs. Writes: report.html, and the figures and tables that it shows.
"""

import argparse
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses import behaviour, emergence
from analyses.frame import drawing, tables
from probing.stats.seeding import stream
from probing.store import files
from taxogen.answers.evaluate import Scores, candidates
from taxogen.runs.run import Run
from taxogen.world import pictures

SAMPLES = 10
ABOUT = {
    "pretrained": "pretrained LM, pictures as they are",
    "random_init": "the same architecture with random weights",
    "within": "pretrained LM, each leaf shown by another leaf of its category",
    "across": "pretrained LM, each leaf shown by any other leaf",
}


def write(out: Path, runs: Sequence[Run], scores: pd.DataFrame, seconds: dict[str, float]) -> Path:
    """The path of the page; `scores` is the table of `analyses.behaviour`, `seconds` what each stage took."""
    probes = emergence.compute(runs)
    figures: dict[str, Figure] = {"behaviour": behaviour.draw(scores), "emergence": emergence.draw(probes)}
    if probes.loc[probes["step"] >= 0, "step"].nunique() > 1:
        figures["training"] = emergence.draw_training(probes)
    for name, figure in figures.items():
        drawing.save(figure, out, name)
    for name, table in (("behaviour", scores), ("emergence", probes)):
        tables.save(table, out, name)
    headlines = behaviour.headline(scores)
    means = headlines[headlines["target"] == "mean"]
    page = _template().render(
        runs=[_described(run, runs) for run in runs],
        seconds=seconds,
        scores=_by_condition(means[means["contrast"] == ""]),
        contrasts=means[(means["contrast"] != "") & (means["modality"] == "image")].to_dict("records"),
        measures=behaviour.MEASURES,
        hypernyms=_by_hypernym(headlines),
        probes=emergence.summary(probes).to_dict("records"),
        samples=_samples(runs),
        figures={name: _inline((out / f"{name}.png").read_bytes(), "png") for name in figures},
        credits=pictures.credits().to_dict("records"),
        about=ABOUT,
    )
    files.write_whole(out / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return out / "report.html"


def main(argv: list[str] | None = None) -> None:
    """Computes what is missing, and writes the page."""
    options = parser().parse_args(argv)
    runs = [Run.open(path) for path in options.run]
    table = behaviour.compute(behaviour.conditions(runs))
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"report: {write(options.out, runs, table, seconds={})}")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m analyses.report", description=__doc__)
    parser.add_argument(
        "--run",
        action="append",
        required=True,
        type=Path,
        metavar="DIR",
        help="a run directory; may be given again",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the page is written")
    return parser


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("analyses.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = lambda value, places=2: "–" if pd.isna(value) else f"{value:.{places}f}"
    environment.filters["layer"] = _block
    environment.filters["spaced"] = lambda name: name.replace("_", " ")
    return environment.get_template("report.html")


def _block(value: float) -> str:
    """A block's index for the eye: −1 is the input to the first block; an onset may be none, or never in a draw."""
    if pd.isna(value):
        return "none"
    return "never" if np.isinf(value) else "input" if value < 0 else f"{value:.0f}"


def _by_condition(means: pd.DataFrame) -> dict[str, Any]:
    """Means over hypernyms: a row per measure and modality, a cell per condition."""
    names = list(dict.fromkeys(means["condition"]))
    rows = [
        {
            "measure": measure,
            "modality": modality,
            "chance": here["chance"].iloc[0],
            "cells": here.to_dict("records"),
        }
        for (modality, measure), here in means.groupby(["modality", "measure"], sort=False)
    ]
    return {"conditions": names, "rows": rows, "n": int(means["n"].max()), "runs": int(means["runs"].max())}


def _described(run: Run, among: Sequence[Run]) -> dict[str, Any]:
    record, data, model = run.record, run.config.data, run.config.model
    return {
        "name": run.name,
        "condition": behaviour.condition_of(run, among),
        "record": record,
        "data": data,
        "model": model,
        "seed": run.config.seed,
        "train": run.config.train,
        "captured": run.steps,
    }


def _by_hypernym(scores: pd.DataFrame) -> dict[str, Any]:
    """AUROC of each hypernym in each condition, as a table."""
    rows = scores[
        (scores["measure"] == "auroc") & (scores["modality"] == "image") & (scores["target"] != "mean")
    ]
    names = list(dict.fromkeys(rows["condition"]))
    cells = {(row["target"], row["condition"]): row for row in rows.to_dict("records")}
    order = sorted({target for target, _ in cells}, key=lambda target: -cells[target, names[0]]["value"])
    return {
        "conditions": names,
        "rows": [(target, [cells[target, name] for name in names]) for target in order],
    }


def _samples(runs: Sequence[Run]) -> dict[str, Any]:
    """Some test pictures, drawn by seed, with the three hypernyms that unshuffled models find likeliest."""
    plain = [run for run in runs if run.config.data.shuffle == "none"]
    plain = list({behaviour.condition_of(run, runs): run for run in reversed(plain)}.values())[::-1]
    if not plain:
        return {"conditions": [], "rows": []}
    scores = [Scores.read(run) for run in plain]
    collection, taxonomy = pictures.load(plain[0].config.data.pictures), plain[0].taxonomy
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
    return {"conditions": [behaviour.condition_of(run, runs) for run in plain], "rows": rows}


def _picture(collection: pictures.Pictures, name: str) -> str:
    image = collection.open(name)
    image.thumbnail((96, 96))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return _inline(buffer.getvalue(), "webp")


def _inline(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
