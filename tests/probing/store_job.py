"""A store of random values, written without a model."""

import numpy as np

from probing.capture.plan import Plan
from probing.store.shard_files import FORMAT
from probing.store.shards import ShardWriter

SITES = ["blocks.0.hook_resid_post", "blocks.1.attn.hook_z"]
SPANS = {"image": "all", "last": "last"}


def header(**changes):
    return {
        "format": FORMAT,
        "site_spelling": 1,
        "sites": SITES,
        "spans": SPANS,
        "dtype": "float32",
        "compression": None,
        "shard_rows": 8,
        "attributes": {"manifest_hash": "abc", "layers": 2, "nested": {"a": [1]}},
        **changes,
    }


def write(folder, *, rows=20, shard_rows=8, width=3, seed=0, **changes):
    """A store of random values, and the values."""
    rng = np.random.default_rng(seed)
    head = header(shard_rows=shard_rows, **changes)
    plan = Plan.make(folder, head)
    counts = rng.integers(0, 4, rows)
    values = {
        ("blocks.0.hook_resid_post", "image"): rng.standard_normal((counts.sum(), width), dtype=np.float32),
        ("blocks.0.hook_resid_post", "last"): rng.standard_normal((rows, width), dtype=np.float32),
        ("blocks.1.attn.hook_z", "image"): rng.standard_normal((counts.sum(), 2, 4), dtype=np.float32),
        ("blocks.1.attn.hook_z", "last"): rng.standard_normal((rows, 2, 4), dtype=np.float32),
    }
    if head["dtype"] == "float16":
        values = {key: value.astype(np.float16) for key, value in values.items()}
    if head["dtype"] == "bfloat16":
        values = {key: (value.view(np.uint32) >> 16).astype(np.uint16) for key, value in values.items()}
    ends = np.concatenate([[0], np.cumsum(counts)])
    for number, start in enumerate(range(0, rows, shard_rows)):
        stop = min(rows, start + shard_rows)
        writer = ShardWriter(folder / f"shard-{number:05d}.h5", head, {"torch": "1"})
        for a in range(start, stop, 3):
            b = min(stop, a + 3)
            writer.append(
                [f"item-{i}" for i in range(a, b)],
                {
                    "leaf": [f"ö{i % 3}" for i in range(a, b)],
                    "answer": [i % 2 == 0 for i in range(a, b)],
                    "n": list(range(a, b)),
                },
                {"image": [np.arange(counts[i]) + 1 for i in range(a, b)], "last": [np.array([9])] * (b - a)},
                {
                    (site, span): value[ends[a] : ends[b]] if span == "image" else value[a:b]
                    for (site, span), value in values.items()
                },
            )
        writer.finish()
    plan.finish()
    return values, counts
