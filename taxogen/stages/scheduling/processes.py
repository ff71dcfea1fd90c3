"""Processes: tasks are done in this process, or side by side in others of this machine, each with one thread."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import psutil
import torch
from tqdm import tqdm

from taxogen.models import devices
from taxogen.models.threads import cores, threads
from taxogen.runs.run import Run
from taxogen.stages.scheduling.task import News, Room, Task, Workers, attempt

MEMORY = 3_000_000_000
"""Bytes that a process with the embedded models takes at most, and that must be free for each."""


def local(jobs: int) -> Workers:
    """Workers of one thread each, in this process or (of several) in others: bytes do not depend on `jobs`.

    On two cores two processes of one thread train as much in a second as one of two threads, and do not slow down
    beside other work, which makes threads of one process wait for the slowest of them.

    Raises:
        ValueError: `jobs` is not at least 1.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: runs are worked on at least one at a time")
    return ThisProcess() if jobs == 1 else Processes(jobs)


def usual_jobs(runs: Sequence[Run]) -> int:
    """How many of some runs to work on at once here: one for each core with enough memory; one on an accelerator."""
    if any(devices.resolve(run.config.model.device).type != "cpu" for run in runs):
        return 1
    return max(1, min(len(runs), cores(), psutil.virtual_memory().available // MEMORY))


def place(process: int | None = None) -> str:
    """Where a process runs, this one by default: the host and the process's number."""
    return f"{socket.gethostname()}:{process or os.getpid()}"


class ThisProcess:
    """One task after another, with one thread."""

    def __init__(self) -> None:
        self._task: Task | None = None
        self._begun = False

    def room(self) -> Room:
        """One core; what else there is, is not counted."""
        return Room(1, math.inf, math.inf)

    def start(self, task: Task) -> None:
        """Takes note of a task, which is done when news is asked for."""
        self._task, self._begun = task, False

    def news(self, seconds: float) -> list[News]:
        """That a task has begun, and then, once it has, how it ended."""
        if self._task is None:
            return []
        if not self._begun:
            self._begun = True
            return [News(self._task.name, "begun", place())]
        task, self._task = self._task, None
        with threads(1):
            return [attempt(task)]

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: str = ""


class Processes:
    """Some processes, each of which takes one task after another: its imports take 5 s of a core (AMD EPYC)."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._begun: list[News] = []

    def room(self) -> Room:
        """A core for each; what else there is, is not counted."""
        return Room(self._count, math.inf, math.inf)

    def start(self, task: Task) -> None:
        """Gives a task to a process that waits, or to a new one."""
        worker = self._idle.pop() if self._idle else _started()
        worker.task = task.name
        self._busy.append(worker)
        self._begun.append(News(task.name, "begun", place(worker.process.pid)))
        with suppress(OSError):  # it died while it waited: `news` reads that from its pipe
            worker.pipe.send(task)

    def news(self, seconds: float) -> list[News]:
        """What processes say, and which of them are gone."""
        news, self._begun = self._begun, []
        pipes = wait([worker.pipe for worker in self._busy], 0 if news else seconds)
        for worker in [one for one in self._busy if one.pipe in pipes]:
            self._busy.remove(worker)
            try:
                news.append(worker.pipe.recv())
                self._idle.append(worker)
            except (EOFError, OSError):
                worker.process.join()
                news.append(_gone(worker))
        return news

    def close(self) -> None:
        """Ends all processes; what they were at is not done, and what they have stored stays."""
        for worker in (*self._busy, *self._idle):
            worker.process.terminate()
        for worker in (*self._busy, *self._idle):
            worker.process.join()
            worker.pipe.close()
        self._busy, self._idle = [], []


def _gone(worker: _Worker) -> News:
    """What became of a task whose process is gone: lost where it was killed, failed where it ended by itself."""
    code = worker.process.exitcode or 0
    text = f"its process {worker.process.pid} ended with exit code {code}"
    if code < 0:
        return News(worker.task, "lost", f"{text}, as when memory is short")
    return News(worker.task, "failed", f"{text}: it says why on stderr")


def _started() -> _Worker:
    context = multiprocessing.get_context("spawn")
    own, other = context.Pipe()
    process = context.Process(target=_in_process, args=(other,), daemon=True)
    with _environment(OMP_NUM_THREADS="1", TQDM_DISABLE="1"), _interrupts_ignored():
        process.start()
    other.close()  # so that its end is heard
    return _Worker(process, own)


def _in_process(pipe: Connection) -> None:
    """Does one task after another, until the process that gives them is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # A bar's own lock is a semaphore, which a process that is ended leaves to the system.
    tqdm.set_lock(threading.RLock())
    torch.set_num_threads(1)
    while True:
        pipe.send(attempt(pipe.recv()))


def _end_with_parent() -> None:
    """Ends this process when the one that started it is killed: nobody would hear, and its run would stay locked."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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
