"""Encoder features of pictures: computed once, pooled to a few tokens, cached, standardised."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from probing.store import CorruptShardError, MismatchError
from probing.store.cache import folder, locked, require_free
from probing.store.files import remove, write_whole
from probing.store.shard_files import checksum, damaged, read_array, read_text
from taxogen.models import encoders, weights
from taxogen.models.encoders import Encoder
from taxogen.models.encoders.encoder import IDENTITY
from taxogen.world.pictures import Pictures

_log = logging.getLogger("taxogen")

Features = Float[np.ndarray, "n tokens width"]
SHARD = 512
"""Pictures per file: the most that a killed run computes again."""


def features(
    pictures: Pictures,
    encoder: str | Encoder = "efficientnet-lite2",
    names: Sequence[str] | None = None,
    tokens: int = 1,
    device: str = "cpu",
    expected: Mapping[str, Any] | None = None,
) -> Features:
    """Features of pictures in the order asked for, float32, from the cache where they are in it.

    A row is stored under the encoder's name, weights and preprocessing, the number of tokens, and the
    picture's content hash: runs share it, and a changed picture invalidates only itself. A damaged file of the
    cache is removed, and its pictures are encoded again. Only pictures that are not in the cache are opened.

    Args:
        pictures: The collection.
        encoder: An encoder or its name.
        names: Pictures of the collection, possibly repeated; all of them in the table's order by default.
        tokens: Square number of tokens that the encoder's grid is averaged to, or all its cells.
        device: Where a named encoder runs.
        expected: The `Encoder.identity` recorded earlier. A named encoder is then loaded only if features of it are
            missing in the cache.

    Raises:
        KeyError: A name is not in the collection.
        ValueError: The grid cannot be averaged to `tokens`; or a picture cannot be read.
        MismatchError: The encoder is not the expected one; or pictures to be encoded have changed.
        FileNotFoundError: Pictures to be encoded are gone.
    """
    names = list(pictures.table["picture"]) if names is None else list(names)
    by_name = dict(zip(pictures.table["picture"], pictures.table["content_hash"], strict=True))
    if unknown := sorted(set(names) - set(by_name)):
        raise KeyError(
            f"{len(unknown)} pictures are not in {pictures.name!r}, first {unknown[0]!r}; see .table"
        )
    if expected is None and isinstance(encoder, str):
        encoder = encoders.load(encoder, device)
    identity: dict[str, Any] = encoder.identity if isinstance(encoder, Encoder) else {"name": encoder}
    if expected is not None:
        _require_same(expected, identity)
        identity = dict(expected)
    bins(tuple(identity["grid"]), tokens)
    shards = _shard_folder(identity, tokens)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(by_name[name], []).append(place)
    shape = (tokens, identity["width"])
    result = np.empty((len(names), *shape), dtype=np.float32)
    with locked(shards):
        for content, row in _stored(shards, shape):
            result[places.pop(content, [])] = row
        missing = [(content, names[where[0]]) for content, where in places.items()]
        if missing:
            encoder = encoders.load(encoder, device) if isinstance(encoder, str) else encoder
            _require_same(identity, encoder.identity)
            _require_unchanged(pictures, [name for _, name in missing])
            for content, row in _encoded(shards, encoder, tokens, pictures, missing):
                result[places[content]] = row
    return result


def cached(identity: Mapping[str, Any], tokens: int) -> tuple[set[str], list[str]]:
    """Content hashes of the pictures whose features are in the cache, and the faults of files that are damaged."""
    hashes: set[str] = set()
    faults: list[str] = []
    for path in sorted(_shard_folder(identity, tokens).glob("*.h5")):
        try:
            hashes.update(content for content, _ in _of_file(path, (tokens, identity["width"])))
        except CorruptShardError as fault:
            faults.append(f"{path}: {fault}")
    return hashes, faults


def pool(values: Features, grid: tuple[int, int], tokens: int) -> Features:
    """Features averaged over the cells of a coarser grid of `tokens` cells.

    Where the grid does not divide evenly, neighbouring cells overlap, as in torch's adaptive average pooling.
    """
    rows, columns = bins(grid, tokens)
    maps = values.reshape(len(values), *grid, values.shape[-1])
    cells = [maps[:, top:bottom, left:right].mean((1, 2)) for top, bottom in rows for left, right in columns]
    return np.stack(cells, axis=1, dtype=np.float32)


def bins(grid: tuple[int, int], tokens: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Row ranges and column ranges of `grid` that make `tokens` cells.

    Raises:
        ValueError: `tokens` is neither the whole grid nor a square that fits into it.
    """
    side = math.isqrt(max(tokens, 0))
    counts = grid if tokens == grid[0] * grid[1] else (side, side)
    if tokens < 1 or counts[0] * counts[1] != tokens or side > min(grid):
        known = sorted({n * n for n in range(1, min(grid) + 1)} | {grid[0] * grid[1]})
        raise ValueError(
            f"tokens={tokens} was asked for; a grid of {grid[0]} × {grid[1]} gives one of {str(known)[1:-1]}"
        )
    rows, columns = (
        [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(grid, counts, strict=True)
    )
    return rows, columns


@dataclass(frozen=True)
class PictureStandardizer:
    """Mean and standard deviation of every encoder feature over training pictures and their tokens, in float32.

    The projector's input. It is coarser than `probing.probes.fitted.Standardizer`, which takes rows in float64: a
    feature whose float32 values differ by rounding alone counts as constant.

    Attributes:
        mean: Per feature.
        scale: Standard deviation; 1 where a feature is constant.
    """

    mean: Float[np.ndarray, " width"]
    scale: Float[np.ndarray, " width"]

    @classmethod
    def fit(cls, training: Features) -> PictureStandardizer:
        """The standardiser of training features; never show it a test picture.

        Raises:
            ValueError: Fewer than two rows.
        """
        if len(training) < 2:
            raise ValueError(f"A standardiser needs at least 2 training pictures; {len(training)} given")
        rows = training.reshape(-1, training.shape[-1])
        mean, deviation = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        return cls(mean.astype(np.float32), np.where(constant, 1.0, deviation).astype(np.float32))

    def __call__(self, values: Features) -> Features:
        """The same features with the training pictures' mean 0 and standard deviation 1."""
        return (values - self.mean) / self.scale


def _require_same(recorded: Mapping[str, Any], loaded: Mapping[str, Any]) -> None:
    """Refusal of an encoder that is not the recorded one, by the fields of its identity that are known."""
    if lacking := [name for name in IDENTITY if name not in recorded]:
        raise MismatchError(
            f"the recorded identity of the encoder lacks {', '.join(lacking)}: {dict(recorded)}"
        )
    differing = [
        f"{name}: recorded {recorded.get(name)!r}, loaded {value!r}"
        for name, value in loaded.items()
        if recorded.get(name) != value
    ]
    if differing:
        raise MismatchError(
            f"the encoder is not the recorded one ({'; '.join(differing)}); install or name that one, or start a "
            "new run with this one"
        )


def _require_unchanged(pictures: Pictures, names: list[str]) -> None:
    faults = pictures.faults(names)
    lists = [
        f"{len(faulty)} {kind} ({', '.join(faulty[:5])}{', …' if len(faulty) > 5 else ''})"
        for kind, faulty in faults.items()
        if faulty
    ]
    if lists:
        error = FileNotFoundError if faults["missing"] else MismatchError
        raise error(
            f"of {len(names)} pictures of {pictures.name!r} whose features are not in the cache, "
            f"{' and '.join(lists)}: restore them, or start a new run with the pictures as they are"
        )


def _shard_folder(identity: Mapping[str, Any], tokens: int) -> Path:
    name = identity["name"]
    key = weights.text_hash([name, identity["revision"], identity["preprocessing"], tokens])[:12]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[-60:]
    return folder() / "features" / f"{readable}-{tokens}-{key}"


def _stored(shards: Path, shape: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    """(content hash, features) of the pictures that are in the cache; damaged files are removed."""
    for path in sorted(shards.glob("*.h5")):
        try:
            yield from _of_file(path, shape)
        except CorruptShardError:
            _log.warning("%s is damaged or has no checksums: removed, its pictures are encoded again", path)
            remove(path)


def _of_file(path: Path, shape: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    hashes, rows = read_text(path, "content_hash"), read_array(path, "features")
    if rows.shape != (len(hashes), *shape) or rows.dtype != np.float32:
        raise damaged(path, f"features are {rows.dtype} {rows.shape}")
    return list(zip(hashes, rows, strict=True))


def _encoded(
    shards: Path, encoder: Encoder, tokens: int, pictures: Pictures, missing: list[tuple[str, str]]
) -> Iterator[tuple[str, np.ndarray]]:
    """(content hash, features) of pictures, stored a shard at a time: a killed run loses little, corrupts nothing."""
    shards.mkdir(parents=True, exist_ok=True)
    require_free(
        shards, len(missing) * tokens * encoder.width * 4, what=f"features of {len(missing)} pictures"
    )
    first = 1 + max((int(path.stem) for path in shards.glob("*.h5") if path.stem.isdecimal()), default=-1)
    work = partial(_encode, encoder, tokens, pictures)
    threads = torch.get_num_threads()
    with (
        ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as workers,
        tqdm(total=len(missing), desc=f"{encoder.name} features", unit=" pictures") as bar,
    ):
        for number, start in enumerate(range(0, len(missing), SHARD), start=first):
            shard = missing[start : start + SHARD]
            batches = [shard[i : i + encoder.batch] for i in range(0, len(shard), encoder.batch)]
            parts = []
            for batch in workers.map(work, batches):
                parts.append(batch)
                bar.update(len(batch))
            hashes, rows = [content for content, _ in shard], np.concatenate(parts)
            write_whole(shards / f"{number:06d}.h5", partial(_write, encoder, tokens, hashes, rows))
            yield from zip(hashes, rows, strict=True)


def _encode(encoder: Encoder, tokens: int, pictures: Pictures, batch: list[tuple[str, str]]) -> Features:
    return pool(encoder.encode([pictures.open(name) for _, name in batch]), encoder.grid, tokens)


def _write(encoder: Encoder, tokens: int, hashes: list[str], rows: Features, path: Path) -> None:
    # The file format of 1.10 protects its own structure with checksums, as these do the values.
    with h5py.File(path, "x", libver=("v110", "v110")) as file:
        for name, values in (("content_hash", np.array(hashes, dtype="S64")), ("features", rows)):
            file[name] = values
            file[name].attrs["checksum"] = np.uint64(checksum(values))
        file["features"].attrs["axes"] = "picture, token (row by row), width"
        for key in ("name", "revision", "preprocessing", "licence", "grid"):
            file.attrs[key] = getattr(encoder, key)
        file.attrs["tokens"] = tokens
