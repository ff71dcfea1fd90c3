"""How much memory the cohesion of many wide rows takes, from the store on disk to the table, in its own process."""

from __future__ import annotations

import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from probing.capture.plan import Plan
from probing.store import ActivationStore
from probing.store.shard_files import FORMAT
from probing.store.shards import ShardWriter
from taxogen.world.taxonomy import Taxonomy

SITES = (
    "blocks.0.hook_resid_post",
    "blocks.1.hook_resid_post",
)  # a second site shows that memory does not add up
SPAN = "image"
_SHARD_ROWS = 5_000


def measure(rows: int, width: int, leaves: int, categories: int) -> dict[str, float]:
    """Peak resident bytes, those before anything is read, and seconds per site under all treatments."""
    with TemporaryDirectory() as folder:
        _write(Path(folder), rows, width, leaves)
        queue = get_context("spawn").Queue()
        process = get_context("spawn").Process(target=_measure, args=(folder, leaves, categories, queue))
        process.start()
        found = queue.get()
        process.join()
        return found


def _write(folder: Path, rows: int, width: int, leaves: int) -> None:
    """A float32 store of pictures, as many of each leaf as of any other, in shuffled order."""
    head = {
        "format": FORMAT,
        "site_spelling": 1,
        "sites": list(SITES),
        "spans": {SPAN: "mean"},
        "dtype": "float32",
        "compression": None,
        "shard_rows": _SHARD_ROWS,
        "attributes": {},
    }
    plan = Plan.make(folder, head)
    rng = np.random.default_rng(0)
    leaf_of = rng.permutation(np.arange(rows) % leaves)
    for number, start in enumerate(range(0, rows, _SHARD_ROWS)):
        here = leaf_of[start : start + _SHARD_ROWS]
        writer = ShardWriter(folder / f"shard-{number:05d}.h5", head, {})
        values = {
            (site, SPAN): rng.standard_normal((len(here), width), dtype=np.float32)
            + (here[:, None] / leaves).astype(np.float32)
            for site in SITES
        }
        columns = {
            "leaf": [f"leaf {k}" for k in here],
            "picture": [f"picture {start + k}" for k in range(len(here))],
        }
        ids = [f"{start + k:016x}" for k in range(len(here))]
        writer.append(ids, columns, {SPAN: [np.array([1])] * len(here)}, values)
        writer.finish()
    plan.finish()


def _measure(folder: str, leaves: int, categories: int, queue) -> None:
    from analyses.cohesion.rows import Options, cohesion_table

    taxonomy = Taxonomy(tuple((f"leaf {k}", f"category {k % categories}") for k in range(leaves)))
    before = _peak()
    start = time.perf_counter()
    cohesion_table({0: ActivationStore.open(folder)}, None, taxonomy, Options(permutations=199, draws=200))
    seconds = (time.perf_counter() - start) / len(SITES)
    queue.put({"before_bytes": before, "peak_bytes": _peak(), "seconds_per_site": seconds})


def _peak() -> int:
    """Largest resident memory of this process, bytes; `ru_maxrss` would start from that of its parent."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
