"""Work on several runs side by side: each process with one thread, so that no thread waits."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any, Protocol, TypeVar

import psutil
import torch

from taxogen.models import devices
from taxogen.models.threads import cores, threads
from taxogen.runs.run import Run

Item = TypeVar("Item", contravariant=True)
Tell = Callable[[Any], None]
MEMORY = 3_000_000_000
"""Bytes that a process with the embedded models takes at most, and that must be free for each."""


class Work(Protocol[Item]):
    """Something to be done with one item, which may tell how it goes; a function that can be pickled."""

    def __call__(self, item: Item, tell: Tell, /) -> None:
        """Does it."""


def side_by_side(do: Work[Item], items: Sequence[Item], jobs: int, tell: Tell) -> None:
    """Does something with each item, `jobs` at a time; the first failure ends all, and is raised here.

    Every item has one thread, in this process (`jobs=1`) or in one of `jobs` others: bytes do not depend on `jobs`. On
    two cores two processes of one thread train as much in a second as one of two threads, and do not slow down beside
    other work, which makes threads of one process wait for the slowest of them. A process takes one item after another:
    its imports take 5 s of a core (AMD EPYC), ten times as long as loading the embedded language model.

    Args:
        do: called with an item and a function for what it has to say.
        items: begun in their order.
        jobs: how many at once (`usual_jobs`).
        tell: is called here with what is said.

    Raises:
        ValueError: `jobs` is not at least 1.
        ChildProcessError: a process ended without a word, as when the system has no memory left.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: runs are worked on at least one at a time")
    if jobs == 1:
        with threads(1):
            for item in items:
                do(item, tell)
        return
    context = multiprocessing.get_context("spawn")
    said: Queue[Any] = context.Queue()
    waiting: Queue[Any] = context.Queue()
    running = list[BaseProcess]()
    try:
        count = min(jobs, len(items))
        for item in (*items, *[None] * count):
            waiting.put(item)
        for _ in range(count):
            process = context.Process(target=_in_process, args=(do, waiting, said), daemon=True)
            with _environment(OMP_NUM_THREADS="1", TQDM_DISABLE="1"), _interrupts_ignored():
                process.start()
            running.append(process)
        while running:
            _hear(said, tell)
            for process in [one for one in running if not one.is_alive()]:
                process.join()
                running.remove(process)
                if process.exitcode:
                    _hear(said, tell)
                    raise ChildProcessError(
                        f"a process that worked on a run ended with exit code {process.exitcode}, as when memory is "
                        "short: start again with --jobs 1; what is done stays"
                    )
        _hear(said, tell)
    finally:
        for process in running:
            process.terminate()
        waiting.cancel_join_thread()  # what no process has taken need not be


def usual_jobs(runs: Sequence[Run]) -> int:
    """How many of some runs to work on at once here: one for each core with enough memory; one on an accelerator."""
    if any(devices.resolve(run.config.model.device).type != "cpu" for run in runs):
        return 1
    return max(1, min(len(runs), cores(), psutil.virtual_memory().available // MEMORY))


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """A block that a process is started in, with these variables for it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A block that a process is started in that leaves Ctrl-C to this one, which ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _in_process(do: Work[Any], waiting: Queue[Any], said: Queue[Any]) -> None:
    """Does one item after another until there are no more, or one fails."""
    torch.set_num_threads(1)
    try:
        while (item := waiting.get()) is not None:
            do(item, said.put)
    except Exception as failure:
        said.put(failure)


def _hear(said: Queue[Any], tell: Tell) -> None:
    """Passes on what processes say, until nobody says anything for a moment; raises a failure."""
    while True:
        try:
            word = said.get(timeout=0.2)
        except queue.Empty:
            return
        if isinstance(word, Exception):
            raise word
        tell(word)
