"""Cache: features of pictures that are not in it yet are encoded and stored, the others only looked up."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from probing.store import CorruptShardError, MismatchError
from probing.store.cache import folder, locked, require_free
from probing.store.files import remove
from probing.store.shard_files import STORED_AS
from taxogen.models import encoders, weights
from taxogen.models.encoders import Encoder
from taxogen.models.encoders.encoder import IDENTITY
from taxogen.models.features.pooling import bins, pool
from taxogen.models.features.rows import FeatureRows
from taxogen.models.features.shards import Shard, stored, write
from taxogen.models.threads import cores
from taxogen.world.pictures import Pictures

_log = logging.getLogger("taxogen")

SHARD = 512
"""Pictures per file: the most that a killed run computes again."""
IN_MEMORY = 2**29
"""Bytes of features, as float32, up to which they are held in memory; more are read row by row. No number differs."""


def features(
    pictures: Pictures,
    encoder: str | Encoder = "efficientnet-lite2",
    names: Sequence[str] | None = None,
    tokens: int = 1,
    device: str = "cpu",
    expected: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> FeatureRows:
    """Features of pictures in the order asked for, from the cache, where those that are not in it are put first.

    A row is stored under the encoder's name, weights and preprocessing, the number of tokens, the number type, and the
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
        dtype: How they are stored, `float32`, `bfloat16` or `float16`; they are read as float32.

    Raises:
        KeyError: A name is not in the collection.
        ValueError: The grid cannot be averaged to `tokens`; a picture cannot be read; or `dtype` cannot hold features.
        MismatchError: The encoder is not the expected one; or pictures to be encoded have changed.
        FileNotFoundError: Pictures to be encoded are gone.
        OSError: The disk cannot hold what is to be encoded.
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
    files, shape = _shard_folder(identity, tokens, dtype), (tokens, identity["width"])
    wanted: dict[str, str] = {}
    for name in names:
        wanted.setdefault(by_name[name], name)
    with locked(files):
        shards = list(_stored(files, shape, dtype, set(wanted)))
        there = {content for shard in shards for content in shard.hashes}
        missing = [(content, name) for content, name in wanted.items() if content not in there]
        if missing:
            encoder = encoders.load(encoder, device) if isinstance(encoder, str) else encoder
            _require_same(identity, encoder.identity)
            _require_unchanged(pictures, [name for _, name in missing])
            encoded = _encoded(files, encoder, shape, dtype, pictures, missing)
            shards += [Shard.open(path, shape, dtype) for path in encoded]
    rows = FeatureRows.in_shards(shards, [by_name[name] for name in names], shape)
    return rows if rows.nbytes > IN_MEMORY else FeatureRows.of(rows.numpy())


def cached(identity: Mapping[str, Any], tokens: int, dtype: str = "float32") -> tuple[set[str], list[str]]:
    """Content hashes of the pictures whose features are in the cache, and the faults of files that are damaged."""
    hashes: set[str] = set()
    faults: list[str] = []
    for path in sorted(_shard_folder(identity, tokens, dtype).glob("*.h5")):
        try:
            shard = Shard.open(path, (tokens, identity["width"]), dtype)
            shard.verify()
            hashes.update(shard.hashes)
        except CorruptShardError as fault:
            faults.append(f"{path}: {fault}")
    return hashes, faults


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


def _shard_folder(identity: Mapping[str, Any], tokens: int, dtype: str) -> Path:
    name = identity["name"]
    parts = [name, identity["revision"], identity["preprocessing"], tokens]
    key = weights.text_hash(parts if dtype == "float32" else [*parts, dtype])[:12]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[-60:]
    kind = "" if dtype == "float32" else f"-{dtype}"
    return folder() / "features" / f"{readable}-{tokens}{kind}-{key}"


def _stored(files: Path, shape: tuple[int, int], dtype: str, wanted: set[str]) -> Iterator[Shard]:
    """The files of the cache that hold some of the wanted content hashes; damaged ones are removed."""
    for path in sorted(files.glob("*.h5")):
        try:
            shard = Shard.open(path, shape, dtype)
            if wanted.isdisjoint(shard.hashes):
                continue
            shard.verify()
        except CorruptShardError:
            _log.warning("%s is damaged or has no checksums: removed, its pictures are encoded again", path)
            remove(path)
        else:
            yield shard


def _encoded(
    files: Path,
    encoder: Encoder,
    shape: tuple[int, int],
    dtype: str,
    pictures: Pictures,
    missing: list[tuple[str, str]],
) -> Iterator[Path]:
    """The files of pictures (content hash, name) that are encoded now: a killed run loses little, corrupts nothing."""
    files.mkdir(parents=True, exist_ok=True)
    kind = np.dtype(STORED_AS[dtype])
    what = f"features of {len(missing)} pictures in {dtype}"
    require_free(files, len(missing) * shape[0] * shape[1] * kind.itemsize, what=what)
    first = 1 + max((int(path.stem) for path in files.glob("*.h5") if path.stem.isdecimal()), default=-1)
    work = partial(_encode, encoder, shape[0], dtype, pictures)
    with (
        ThreadPoolExecutor(cores(), initializer=partial(torch.set_num_threads, 1)) as workers,
        tqdm(total=len(missing), desc=f"{encoder.name} features", unit=" pictures") as bar,
    ):
        for number, start in enumerate(range(0, len(missing), SHARD), start=first):
            shard = missing[start : start + SHARD]
            batches = [shard[i : i + encoder.batch] for i in range(0, len(shard), encoder.batch)]
            rows, done = np.empty((len(shard), *shape), kind), 0
            for batch in workers.map(work, batches):
                rows[done : done + len(batch)] = batch
                done += len(batch)
                bar.update(len(batch))
            path = files / f"{number:06d}.h5"
            write(path, encoder, dtype, [content for content, _ in shard], rows)
            yield path


def _encode(
    encoder: Encoder, tokens: int, dtype: str, pictures: Pictures, batch: list[tuple[str, str]]
) -> np.ndarray:
    values = encoder.encode([pictures.open(name) for _, name in batch])
    return stored(pool(values, encoder.grid, tokens), dtype, encoder.name)
