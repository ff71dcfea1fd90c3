"""Run directories without a model: what the frame reads of a run, and a question that only counts."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.command_line import Resampling, option
from analyses.frame.provenance import CAPTURES
from probing.store import records
from taxogen.runs.config import Config
from taxogen.runs.run import Run

STEPS = 12


def planted_run(path, seed=0, projector=b"projector") -> Run:
    """A run that was trained to its end, with scores and two captures, all of a few bytes."""
    run = Run(path, replace(Config(), seed=seed))
    run.path.mkdir(parents=True, exist_ok=True)
    records.write_json(run.path / "config.json", run.config.to_dict(), {})
    records.write_json(run.path / "run.json", {"steps": STEPS}, {})
    write_world(run, threads=1)
    for step in (0, STEPS):
        fill(run.snapshot(step), projector + bytes([step]))
        fill(run.store_path(step, "image") / "store.json", b"{}")
        fill(run.store_path(step, "image") / "index.json", b"{}")
    fill(run.file("scores.h5"), b"scores")
    return Run.open(path)


def write_world(run: Run, threads: int) -> None:
    """Closes a run with a world without files."""
    parts = {"files": {}, "manifests": {}, "asked": 0, "encoder": {}, "lm": {}, "threads": threads}
    records.write_sealed(run.file("world.json"), {"config_hash": run.config.hash, **parts})


def fill(path: Path, data: bytes) -> None:
    """Writes a file of a run with its record."""
    records.write(path, lambda part: part.write_bytes(data), {})


def flip(path: Path, place: float = 0.5) -> None:
    """Flips one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """What is counted.

    Attributes:
        step: of a saved projector, by default the last
        kind: of things
    """

    step: int | None = option(None)
    kind: str = option("birds")


def compute(runs, options):
    row = {"run": runs[0].name, "analysis": "count", "value": float(options.draws)}
    extras = Extras(
        tables={"more": pd.DataFrame([row])}, files={"note.txt": lambda part: part.write_text("n")}
    )
    return Result(pd.DataFrame([row]), extras)


def draw(table):
    figure = Figure()
    figure.subplots().plot(table["value"])
    return {"count": figure}


COUNT = Analysis(
    "count",
    "How many?\n\nReads: nothing.",
    Options,
    compute,
    draw,
    lambda table: f"{table['value'].iloc[0]:g}",
    example="python -m analyses.count --run R",
    reads=lambda _: ("scores.h5", CAPTURES),
)
FILES = ("count.parquet", "count.csv", "count.png", "count.svg", "more.parquet", "more.csv", "note.txt")
