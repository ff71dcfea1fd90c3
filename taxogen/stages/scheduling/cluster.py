"""Cluster: tasks are done by Ray, on this machine or on all of a cluster that share a folder with it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taxogen.models.threads import threads
from taxogen.stages.scheduling.folders import SECONDS, mark_in
from taxogen.stages.scheduling.processes import place
from taxogen.stages.scheduling.task import News, Room, Task, attempt


class Cluster:
    """The machines of a Ray cluster; a task has one thread, and Ray finds it a machine with room.

    The folder in which the tasks write, and the one in which relative paths begin, are seen by every machine.

    Args:
        address: of the head of a cluster that runs, `HOST:PORT` or `auto`, which this machine has joined; None: Ray is
            started on this machine alone.
        jobs: tasks at once where Ray is started here; None: one a core.
        folder: in which the tasks write.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
        FileNotFoundError: a machine of the cluster does not see the folder.
    """

    def __init__(self, address: str | None, jobs: int | None, folder: Path) -> None:
        self._ray = _ray()
        self._running: dict[Any, str] = {}
        if address is not None:
            _require_listener(address)
        environment = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
        try:
            self._ray.init(
                address=address or "local",  # else Ray joins whatever runs here
                num_cpus=jobs,
                include_dashboard=None if address else False,
                configure_logging=False,
                runtime_env={"env_vars": environment},
            )
        except (ConnectionError, RuntimeError, ValueError) as fault:
            raise ConnectionError(
                f"Ray at {address or 'this machine'} does not answer: {' '.join(str(fault).split())[:200]}; start it "
                "with `ray start --head`, and have this machine join it with `ray start --address HOST:PORT`"
            ) from None
        try:
            self._require_seen(folder)
        except BaseException:
            self.close()
            raise

    def room(self) -> Room:
        """What all machines have that are there now."""
        return _room(self._ray.cluster_resources())

    def largest(self) -> Room:
        """What the machine has that has the most, of GPUs before memory before cores."""
        return max(
            (_room(node["Resources"]) for node in self._nodes()),
            key=lambda room: (room.gpus, room.memory, room.cpus),
        )

    def start(self, task: Task) -> None:
        """Gives a task to Ray."""
        self._running[self._remote(_done, task.room).remote(task, os.getcwd())] = task.name

    def news(self, seconds: float) -> list[News]:
        """What the workers say, and which of them are gone."""
        said: list[News] = []
        while self._running:
            ready, _ = self._ray.wait(list(self._running), timeout=0 if said else seconds)
            if not ready:
                break
            said.append(self._said_by(ready[0]))
            if said[-1].kind != "begun":
                del self._running[ready[0]]
        return said

    def close(self) -> None:
        """Leaves the cluster, which ends what still runs for this process; Ray that was started here ends."""
        self._ray.shutdown()

    def _said_by(self, words: Any) -> News:
        """The next word of a task; where its worker cannot say it any more, that it is lost."""
        try:
            return self._ray.get(next(words))
        except (
            self._ray.exceptions.RayTaskError
        ) as fault:  # before it began, such as a folder that is not there
            return News(self._running[words], "failed", f"{type(fault.cause).__name__}: {fault.cause}")
        except (self._ray.exceptions.RayError, StopIteration) as loss:
            return News(self._running[words], "lost", f"its worker is gone ({type(loss).__name__})")

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _remote(self, do: Callable[..., object], room: Room, node: str = "") -> Any:
        """What gives calls of a function to Ray, to be done where there is room, or on one machine."""
        strategies = self._ray.util.scheduling_strategies
        return self._ray.remote(do).options(
            num_cpus=room.cpus,
            num_gpus=room.gpus,
            memory=room.memory or None,
            num_returns="streaming" if do is _done else 1,
            max_retries=0,  # `schedule` begins a task again, and counts how often
            scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node, soft=False)
            if node
            else "DEFAULT",
        )

    def _require_seen(self, folder: Path) -> None:
        mark = mark_in(folder)
        try:
            for node in self._nodes():
                seen = self._remote(os.path.exists, Room(0), node["NodeID"]).remote(str(mark))
                try:
                    there = self._ray.get(seen, timeout=SECONDS)
                except self._ray.exceptions.RayError:
                    there = False
                if not there:
                    raise FileNotFoundError(
                        f"{folder} is not seen by {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) of the "
                        "cluster; name a folder with --out that all its machines share"
                    )
        finally:
            mark.unlink(missing_ok=True)


def _done(task: Task, folder: str) -> Iterator[News]:
    """Tells where a task begins, does it, and tells how it ended; relative paths begin in the driver's folder."""
    yield News(task.name, "begun", place())
    os.chdir(folder)
    with threads(1):
        yield attempt(task)


def _room(resources: dict[str, float]) -> Room:
    return Room(*(resources.get(kind, 0.0) for kind in ("CPU", "GPU", "memory")))


def _require_listener(address: str) -> None:
    """Refuses an address where nobody listens; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit() or "/" in host:
        raise ValueError(f"--address {address}: give HOST:PORT of the head of a cluster, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS / 3).close()
    except OSError as fault:
        raise ConnectionError(
            f"--address {address} does not answer ({fault.strerror or fault}); start a cluster there with "
            f"`ray start --head --port {port}`, or leave --address out"
        ) from None


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.util.scheduling_strategies  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a sweep on Ray was asked for, but ray is not installed: `pip install 'taxoprobe[cluster]'`, "
            "or leave --ray out and this machine works on them"
        ) from None
    return ray
