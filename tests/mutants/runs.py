"""Runs of the tests against mutants: workers with a copy of the checkout each, one process for each mutant.

Importing torch and its friends takes longer than most tests. So the first process imports them, and none of the
project, and every test process is a fork of it; where there is no fork, processes start from nothing and all is slower.
"""

from __future__ import annotations

import importlib
import multiprocessing
import queue
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from tests.mutants.checkout import Checkout, tracked
from tests.mutants.rooms import Mutant, Stage, stages

WARM = """torch numpy pandas pyarrow.parquet h5py pytest hypothesis PIL.Image tqdm jinja2 jaxtyping tokenizers
scipy.stats scipy.spatial scipy.optimize scipy.cluster.hierarchy statsmodels.api sklearn.linear_model sklearn.metrics
sklearn.model_selection matplotlib.figure matplotlib.pyplot array_api_compat.numpy array_api_compat.torch
safetensors.torch transformers.models.llama.modeling_llama transformers.models.dinov2.modeling_dinov2
transformers.models.auto.modeling_auto nltk.corpus onnxruntime"""
METHOD = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
PATIENCE, GRACE = 3, 10
"""A run may take this many times as long as without a mutation, and this many seconds more."""
AT_MOST = 1200
"""Seconds that a run without a mutation may take."""


def warm() -> None:
    """Imports what the tests need beside the project; what is not installed is passed over."""
    for name in WARM.split():
        with suppress(ImportError):
            importlib.import_module(name)


def run(
    root: Path,
    chosen: Mapping[str, Sequence[Mutant]],
    workers: int,
    method: str = METHOD,
    *,
    own: bool = False,
) -> Iterator[dict[str, Any]]:
    """A record of each mutant as it is done, and one of each pytest run that fails without a mutation.

    Args:
        root: the checkout.
        chosen: a room → its mutants.
        workers: processes that test at the same time.
        method: how processes start: fork, or spawn.
        own: only the tests that mirror a room are run.

    Raises:
        RuntimeError: a worker ended with an error, which stands above, or the copy is not what is imported.
    """
    if method == "fork":
        warm()
    context = multiprocessing.get_context(method)
    rooms, records = context.Queue(), context.Queue()
    names = tracked(root)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        every = [
            context.Process(target=_work, args=(root, names, Path(folder) / str(k), method, rooms, records))
            for k in range(workers)
        ]
        for process in every:
            process.start()
        for room, mutants in chosen.items():
            rooms.put((stages(root, room)[: 1 if own else None], list(mutants)))
        for _ in every:
            rooms.put(None)
        try:
            for _ in every:
                yield from iter(lambda: _next(records, every), None)
        finally:
            for process in every:
                process.terminate()
                process.join()


def _next(records: Any, workers: Sequence[Any]) -> dict[str, Any] | None:
    while True:
        with suppress(queue.Empty):
            return records.get(timeout=2)
        if any(process.exitcode for process in workers):
            raise RuntimeError("a worker ended with an error, which stands above")


def _work(root: Path, names: Sequence[str], folder: Path, method: str, rooms: Any, records: Any) -> None:
    """A worker: takes rooms until there are none, and gives the records of their mutants."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exit ends the test process as well
    checkout = Checkout(root, names, folder)
    for every, mutants in iter(rooms.get, None):
        checkout.canary(mutants[0].file.partition("/")[0])
        tests = RoomTests(checkout, multiprocessing.get_context(method), every)
        for mutant in mutants:
            for record in tests.records(mutant):
                records.put(record)
    records.put(None)


class RoomTests:
    """The pytest runs of a room: how long each takes without a mutation, and what they make of a mutant."""

    def __init__(self, checkout: Checkout, context: BaseContext, every: Sequence[Stage]):
        self.checkout, self.context, self.stages = checkout, context, list(every)
        self.sound: dict[str, tuple[tuple[str, ...], float]] = {}
        self.unsound: list[dict[str, Any]] = []

    def records(self, mutant: Mutant) -> Iterator[dict[str, Any]]:
        """The record of a mutant, after one of each run that was seen to fail without it."""
        began = time.monotonic()
        verdict: dict[str, Any] = {"status": "untested", "stage": "", "by": ""}
        for stage in self.stages:
            arguments, seconds = self.without_mutation(stage)
            yield from self._noted(mutant.room)
            if not arguments:
                continue
            mirror = f"test_{Path(mutant.file).name}"
            first = sorted(
                arguments, key=lambda one: Path(one).name != mirror
            )  # sees most faults, so is run first
            with self.checkout.mutated(mutant):
                answer = self.checkout.test(
                    self.context, ("-x", *first), mutant.module, PATIENCE * seconds + GRACE
                )
            if answer["status"] == "stranger":
                raise RuntimeError(f"not imported from {self.checkout.root}: {answer['failures']}")
            if answer["status"] not in ("passed", "empty"):
                status = {"timeout": "timeout", "invalid": "invalid"}.get(answer["status"], "killed")
                by = (answer["failures"] or [answer["status"]])[0]
                verdict = {"status": status, "stage": stage.name, "by": by}
                break
            verdict["status"] = "survived"
        yield {**mutant.record(), **verdict, "seconds": round(time.monotonic() - began, 1)}

    def without_mutation(self, stage: Stage) -> tuple[tuple[str, ...], float]:
        """The arguments of a run without the tests that fail anyway, and its seconds; none where nothing is left."""
        if stage.name not in self.sound:
            arguments: tuple[str, ...] = stage.arguments
            answer, seconds = self._timed(arguments)
            while failures := answer["failures"]:
                self.unsound.append({"stage": stage.name, "failures": failures})
                files = {failure for failure in failures if "::" not in failure}
                arguments = tuple(one for one in arguments if one not in files)
                arguments += tuple(f"--deselect={failure}" for failure in failures if "::" in failure)
                if not any(one.startswith("tests/") for one in arguments):
                    return self.sound.setdefault(stage.name, ((), 0.0))
                answer, seconds = self._timed(arguments)
            passed = answer["status"] == "passed"
            self.sound[stage.name] = (arguments, seconds) if passed else ((), 0.0)
            if answer["status"] not in ("passed", "empty"):
                self.unsound.append({"stage": stage.name, "failures": [answer["status"]]})
        return self.sound[stage.name]

    def _timed(self, arguments: tuple[str, ...]) -> tuple[dict[str, Any], float]:
        began = time.monotonic()
        answer = self.checkout.test(self.context, arguments, limit=AT_MOST)
        return answer, time.monotonic() - began

    def _noted(self, room: str) -> Iterator[dict[str, Any]]:
        while self.unsound:
            yield {"room": room, "status": "unsound", **self.unsound.pop(0)}
