"""CKA between all sites of two activation stores of the same items, shard by shard: neither is ever in memory."""

import numpy as np
from jaxtyping import Float

from probing.similarity.calibrate import to_numpy
from probing.similarity.cka import MinibatchCKA
from probing.store import ActivationStore, MismatchError


def stores_cka(
    left: ActivationStore, right: ActivationStore, span: str, other_span: str | None = None
) -> Float[np.ndarray, "sites others"]:
    """Debiased linear CKA of every site of one store with every site of the other; a shard is a batch.

    `span` is read in both, or `other_span` in the second. Rows are items; where several show one leaf, what they
    share as pictures of it counts (average them, and use `calibrate`, where that must not). Shards should hold
    hundreds of rows: the estimate is unbiased in any batch of at least 4, but noisy in small ones.

    Source: Nguyen, Raghu & Kornblith 2021, ICLR, eq. 3.

    Raises:
        MismatchError: the stores do not hold the same items in the same order and shards.
        ValueError: a span stored per token has no row for each item.
    """
    if left.rows_per_shard != right.rows_per_shard or not np.array_equal(left.item_ids, right.item_ids):
        raise MismatchError(
            f"CKA asked for between {left.path} and {right.path}, which hold other items, or the same in another "
            "order or other shards; capture both from one manifest with one shard size"
        )
    other_span = span if other_span is None else other_span
    for store, name in ((left, span), (right, other_span)):
        if store.pooling.get(name) == "all":
            raise ValueError(
                f"span {name!r} of {store.path} is stored per token; give a pooled one, or pool it"
            )
    stream = MinibatchCKA()
    for here, there in zip(left.batches(span), right.batches(other_span)):
        stream.update(*(_spread(list(side.values())) for side in (here, there)))
    return to_numpy(stream.value())


def _spread(layers):
    """Rows as vectors; attention values by head are one vector a row."""
    return [x.reshape(len(x), -1) for x in layers]
