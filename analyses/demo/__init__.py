"""The whole path on real input: `make demo`, or `python -m analyses.demo [--preset demo|full]`.

Reads: the bundled pictograms and the packages' weights. Writes: a run per condition and seed under artifacts/runs,
and artifacts/demo/{report.html, summary.json}. Whatever is already there is kept: a second start is quick.
"""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path

import pandas as pd

from analyses import behaviour, layer_probes, report
from analyses.frame.analysis import refusing
from analyses.frame.command_line import described_parser
from probing.store import files
from taxogen.models.threads import threads
from taxogen.runs import config
from taxogen.runs.flags import add_set
from taxogen.runs.run import Run
from taxogen.stages.scheduling.processes import local, usual_jobs
from taxogen.stages.scheduling.schedule import schedule
from taxogen.stages.scheduling.task import News, Task
from taxogen.stages.sweeping import run_stages
from taxogen.stages.sweeping.clock import Clock

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
PROBED = layer_probes.Options(spans=("slot", "cue"))
"""Probes at the last token add a third of the time and give the cue's curves."""
FEATURES = "pictures and features"
_CACHED = (
    5  # times as fast as expected: features came from the cache, and say nothing about how fast the rest is
)
SHARES = {"pictures": 50, "train": 120, "evaluate": 27, "probe": 40, "report": 26}  # for the time left


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
    clock = Clock(out / report.SECONDS, _stages(runs), jobs, partial(print, flush=True))
    out.mkdir(parents=True, exist_ok=True)
    first = next(iter(runs.values()))
    with clock.stage(FEATURES), threads(1):
        if not first.complete:
            run_stages.prepare(first)
    seconds = clock.seconds[FEATURES]
    if seconds < SHARES["pictures"] / _CACHED:
        clock.without.add(FEATURES)
        del clock.seconds[FEATURES]
    if faults := schedule(tasks_of(runs), local(jobs), partial(_hear, clock)):
        raise ChildProcessError("; ".join(f"{task}: {why}" for task, why in faults.items()))
    clock.seconds[FEATURES] = seconds
    with clock.stage("report"):
        page = report.write(out, list(runs.values()), clock.seconds)
    table = page.tables["behaviour"]
    files.write_json(out / "summary.json", summary(table, clock.seconds))
    print(f"\n{behaviour.summary(table)}\n\nreport: {page.path}")
    print(f"A quick look by every other question: {report.first_looks(list(runs.values()), out)}")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = described_parser("python -m analyses.demo", __doc__ or "")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="demo", help="how much of it")
    parser.add_argument(
        "--runs", type=Path, default=Path("artifacts/runs"), metavar="DIR", help="holds the runs"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="of report.html (default: artifacts/demo, or artifacts/full)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at once, a thread for each (default: one for each core)"
    )
    add_set(parser)
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


def tasks_of(runs: dict[str, Run]) -> list[Task]:
    """The stages of the runs; what is done of them already takes no time."""
    tasks: list[Task] = []
    for name, run in runs.items():
        train, evaluate = (partial(run_stages.do_stage, run, stage, {}) for stage in ("train", "evaluate"))
        tasks.append(Task(f"train {name}", train))
        tasks.append(Task(f"evaluate {name}", evaluate, (f"train {name}",)))
        tasks.append(Task(f"probe {name}", partial(_probe, run), (f"train {name}",)))
    return tasks


def _hear(clock: Clock, news: News) -> None:
    if news.kind == "begun":
        clock.begin(news.task)
    elif news.kind == "done":
        clock.end(news.task, news.seconds)
    else:
        clock.drop(news.task, again=news.kind == "lost")


def _probe(run: Run) -> None:
    if not run.file("analyses/layer_probes/layer_probes.parquet").exists():
        layer_probes.ANALYSIS.ask([run], PROBED)


def _stages(runs: dict[str, Run]) -> dict[str, float]:
    each = {f"{stage} {name}": SHARES[stage] for name in runs for stage in ("train", "evaluate", "probe")}
    return {FEATURES: SHARES["pictures"], **each, "report": SHARES["report"]}


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
