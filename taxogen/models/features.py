"""Encoder features of pictures: computed once, pooled to a few tokens, cached, standardised."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from probing.store.cache import folder, locked, require_free
from probing.store.files import write_whole
from taxogen.models import encoders, weights
from taxogen.models.encoders import Encoder
from taxogen.world.pictures import Pictures

Features = Float[np.ndarray, "n tokens width"]
SHARD = 512
"""Pictures per file: the most that a killed run computes again."""


def features(
    pictures: Pictures,
    encoder: str | Encoder = "efficientnet-lite2",
    names: Sequence[str] | None = None,
    tokens: int = 1,
    device: str = "cpu",
) -> Features:
    """Features of pictures in the order asked for, float32, from the cache where they are in it.

    A row is stored under the encoder's name, weights and preprocessing, the number of tokens, and the
    picture's content hash: runs share it, and a changed picture invalidates only itself.

    Args:
        pictures: The collection.
        encoder: An encoder or its name.
        names: Pictures of the collection, possibly repeated; all of them in the table's order by default.
        tokens: Square number of tokens that the encoder's grid is averaged to, or all its cells.
        device: Where a named encoder runs.

    Raises:
        KeyError: A name is not in the collection.
        ValueError: The grid cannot be averaged to `tokens`; or a picture cannot be read.
    """
    names = list(pictures.table["picture"]) if names is None else list(names)
    by_name = dict(zip(pictures.table["picture"], pictures.table["content_hash"], strict=True))
    if unknown := sorted(set(names) - set(by_name)):
        raise KeyError(
            f"{len(unknown)} pictures are not in {pictures.name!r}, first {unknown[0]!r}; see .table"
        )
    encoder = encoders.load(encoder, device) if isinstance(encoder, str) else encoder
    bins(encoder.grid, tokens)
    shards = _shard_folder(encoder, tokens)
    hashes = [by_name[name] for name in names]
    with locked(shards):
        _complete(shards, encoder, tokens, pictures, dict(zip(hashes, names, strict=True)))
        return _read(shards, hashes, (tokens, encoder.width))


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


def _shard_folder(encoder: Encoder, tokens: int) -> Path:
    identity = [encoder.name, encoder.revision, encoder.preprocessing, tokens]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", encoder.name).strip("-")[-60:]
    return folder() / "features" / f"{readable}-{tokens}-{weights.text_hash(identity)[:12]}"


def _complete(
    shards: Path, encoder: Encoder, tokens: int, pictures: Pictures, wanted: dict[str, str]
) -> None:
    """Compute the features that no shard has, a shard at a time: a killed run loses little and corrupts nothing."""
    shards.mkdir(parents=True, exist_ok=True)
    stored = sorted(shards.glob("*.h5"))
    for path in stored:
        for content in _hashes(path):
            wanted.pop(content, None)
    missing = list(wanted.items())
    if not missing:
        return
    require_free(
        shards, len(missing) * tokens * encoder.width * 4, what=f"features of {len(missing)} pictures"
    )
    work = partial(_encode, encoder, tokens, pictures)
    threads = torch.get_num_threads()
    with (
        ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as workers,
        tqdm(total=len(missing), desc=f"{encoder.name} features", unit=" pictures") as bar,
    ):
        for number, start in enumerate(range(0, len(missing), SHARD), start=len(stored)):
            shard = missing[start : start + SHARD]
            batches = [shard[i : i + encoder.batch] for i in range(0, len(shard), encoder.batch)]
            rows = []
            for batch in workers.map(work, batches):
                rows.append(batch)
                bar.update(len(batch))
            write = partial(_write, encoder, tokens, [content for content, _ in shard], np.concatenate(rows))
            write_whole(shards / f"{number:06d}.h5", write)


def _encode(encoder: Encoder, tokens: int, pictures: Pictures, batch: list[tuple[str, str]]) -> Features:
    return pool(encoder.encode([pictures.open(name) for _, name in batch]), encoder.grid, tokens)


def _write(encoder: Encoder, tokens: int, hashes: list[str], rows: Features, path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["content_hash"] = np.array(hashes, dtype="S64")
        file["features"] = rows
        file["features"].attrs["axes"] = "picture, token (row by row), width"
        for key in ("name", "revision", "preprocessing", "licence", "grid"):
            file.attrs[key] = getattr(encoder, key)
        file.attrs["tokens"] = tokens


def _read(shards: Path, hashes: list[str], shape: tuple[int, int]) -> Features:
    positions: dict[str, list[int]] = {}
    for position, content in enumerate(hashes):
        positions.setdefault(content, []).append(position)
    result = np.empty((len(hashes), *shape), dtype=np.float32)
    for path in sorted(shards.glob("*.h5")):
        with h5py.File(path) as file:
            rows = np.asarray(file["features"])
        for row, content in zip(rows, _hashes(path), strict=True):
            result[positions.pop(content, [])] = row
    assert not positions, "every picture was computed"
    return result


def _hashes(path: Path) -> list[str]:
    with h5py.File(path) as file:
        return [content.decode() for content in np.asarray(file["content_hash"])]
