"""Health of a store on disk: its faults, and the repair of its bad shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from torch import nn

from probing.capture.batches import CaptureBatch
from probing.capture.loop import Recorder, capture
from probing.capture.plan import refuse_difference
from probing.hooks.provenance import weight_hash
from probing.store import ActivationStore
from probing.store.shard_files import (
    HEADER_FILE,
    INDEX_FILE,
    CorruptShardError,
    column_names,
    read_array,
    read_json,
    reading,
    shard_files,
)


def damage(path: str | Path) -> dict[str, str]:
    """Shard file → what is wrong with it, for every bad shard of a store; every byte of data is read.

    Raises:
        FileNotFoundError: there is no store.
    """
    folder = ActivationStore.open(path, unfinished=True).path
    header = read_json(folder / HEADER_FILE)
    faults: dict[str, str] = {}
    for file in shard_files(folder):
        try:
            _check(file, header)
        except CorruptShardError as error:
            faults[file.name] = str(error)
    if (folder / INDEX_FILE).is_file():
        for entry in read_json(folder / INDEX_FILE)["shards"]:
            if not (folder / entry["file"]).is_file():
                faults[entry["file"]] = "it is in the index but not in the folder"
    return dict(sorted(faults.items()))


def _check(file: Path, header: dict[str, Any]) -> None:
    """Read everything in a shard.

    Raises:
        CorruptShardError: a checksum differs, a data set is missing or its length is wrong.
    """
    with reading(file) as shard:
        names = list(_data_sets(shard))
        columns = column_names(shard)
    expected = ["item_id", *(f"columns/{name}" for name in columns)]
    for span in header["spans"]:
        expected += [f"spans/{span}/count", f"spans/{span}/position"]
        expected += [f"activations/{site}/{span}" for site in header["sites"]]
    if set(names) != set(expected):
        raise CorruptShardError(f"{file.name}: data sets differ: {sorted(set(names) ^ set(expected))}")
    lengths = {name: len(read_array(file, name)) for name in names}
    rows = lengths["item_id"]
    for span, pooling in header["spans"].items():
        tokens = int(np.sum(read_array(file, f"spans/{span}/count")))
        for site in header["sites"]:
            if lengths[f"activations/{site}/{span}"] != (tokens if pooling == "all" else rows):
                raise CorruptShardError(
                    f"{file.name}: activations/{site}/{span} has not one row for each item"
                )


def _data_sets(group: h5py.Group, prefix: str = "") -> Iterator[str]:
    for name in group:
        child = group[name]
        if isinstance(child, h5py.Group):
            yield from _data_sets(child, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"


def refuse_other_model(folder: Path, header: dict[str, Any], model: Any) -> None:
    """Raise a MismatchError when a store was captured with other weights."""
    own = {"weight_hash": weight_hash(model if isinstance(model, nn.Module) else model.model)}
    refuse_difference(folder, header, {**header, "attributes": {**header["attributes"], **own}})


def rebuild(path: str | Path, model: Any, batches: Iterable[CaptureBatch]) -> dict[str, str]:
    """Shard file → what was wrong, for the bad shards that were captured again from the store's own batches.

    The good shards are not touched. A bad one is kept as `name.bad` until its successor is finished.

    Raises:
        MismatchError: the model is not the one that the store was captured with; nothing is changed.
    """
    bad = damage(path)
    folder = Path(path)
    header = read_json(folder / HEADER_FILE)
    refuse_other_model(folder, header, model)
    for name in bad:
        if (folder / name).is_file():
            (folder / name).replace(folder / f"{name}.bad")
    if bad:
        capture(
            cast(Recorder, model),
            batches,
            folder,
            sites=header["sites"],
            pooling=header["spans"],
            dtype=header["dtype"],
            attributes=header["attributes"],
            shard_rows=header["shard_rows"],
            compression=header["compression"],
        )
    for name in bad:
        (folder / f"{name}.bad").unlink(missing_ok=True)
    return bad
