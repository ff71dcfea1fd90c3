"""Writer: the thread that takes captured values off a bounded queue and writes them into shards."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probing.capture.plan import Plan, shard_name
from probing.store.shards import ShardWriter

#: Batches that may wait for the disk; the model waits when there are more.
QUEUE_LENGTH = 4


@dataclass(frozen=True)
class Captured:
    """The contribution of one batch to the store.

    Attributes:
        item_ids: the rows.
        columns: manifest column → value of each row.
        positions: span → for each row the positions of its tokens.
        values: (site, span) → values in the store's dtype, on the host or on their way there.
        ready: the event after which they have arrived, None if they are there.
    """

    item_ids: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    positions: Mapping[str, list[np.ndarray]]
    values: Mapping[tuple[str, str], Tensor]
    ready: torch.cuda.Event | None

    def arrived(self) -> Captured:
        """The same, once all values are on the host."""
        if self.ready is not None:
            self.ready.synchronize()
        return replace(self, ready=None)

    @property
    def row_bytes(self) -> int:
        """How many bytes an item takes, on average over the batch."""
        return sum(value.nbytes for value in self.values.values()) // len(self.item_ids)


class Writer:
    """A context in which `put` hands batches to a writing thread; leaving it waits until all is on the disk.

    An error of the thread is raised at the next `put` or on leaving. When the block fails the open shard is
    removed; finished shards stay.
    """

    def __init__(self, plan: Plan, header: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        self._plan = plan
        self._header = header
        self._versions = versions
        self._queue: queue.Queue[tuple[int, Captured] | None] = queue.Queue(QUEUE_LENGTH)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="activation-writer", daemon=True)
        self._abandon = False
        self._shard: ShardWriter | None = None

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def put(self, shard: int, captured: Captured) -> None:
        """Hand over one batch; blocks while the queue is full."""
        if self._error is not None:
            raise self._error
        self._queue.put((shard, captured))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._abandon = error is not None
        self._queue.put(None)
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            if self._error is None and not self._abandon:
                self._try(partial(self._write, *work))
        if self._error is None and not self._abandon:
            self._try(self._finish)
        if self._shard is not None:
            self._shard.abandon()

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            self._error = error

    def _write(self, number: int, captured: Captured) -> None:
        rows = self._missing(captured.arrived())
        path = self._plan.folder / shard_name(number)
        if self._shard is not None and self._shard.path != path:
            self._finish()
        with self._writing():
            if self._shard is None:
                self._shard = ShardWriter(path, self._header, self._versions)
            self._shard.append(*rows)

    def _finish(self) -> None:
        if self._shard is not None:
            with self._writing():
                self._shard.finish()
            self._shard = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """An error of the disk or of HDF5 becomes one clear error."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"writing activations into {self._plan.folder} failed ({error}); finished shards are kept; "
                "free "
                "space or mend the folder, then run the same capture again"
            ) from error

    def _missing(self, captured: Captured) -> tuple[Any, Any, Any, Any]:
        """The rows of a batch that are not stored yet, as `ShardWriter.append` takes them."""
        for (site, span), value in captured.values.items():
            if not torch.isfinite(value).all():
                _refuse_infinite(site, span, captured, self._header["dtype"])
        stored = {key: as_stored(value) for key, value in captured.values.items()}
        rows = [row for row, item in enumerate(captured.item_ids) if item not in self._plan.stored]
        if len(rows) == len(captured.item_ids):
            return captured.item_ids, captured.columns, captured.positions, stored
        remaining = {
            (site, span): values[_places(captured.positions[span], rows, self._header["spans"][span])]
            for (site, span), values in stored.items()
        }
        return (
            [captured.item_ids[row] for row in rows],
            {name: [column[row] for row in rows] for name, column in captured.columns.items()},
            {span: [places[row] for row in rows] for span, places in captured.positions.items()},
            remaining,
        )


def _refuse_infinite(site: str, span: str, captured: Captured, dtype: str) -> None:
    value = captured.values[site, span]
    place = int(torch.nonzero(~torch.isfinite(value))[0][0])
    counts = [len(row) for row in captured.positions[span]]
    row = int(np.searchsorted(np.cumsum(counts), place, side="right")) if len(value) > len(counts) else place
    remedy = (
        "float16 ends at 65504: store as bfloat16 or float32" if dtype == "float16" else "the model itself"
    )
    raise ValueError(
        f"{site} at span {span!r} of item {captured.item_ids[row]!r} is not finite as {dtype} ({remedy})"
    )


def _places(positions: list[np.ndarray], rows: list[int], pooling: str) -> np.ndarray:
    """Where the values of some rows are among those of a batch."""
    if pooling != "all":
        return np.array(rows)
    ends = np.cumsum([len(row) for row in positions])
    return np.concatenate([np.arange(ends[row] - len(positions[row]), ends[row]) for row in rows])


def as_stored(values: Tensor) -> np.ndarray:
    """The array that is stored for values in the store's dtype: bfloat16 as its bits."""
    return (
        values.view(torch.int16).numpy().view(np.uint16) if values.dtype == torch.bfloat16 else values.numpy()
    )
