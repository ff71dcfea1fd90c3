"""CKA between all sites of two activation stores of the same items, shard by shard: neither is ever in memory."""

import numpy as np
from jaxtyping import Float

from probing.similarity.calibration import to_numpy
from probing.similarity.streamed import StreamedCKA
from probing.stats.undefined import refuse_undefined
from probing.store import ActivationStore, MismatchError

_MEMORY = 1_000_000_000


def stores_cka(
    left: ActivationStore, right: ActivationStore, span: str, other_span: str | None = None
) -> Float[np.ndarray, "sites others"]:
    """Debiased linear CKA of every site of one store with every site of the other, over all rows at once.

    `span` is read in both, or `other_span` in the second. Rows are items; where several show one leaf, what they
    share as pictures of it counts (average them, and use `calibrate`, where that must not). The value depends neither
    on the size of the shards nor on the order of the items. Sites of the left store are taken a few at a time, as many
    as leave width × width sums of their pairs within 1 GB, and the right store is read once for each few. NaN for a
    site whose rows are all equal or equidistant.

    Source: Song et al. 2012, JMLR 13, eq. 5.

    Raises:
        MismatchError: the stores do not hold the same items in the same order and shards.
        ValueError: a span stored per token has no row for each item; a row holds NaN or an infinity.
    """
    if left.rows_per_shard != right.rows_per_shard or not np.array_equal(left.item_ids, right.item_ids):
        raise MismatchError(
            f"CKA asked for between {left.path} and {right.path}, which hold other items, or the same in another "
            "order or other shards; capture both from one manifest with one shard size"
        )
    other_span = span if other_span is None else other_span
    for store, name in ((left, span), (right, other_span)):
        if store.pooling[store.span_named(name)] == "all":
            raise ValueError(
                f"span {name!r} of {store.path} is stored per token; give a pooled one, or pool it"
            )
    step = _sites_at_once(left, right, span, other_span)
    lines = []
    for start in range(0, len(left.sites), step):
        stream = StreamedCKA()
        batches = zip(left.batches(span, left.sites[start : start + step]), right.batches(other_span))
        for here, there in batches:
            stream.update(*(_rows(side, store, stream.n) for side, store in ((here, left), (there, right))))
        lines.append(to_numpy(stream.value()))
    return np.concatenate(lines)


def _sites_at_once(left: ActivationStore, right: ActivationStore, span: str, other_span: str) -> int:
    """How many sites of the left store meet all of the right one within the bound on memory."""
    widths = [
        [x[0].size for x in next(store.batches(name)).values()]
        for store, name in ((left, span), (right, other_span))
    ]
    pair_bytes = 8 * max(widths[0]) * sum(widths[1])
    return max(1, _MEMORY // pair_bytes)


def _rows(side, store, first):
    """Rows as vectors; attention values by head are one vector a row."""
    for site, x in side.items():
        refuse_undefined(x.reshape(len(x), -1), f"site {site!r} of {store.path}", first)
    return [x.reshape(len(x), -1) for x in side.values()]
