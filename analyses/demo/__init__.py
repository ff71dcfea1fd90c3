"""The whole path on real input: `make demo`, or `python -m analyses.demo [--preset demo|full]`.

Reads: the bundled pictograms and the packages' weights. Writes: a run per condition and seed under artifacts/runs,
and artifacts/demo/{report.html, summary.json}. Whatever is already there is kept: a second start is quick.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from analyses import behaviour, layer_probes, report
from analyses.frame.analysis import refusing
from probing.store import files
from taxogen.models.threads import threads
from taxogen.runs import config
from taxogen.runs.bench import Bench, open_bench
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from taxogen.stages.side_by_side import Tell, side_by_side, usual_jobs

CONDITIONS = {
    "pretrained": (),
    "random_init": ("model.init=random",),
    "within": ("data.shuffle=within",),
    "across": ("data.shuffle=across",),
}
PRESETS = {
    "demo": (
        (0,),
        (
            "data.pictures_per_leaf=6",
            "train.steps=150",
            "evaluate.pictures_per_leaf=1",
            "capture.pictures_per_leaf=1",
            "capture.at=0,50,last",
        ),
    ),
    "full": ((0, 1, 2), ("capture.at=0,50,100,last",)),
}
PLACES = (
    "--span",
    "slot",
    "--span",
    "cue",
)  # probes at the last token add a third of the time and give the cue's curves
SHARES = {"pictures": 50, "train": 120, "evaluate": 27, "probe": 40, "report": 8}  # for the time left


@dataclass
class Clock:
    """Seconds of each stage, stored so that a second start still has them, and an estimate of the time left."""

    path: Path
    stages: dict[str, float]
    jobs: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.seconds = json.loads(self.path.read_text(encoding="utf-8"))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announces a stage with the time left, and keeps its seconds."""
        self.hear((name, None))
        start = time.monotonic()
        yield
        self.hear((name, time.monotonic() - start))

    def hear(self, news: tuple[str, float | None]) -> None:
        """A stage begins, or (with its seconds) has ended."""
        name, seconds = news
        if seconds is None:
            number = list(self.stages).index(name) + 1
            print(f"[{number}/{len(self.stages)}] {name}{self._left()}", flush=True)
            self.begun.add(name)
            return
        # A stage whose work is done takes no time; its first duration stays.
        self.seconds[name] = round(max(seconds, self.seconds.get(name, 0.0)), 1)
        files.write_json(self.path, self.seconds)

    def _left(self) -> str:
        """An estimate from the stages that have ended; empty before the first has."""
        known = [name for name in self.stages if name in self.seconds]
        ahead = [name for name in self.stages if name not in self.seconds and name not in self.begun]
        if not known or not ahead:
            return ""
        rate = sum(self.seconds[name] for name in known) / sum(self.stages[name] for name in known)
        left = rate * sum(self.stages[name] for name in ahead) / self.jobs
        return f"   (about {left / 60:.0f} min left)" if left > 90 else f"   (about {left:.0f} s left)"


def main(argv: list[str] | None = None) -> None:
    """Prepares, trains, evaluates, captures, probes and reports every condition."""
    options = parser().parse_args(argv)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with refusing("python -m analyses.demo"):
        make(options)


def make(options: argparse.Namespace) -> None:
    """Makes, or completes, the runs and the report that the options name."""
    out = options.out or Path("artifacts") / options.preset
    runs = make_runs(options.preset, options.runs, tuple(options.settings))
    jobs = usual_jobs(list(runs.values())) if options.jobs is None else options.jobs
    clock = Clock(out / "seconds.json", _stages(runs), jobs)
    out.mkdir(parents=True, exist_ok=True)
    first = next(iter(runs.values()))
    with clock.stage("pictures and features"), threads(1), first.alone():
        _unless(first.complete, partial(open_bench, first))
    side_by_side(work, list(runs.items()), jobs, clock.hear)
    with clock.stage("report"):
        page = report.write(out, list(runs.values()), clock.seconds)
    table = page.tables["behaviour"]
    files.write_json(out / "summary.json", summary(table, clock.seconds))
    print(f"\n{behaviour.summary(table)}\n\nreport: {page.path}")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m analyses.demo", description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="demo", help="how much of it")
    parser.add_argument(
        "--runs", type=Path, default=Path("artifacts/runs"), metavar="DIR", help="holds the run directories"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: artifacts/demo, or artifacts/full")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at once, a thread for each; default: one for each core"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting that differs",
    )
    return parser


def make_runs(preset: str, folder: Path, settings: tuple[str, ...] = ()) -> dict[str, Run]:
    """The run directories of a preset, by condition and seed."""
    seeds, common = PRESETS[preset]
    runs = {}
    for seed in seeds:
        for condition, own in CONDITIONS.items():
            name = f"{preset}-{condition}" + (f"-{seed}" if len(seeds) > 1 else "")
            wanted = config.read(None, (f"name={name}", f"seed={seed}", *common, *own, *settings))
            runs[name] = Run.create(folder / name, wanted)
    return runs


def work(named: tuple[str, Run], tell: Tell) -> None:
    """Every stage of one run that is not done yet; tells when one begins and how many seconds it took."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    name, run = named
    bench = functools.cache(partial(open_bench, run))
    with run.alone():
        for stage, do in _run_stages(run, bench).items():
            tell((f"{stage} {name}", None))
            start = time.monotonic()
            do()
            tell((f"{stage} {name}", time.monotonic() - start))


def _run_stages(run: Run, bench: Callable[[], Bench]) -> dict[str, Callable[[], object]]:
    probed = run.folder("analyses", "layer_probes") / "layer_probes.parquet"
    trained = pipeline.trained_and_captured(run)
    return {
        "train": lambda: _unless(trained, lambda: pipeline.train_run(run, bench())),
        "evaluate": lambda: pipeline.evaluate_run(run, None if trained else bench()),
        "probe": lambda: _unless(
            probed.exists(), lambda: layer_probes.main(["--run", str(run.path), *PLACES])
        ),
    }


def _unless(done: bool, do: Callable[[], object]) -> None:
    if not done:
        do()


def _stages(runs: dict[str, Run]) -> dict[str, float]:
    each = {f"{stage} {name}": SHARES[stage] for name in runs for stage in ("train", "evaluate", "probe")}
    return {"pictures and features": SHARES["pictures"], **each, "report": SHARES["report"]}


def summary(table: pd.DataFrame, seconds: dict[str, float]) -> dict[str, object]:
    """The content of `summary.json`: conditions, contrasts, seconds."""
    means = behaviour.headline(table)
    means = means[(means["target"] == "mean") & (means["modality"] == "image")]
    conditions: dict[str, dict] = {}
    contrasts: dict[str, dict] = {}
    for row in means.to_dict("records"):
        number = {name: row[name] for name in ("value", "lower", "upper", "n")}
        if row["contrast"]:
            contrasts.setdefault(row["contrast"], {})[row["measure"]] = number
        else:
            conditions.setdefault(row["condition"], {})[row["measure"]] = number
    # The contrast that the report leads with is that of the AUROC; the others stand beside it.
    led = {name: {**found["auroc"], **found} for name, found in contrasts.items()}
    return {
        "conditions": conditions,
        "contrasts": led,
        "seconds": {"total": round(sum(seconds.values()), 1), **seconds},
    }
