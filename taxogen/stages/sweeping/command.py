"""`taxoprobe sweep`: its flags, and what it does."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taxogen.runs import config
from taxogen.runs.presets import preset

if TYPE_CHECKING:  # help and completion do not wait for torch
    from taxogen.stages.sweeping.plan_file import PlanFile

log = logging.getLogger("taxogen")
RUNS = Path("artifacts/runs")


def add(command: argparse.ArgumentParser) -> None:
    """Adds the flags of the command to those that choose settings."""
    command.add_argument(
        "plan", nargs="?", type=Path, metavar="PLAN", help="a plan file in TOML: docs/runs.md"
    )
    command.add_argument(
        "--run", "--out", type=Path, metavar="DIR",
        help=f"holds the runs (default: {RUNS}, of a plan artifacts/NAME)",
    )  # fmt: skip
    command.add_argument(
        "--vary", action="append", default=[], metavar="KEY=A,B",
        help="without a plan: a setting and the values that it takes, such as seed=0,1,2; each combination of all "
        "--vary is a run",
    )  # fmt: skip
    command.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME",
        help="only these runs of the plan (default: all groups)",
    )
    command.add_argument(
        "--tables",
        type=Path,
        metavar="DIR",
        help="results of analyses.study: what they have is not made again",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="say what is done, what is left and how long that takes"
    )
    command.add_argument(
        "--ray", action="store_true", help="give the work to Ray, started on this machine (extra `cluster`)"
    )
    command.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="give it to the Ray cluster with this head, which this machine has joined (auto: the one that it is in)",
    )
    command.add_argument(
        "--copy-to", default="", metavar="URL",
        help="where each run is copied once everything of it is done, such as s3://BUCKET/study (default: nowhere)",
    )  # fmt: skip
    command.add_argument("--jobs", type=int, metavar="N", help="runs at once (default: one for each core)")
    command.set_defaults(do=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from taxogen.runs.run import Run
    from taxogen.stages import sweep
    from taxogen.stages.sweeping import stored
    from taxogen.stages.sweeping.plan_file import PlanFile
    from taxogen.stages.sweeping.sweep_table import TABLE

    if options.plan:
        plan = _plan(options)
        out = options.run or Path("artifacts") / plan.name
    else:
        _refuse(options, "without a plan file", "group", "tables")
        base = config.settings(options.config, options.settings, preset(options.preset or "default"))
        plan = PlanFile(str(base.get("name", "sweep")), sweep.grid(base, options.vary), {})
        out = options.run or RUNS
    known = stored.names(options.tables, plan) if options.tables else frozenset()
    if options.dry_run:
        _refuse(options, "beside --dry-run, which copies nothing", "copy_to")
        sys.stdout.write(sweep.listing(plan, out, options.jobs, known))
        runs = {name: Run.create(out / name, one) for name, one in plan.runs.items() if name not in known}
        try:
            sweep.require_preparable(runs, here=not options.address)
        except OSError as missing:
            sys.stdout.write(f"this machine lacks something: {missing}\n")
        return 0
    if options.address:
        _refuse(options, "beside --address: a cluster does as many at once as it has room for", "jobs")
    ray = options.address or ("here" if options.ray else None)
    swept = sweep.sweep(plan, out, options.jobs, known, ray, options.copy_to)
    done = int(swept.table["state"].isin(("done", sweep.STORED)).sum())
    following = "" if swept.failed else f"; next: taxoprobe analyse behaviour --sweep {out}"
    sys.stdout.write(f"{out / TABLE} is written, {done} of {len(swept.table)} runs are done{following}\n")
    if swept.failed:
        log.error("not done:\n%s", "\n".join(f"    {task}: {why}" for task, why in swept.failed.items()))
    return int(bool(swept.failed))


def _plan(options: argparse.Namespace) -> PlanFile:
    from taxogen.stages.sweeping import plan_file
    from taxogen.stages.sweeping.run_stages import asking

    _refuse(
        options, f"beside the plan {options.plan}, which names its own settings", "config", "preset", "vary"
    )
    return plan_file.read(options.plan, options.settings, options.group, asking().check)


def _refuse(options: argparse.Namespace, where: str, *names: str) -> None:
    if given := [name for name in names if getattr(options, name)]:
        raise ValueError(f"--{given[0].replace('_', '-')} was given {where}; leave it out")
