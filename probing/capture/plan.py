"""Plan: the stored part of a capture, the shard of each missing batch, and the rank that computes it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch.distributed as dist

from probing.store import MismatchError
from probing.store.files import remove, write_json
from probing.store.headers import read_header, write_index
from probing.store.shard_files import HEADER_FILE, INDEX_FILE, CorruptShardError, read_text, shard_files


class _Batch(Protocol):
    @property
    def item_ids(self) -> Any: ...


B = TypeVar("B", bound=_Batch)
V = TypeVar("V")


@dataclass(frozen=True)
class Plan:
    """The state of a store's folder when a capture starts.

    Attributes:
        folder: where the shards are.
        shard_rows: a shard ends with the batch that fills it up to this many items.
        stored: items in finished shards.
        taken: numbers of finished shards.
        rank, ranks: this process and how many capture together.
    """

    folder: Path
    shard_rows: int
    stored: frozenset[str]
    taken: frozenset[int]
    rank: int = 0
    ranks: int = 1

    @classmethod
    def make(cls, folder: Path, header: Mapping[str, Any]) -> Plan:
        """The plan for a folder, which is made if need be; all ranks get the same one.

        Raises:
            MismatchError: the folder holds another capture.
            RuntimeError: several processes were launched but did not join a process group.
        """
        rank, ranks = _ranks()
        state: list[Any] = [None]
        if rank == 0:
            state = [_prepared(folder, header)]
        if ranks > 1:
            dist.broadcast_object_list(state, src=0)
        if isinstance(state[0], Exception):
            raise state[0]
        stored, taken = state[0]
        return cls(folder, header["shard_rows"], stored, taken, rank, ranks)

    def walk(self, batches: Iterable[B]) -> Iterator[tuple[int, B]]:
        """(shard number, batch) for every batch with an item that is not stored yet, in order.

        Raises:
            ValueError: an item occurs twice.
        """
        seen: set[str] = set()
        numbers = (number for number in itertools.count() if number not in self.taken)
        shard, rows = next(numbers), 0
        for batch in batches:
            ids = list(batch.item_ids)
            repeated = sorted({item for item in ids if item in seen} | {i for i in ids if ids.count(i) > 1})
            if repeated:
                raise ValueError(f"item_ids have to be unique in a store, these occur twice: {repeated[:5]}")
            seen.update(ids)
            missing = sum(item not in self.stored for item in ids)
            if not missing:
                continue
            if self.rank == 0:
                (self.folder / INDEX_FILE).unlink(missing_ok=True)
            yield shard, batch
            rows += missing
            if rows >= self.shard_rows:
                shard, rows = next(numbers), 0

    def dealt(self, batches: Iterable[B], compute: Callable[[B], V]) -> Iterator[tuple[int, V]]:
        """(shard number, value) for every batch that `walk` gives, in order, on rank 0; the others only compute.

        Each rank computes one of as many batches as there are ranks; rank 0 collects what they come to.
        """
        work = self.walk(batches)
        while turn := list(itertools.islice(work, self.ranks)):
            own = compute(turn[self.rank][1]) if self.rank < len(turn) else None
            values: list[Any] = [own]
            if self.ranks > 1:
                values = [None] * self.ranks
                dist.gather_object(own, values if self.rank == 0 else None, dst=0)
            if self.rank == 0:
                yield from ((shard, value) for (shard, _), value in zip(turn, values, strict=False))

    def require_space(self, size: int) -> None:
        """Refuse to go on when the disk has less than `size` bytes free.

        Raises:
            OSError: it has less.
        """
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise OSError(
                f"the capture into {self.folder} needs {size / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are "
                "free; free space, "
                "store fewer sites or use dtype float16 or bfloat16"
            )

    def finish(self) -> None:
        """Wait for every rank, then write the index that makes the store complete, unless nothing was captured."""
        if self.ranks > 1:
            dist.barrier()
        if self.rank == 0 and not (self.folder / INDEX_FILE).is_file():
            write_index(self.folder)
        if self.ranks > 1:
            dist.barrier()


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.h5"


def _ranks() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1:
        raise RuntimeError(
            f"{launched} processes were launched (WORLD_SIZE) but this one is in no process group, so they "
            "would write over one another; call torch.distributed.init_process_group() first"
        )
    return 0, 1


def _prepared(folder: Path, header: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[int]] | Exception:
    """The stored items and the numbers of their shards; an error is given back for every rank to raise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / HEADER_FILE
        if path.is_file():
            refuse_difference(folder, read_header(folder), header)
        else:
            write_json(path, header, sort_keys=False)
        for part in sorted(folder.glob("*.part")):
            remove(part)
        files = shard_files(folder)
        stored = frozenset(item for file in files for item in read_text(file, "item_id"))
        return stored, frozenset(int(file.stem.removeprefix("shard-")) for file in files)
    except (CorruptShardError, MismatchError) as error:
        return error
    except OSError as error:
        return OSError(
            f"cannot write an activation store in {folder}: {error}; choose a folder that can be written"
        )


def refuse_difference(folder: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise a MismatchError that names every difference between the header on disk and the asked one."""
    asked = json.loads(json.dumps(asked))
    flat_found = {**found, **found["attributes"]}
    flat_asked = {**asked, **asked["attributes"]}
    names = sorted((set(flat_found) | set(flat_asked)) - {"attributes"})
    differing = [name for name in names if flat_found.get(name) != flat_asked.get(name)]
    if differing:
        said = "; ".join(
            f"{name}: there {flat_found.get(name)!r}, asked {flat_asked.get(name)!r}" for name in differing
        )
        raise MismatchError(f"{folder} holds another capture ({said}); write this one into another folder")
