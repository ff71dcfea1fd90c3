"""Benchmarks from the command line: `python -m benchmarks [NAME …] [--quick]`.

Reads: nothing. Writes: artifacts/benchmarks/latest.json, one record per benchmark, the newest of each kept.
"""

import argparse
import datetime
import importlib
import json
import os
import pkgutil
import platform
from pathlib import Path
from typing import Any

import torch

import benchmarks
from probing.store import files

LATEST = Path("artifacts/benchmarks/latest.json")


def machine() -> str:
    """The machine in words: processor, cores, number types it multiplies in hardware, torch."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def known() -> list[str]:
    """The names of the benchmarks there are."""
    return sorted(
        found.name for found in pkgutil.iter_modules(benchmarks.__path__) if not found.name.startswith("_")
    )


def main(argv: list[str] | None = None) -> None:
    """Runs benchmarks, prints their figures, and keeps the records."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(known())}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes: does it run, not how fast is it")
    options = parser.parse_args(argv)
    for name in options.names or known():
        if name not in known():
            parser.error(f"benchmark {name!r} is not known; known: {', '.join(known())}")
        record = importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)
        record |= {"name": name, "machine": machine(), "date": datetime.date.today().isoformat()}
        record["quick"] = options.quick
        _show(record)
        if not options.quick:
            _keep(record)


def _show(record: dict[str, Any]) -> None:
    print(
        f"\n{record['name']} — {record['machine']}, {record['date']}{' (quick)' if record['quick'] else ''}"
    )
    for group in ("ratios", "seconds", "sizes"):
        for name, value in record.get(group, {}).items():
            print(
                f"  {group:8} {name:45} {value:12.4g}"
                if isinstance(value, float)
                else f"  {group:8} {name:45} {value!s:>12}"
            )


def _keep(record: dict[str, Any]) -> None:
    records = json.loads(LATEST.read_text(encoding="utf-8")) if LATEST.exists() else []
    files.write_json(LATEST, [*(old for old in records if old["name"] != record["name"]), record])


if __name__ == "__main__":
    main()
