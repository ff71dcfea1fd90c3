"""Labelled: the activations of a store as one array of xarray, whose numbers are read when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probing.sites import PATTERN, Site, Sites, select
from probing.store.shard_files import Extent

if TYPE_CHECKING:
    import xarray  # pyright: ignore[reportMissingImports]

    from probing.store.reading import ActivationStore

_TRAILING = {
    "attn.hook_z": ("head", "head_width"),
    PATTERN: ("head", "key"),
}
"""Point → names of the axes behind the rows; of all others it is the width."""
_OWN = ("site", "layer", "point", "item", "item_id", "span", "token", "position", "place", "width")
"""Names that the array gives to axes and labels itself; a column of such a name has `column_` before it."""


def to_xarray(
    store: ActivationStore, sites: Sites | None = None, spans: str | Sequence[str] | None = None
) -> xarray.DataArray:
    """The array of a store; see `ActivationStore.to_xarray`."""
    xr = library()
    chosen = _sites(store, sites)
    names = [span for span, pooling in store.pooling.items() if pooling != "all"] if spans is None else spans
    names = [store.span_named(name) for name in ([names] if isinstance(names, str) else names)]
    per_token = _is_per_token(store, names)
    trailing, sizes = _trailing(store, chosen, names)
    rows, labels = _labels(store, names[0] if per_token else None)
    points, layers = {site.point for site in chosen}, [site.layer for site in chosen]
    first = "layer" if len(points) == 1 and None not in layers else "site"
    blocks = [float("nan") if layer is None else float(layer) for layer in layers]
    coords: dict[str, Any] = {
        "site": (first, np.array([str(site) for site in chosen], dtype=object)),
        "point": (first, np.array([site.point for site in chosen], dtype=object)),
        "layer": (first, layers if first == "layer" else blocks),
        "span": names[0] if per_token else ("span", np.array(names, dtype=object)),
        **{name: (rows, values) for name, values in labels.items()},
    }
    shape = (len(chosen), len(next(iter(labels.values()))), *(() if per_token else (len(names),)), *sizes)
    dims = (first, rows, *(() if per_token else ("span",)), *trailing)
    lazy = _lazy(store, [str(site) for site in chosen], names, shape, per_token)
    return xr.DataArray(xr.Variable(dims, lazy), coords, name="activation", attrs=_attributes(store))


def library() -> Any:
    """The module xarray.

    Raises:
        ModuleNotFoundError: it is not installed; the message names the extra.
    """
    try:
        import xarray  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "labelled arrays need xarray, which is not installed: pip install 'taxoprobe[xarray]'",
            name="xarray",
        ) from None
    return xarray


def _sites(store: ActivationStore, patterns: Sites | None) -> tuple[Site, ...]:
    """The sites that are meant: where none is named all, attention patterns apart unless there is nothing else."""
    known = [Site.parse(name) for name in store.sites]
    if patterns is not None:
        return select(patterns, known)
    return tuple(site for site in known if site.point != PATTERN) or tuple(known)


def _is_per_token(store: ActivationStore, spans: Sequence[str]) -> bool:
    """Whether a row is a token; a span of which it is one stands alone."""
    whole = [span for span in spans if store.pooling[span] == "all"]
    if not spans:
        raise ValueError(
            f"every span of {store.path} is stored token by token; name one: spans={store.spans[0]!r}"
        )
    if whole and len(spans) > 1:
        raise ValueError(
            f"{', '.join(spans)} were asked for together, and {whole[0]!r} has a row for each token where others have "
            f"one for each item; ask for it alone: spans={whole[0]!r}"
        )
    return bool(whole)


def _trailing(
    store: ActivationStore, sites: Sequence[Site], spans: Sequence[str]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and sizes of the axes behind the rows, which all the sites share."""
    if not store.shards:
        raise ValueError(f"{store.path} has no finished shard yet, so there is nothing to read")
    shapes: dict[tuple[int, ...], Site] = {}
    for site in sites:
        files = (
            store.shards if site.point == PATTERN else store.shards[:1]
        )  # patterns widen with the longest row
        extents = [Extent.of(file, f"activations/{site}/{span}") for file in files for span in spans]
        shapes.setdefault(tuple(np.max([extent.shape[1:] for extent in extents], axis=0).tolist()), site)
    if len(shapes) > 1:
        kinds = ", ".join(f"{list(shape)} at {site}" for shape, site in shapes.items())
        raise ValueError(
            f"the sites have rows of different shapes ({kinds}); name those of one, such as "
            f"sites='{'blocks.*.' if sites[0].layer is not None else ''}{sites[0].point}'"
        )
    ((sizes, site),) = shapes.items()
    return _TRAILING.get(site.point, ("width",)), sizes


def _labels(store: ActivationStore, span: str | None) -> tuple[str, dict[str, np.ndarray]]:
    """The axis of the rows with the labels along it: of items, or of the tokens of a span."""
    columns = store.columns
    named = {
        f"column_{name}" if name in _OWN else str(name): columns[name].to_numpy() for name in columns.columns
    }
    if span is None:
        return "item", {"item": store.item_ids, **named}
    tokens = store.tokens(span)
    items = tokens["item_id"]
    labels = {
        "item_id": items.to_numpy(),
        "position": tokens["position"].to_numpy(),
        "place": items.groupby(items, sort=False).cumcount().to_numpy(),
    }
    rows = columns.index.get_indexer(pd.Index(items))
    return "token", {**labels, **{name: values[rows] for name, values in named.items()}}


def _attributes(store: ActivationStore) -> dict[str, Any]:
    """Where the numbers come from, as numbers and text only, which netCDF can hold."""
    plain = {
        name: value
        if isinstance(value, int | float | str) and not isinstance(value, bool)
        else json.dumps(value)
        for name, value in store.attributes.items()
    }
    return {**plain, "store": str(store.path), "stored_as": store.dtype}


def _lazy(
    store: ActivationStore,
    sites: Sequence[str],
    spans: Sequence[str],
    shape: tuple[int, ...],
    per_token: bool,
) -> Any:
    """An array that reads the data sets of those sites and spans at which numbers are asked for, and no other."""
    from xarray.backends import BackendArray  # pyright: ignore[reportMissingImports]
    from xarray.core import indexing  # pyright: ignore[reportMissingImports]

    class Activations(BackendArray):
        def __init__(self) -> None:
            self.shape = shape
            self.dtype = np.dtype(np.float16 if store.dtype == "float16" else np.float32)

        def __getitem__(self, key: Any) -> np.ndarray:
            outer = indexing.IndexingSupport.OUTER
            return indexing.explicit_indexing_adapter(key, shape, outer, self._read)

        def _read(self, key: tuple[Any, ...]) -> np.ndarray:
            """The values at whole numbers, slices or lists of places along each axis; a whole number takes it away."""
            wanted = [np.arange(size)[one] for one, size in zip(key, shape)]
            at = [np.atleast_1d(places) for places in wanted]
            inside = [at[1], *at[2 if per_token else 3 :]]
            whole = np.empty([len(places) for places in at], self.dtype)
            for number, site in enumerate(at[0]):
                for place, span in enumerate([0] if per_token else at[2]):
                    values = store.read(sites[int(site)], spans[int(span)])[np.ix_(*inside)]
                    whole[(number, slice(None), *(() if per_token else (place,)))] = values
            return whole[tuple(0 if places.ndim == 0 else slice(None) for places in wanted)]

    return indexing.LazilyIndexedArray(Activations())
