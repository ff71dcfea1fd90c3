"""Health of a store on disk: its faults, and the repair of its bad shards."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from probing.capture.batches import CaptureBatch
from probing.capture.loop import Recorder, capture
from probing.capture.plan import refuse_difference
from probing.hooks.provenance import adapters_of, weight_hash
from probing.store.files import remove
from probing.store.headers import read_header, read_index, require_shard_of
from probing.store.shard_files import (
    HEADER_FILE,
    INDEX_FILE,
    STORED_AS,
    CorruptShardError,
    column_names,
    damaged,
    data_sets,
    file_checksum,
    read_array,
    reading,
    shard_files,
)


def damage(path: str | Path) -> dict[str, str]:
    """File → what is wrong with it, for every bad shard of a store, store.json and index.json; every byte is read.

    Raises:
        FileNotFoundError: there is no store.
        MismatchError: the store is of another format.
    """
    folder, faults = Path(path), {}
    index: dict[str, dict[str, Any]] | None = None
    try:
        header = read_header(folder)
    except CorruptShardError as error:
        return {error.file: str(error)}
    try:
        if (folder / INDEX_FILE).is_file():
            index = {entry["file"]: entry for entry in read_index(folder)}
    except CorruptShardError as error:
        faults[error.file] = str(error)
    if HEADER_FILE in faults:  # then nothing says what the shards should hold
        return faults
    present = {file.name: file for file in shard_files(folder)}
    for name, file in present.items():
        try:
            _check(file, header, (index or {}).get(name, {}))
        except CorruptShardError as error:
            faults[name] = str(error)
    if index is not None:
        faults |= {name: "it is in the index but not in the folder" for name in set(index) - set(present)}
        faults |= {name: "it is in the folder but not in the index" for name in set(present) - set(index)}
    return dict(sorted(faults.items()))


def _check(file: Path, header: dict[str, Any], entry: dict[str, Any]) -> None:
    """Read everything in a shard.

    Raises:
        CorruptShardError: a checksum differs, a data set is missing or its length is wrong, or the shard belongs to
            another store.
    """
    require_shard_of(header, file)
    with reading(file) as shard:
        names = data_sets(shard)
        columns = column_names(shard)
    expected = {"item_id": "rows"} | {f"columns/{name}": "rows" for name in columns}
    for span, pooling in header["spans"].items():
        tokens = f"tokens of {span}"
        expected |= {f"spans/{span}/count": "rows", f"spans/{span}/position": tokens}
        of = tokens if pooling == "all" else "rows"
        expected |= {f"activations/{site}/{span}": of for site in header["sites"]}
    if set(names) != set(expected):
        raise damaged(file, f"data sets differ: {sorted(set(names) ^ set(expected))}")
    lengths: dict[str, int] = {}
    for name in names:
        values = read_array(file, name)
        lengths[name] = len(values)
        if name.startswith("activations/") and values.dtype != STORED_AS[header["dtype"]]:
            raise damaged(file, f"{name} is {values.dtype} in a store of {header['dtype']}")
    right = {"rows": entry.get("rows", lengths["item_id"])}
    for span in header["spans"]:
        right[f"tokens of {span}"] = int(np.sum(read_array(file, f"spans/{span}/count")))
    for name, unit in expected.items():
        if lengths[name] != right[unit]:
            raise damaged(file, f"{name} has {lengths[name]} rows and not {right[unit]}, the {unit}")
    if "checksum" in entry and file_checksum(file) != entry["checksum"]:
        raise damaged(file, f"the checksum of the file differs from that in {INDEX_FILE}")


def refuse_other_model(folder: Path, header: dict[str, Any], model: Any) -> None:
    """Raise a MismatchError when a store was captured with other weights."""
    module = model if isinstance(model, nn.Module) else model.model
    own = {"weight_hash": weight_hash(module)}
    if (adapters := adapters_of(module)) or "adapters" in header["attributes"]:
        own["adapters"] = adapters
    refuse_difference(folder, header, {**header, "attributes": {**header["attributes"], **own}})


def rebuild(path: str | Path, model: Any, batches: Iterable[CaptureBatch]) -> dict[str, str]:
    """File → what was wrong, for the bad shards that were captured again from the store's own batches.

    The good shards are not touched. A bad one is kept as `name.bad` until its successor is finished. A bad index.json
    is written anew.

    Raises:
        MismatchError: the model is not the one that the store was captured with; nothing is changed.
        CorruptShardError: store.json is damaged, so that nothing says what to capture; nothing is changed.
    """
    bad = damage(path)
    folder = Path(path)
    if HEADER_FILE in bad:
        raise CorruptShardError(bad[HEADER_FILE])
    header = read_header(folder)
    refuse_other_model(folder, header, model)
    for name in bad:
        if os.path.lexists(folder / name):
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
        remove(folder / f"{name}.bad")
    return bad
