"""A small capture that tests run here or in processes of their own."""

import resource
import sys
import time

import torch
import torch.distributed as dist
from tiny_models import tiny

from probing.capture import CaptureBatch, capture
from probing.spans import Row, collate

SITES = ["hook_embed", "blocks.0.hook_resid_mid", "blocks.2.hook_resid_post", "blocks.1.attn.hook_z"]
BATCH = 4


def model():
    return tiny("llama")


def row(i):
    generator = torch.Generator().manual_seed(i)
    length = int(torch.randint(5, 9, (1,), generator=generator))
    ids = tuple(torch.randint(3, 110, (length,), generator=generator).tolist())
    return Row(ids, {"noun": (1, 2), "cue": tuple(range(2, length - 1)), "last": (length - 1,)})


def batches(items=46, *, side="right", lazy=True, calls=None, fail_at=None, slow=0.0):
    """Batches of four items; their inputs are made when the capture asks for them."""
    made = []
    for start in range(0, items, BATCH):
        numbers = range(start, min(items, start + BATCH))
        inputs, spans = collate([row(i) for i in numbers], side=side)

        def make(inputs=inputs, start=start):
            if calls is not None:
                calls.append(start)
            if fail_at == start // BATCH:
                raise RuntimeError("out of memory")
            time.sleep(slow)
            return inputs

        columns = {"leaf": [f"leaf {i % 5}" for i in numbers], "answer": [i % 2 == 0 for i in numbers]}
        made.append(CaptureBatch(make if lazy else inputs, [f"item-{i}" for i in numbers], spans, columns))
    return made


def job(path, *, items=46, lm=None, calls=None, fail_at=None, made=None, **more):
    """The store of the toy capture."""
    arguments = {
        "sites": SITES,
        "pooling": {"noun": "mean", "cue": "all", "last": "last"},
        "attributes": {"manifest_hash": "toy"},
        "shard_rows": 10,
        **more,
    }
    made = made if made is not None else batches(items, calls=calls, fail_at=fail_at)
    return capture(lm if lm is not None else model(), made, path, **arguments)


def folder_bytes(path):
    """File name → content, of everything in a folder."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file()}


def rebuildable(calls=None):
    """What the doctor's --rebuild calls."""
    return model(), batches(calls=calls)


def work(path, log, *, slow=0.0, file_limit=None, long_last=False, rank=None, address=None):
    """The toy capture in a process of its own; what goes wrong is written into `log`."""
    torch.set_num_threads(1)
    if rank is not None:
        dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    made = batches(slow=slow)
    if long_last:
        inputs, spans = collate([row(i) for i in range(100, 112)])
        columns = {"leaf": ["long " * 20_000] * 12, "answer": [True] * 12}
        made.append(CaptureBatch(inputs, [f"item-{i}" for i in range(100, 112)], spans, columns))
    try:
        job(path, made=made)
    except OSError as error:
        log.write_text(str(error))
        sys.exit(1)
    if rank is not None:
        dist.destroy_process_group()
