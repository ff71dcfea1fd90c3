"""Rows of activation stores by leaf concept, under a treatment of massive activations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from analyses.frame.stores import RunOrStores, Stores
from analyses.frame.tables import step_text
from probing.categories.massive import TREATMENTS, Treatment, fit_treatment
from probing.similarity.gram import leaf_means
from probing.sites import SPAN_OF_SLOT
from probing.store import ActivationStore, MismatchError

_CHUNK = 2048
_TWIN = {SPAN_OF_SLOT["image"]: SPAN_OF_SLOT["text"]}


@dataclass(frozen=True)
class LeafRows:
    """Rows of one store, one per picture (or, in text, per leaf); `fitted_on` marks those treatments are fitted on.

    A picture that was asked about with several prompts is one row, their mean: it is one look at its leaf.
    """

    store: ActivationStore
    order: Int[np.ndarray, " items"]
    unit: Int[np.ndarray, " items"]
    leaves: Shaped[np.ndarray, " n"]
    fitted_on: Bool[np.ndarray, " n"]

    def read(self, site: str, span: str) -> Float[np.ndarray, "n d"]:
        """Activations as captured, at the precision of the store; means over prompts in double precision."""
        x = self.store.read(site, span)[self.order]
        x = x.reshape(len(x), -1)
        return x if len(self.leaves) == len(x) else leaf_means(x, self.unit)[0]

    def only(self, leaves: Sequence[str]) -> "LeafRows":
        """The rows of these leaves."""
        members = np.isin(self.leaves, list(leaves))
        items = members[self.unit]
        unit = np.unique(self.unit[items], return_inverse=True)[1]
        return LeafRows(self.store, self.order[items], unit, self.leaves[members], self.fitted_on[members])


def leaf_rows(stores: Mapping[str, ActivationStore], held_out: Iterable[str] = ()) -> dict[str, LeafRows]:
    """The rows of each store, restricted to the leaves that all of them have, sorted by leaf and picture.

    Statistics of treatments come from rows of leaves that are not `held_out`, from all rows if none is left.

    Raises:
        MismatchError: the stores share no leaf.
    """
    by_store = {}
    for name, store in stores.items():
        keys = [
            (str(leaf), str(picture))
            for leaf, picture in zip(store.columns["leaf"], store.columns["picture"])
        ]
        names = sorted(set(keys))
        places = {key: place for place, key in enumerate(names)}
        unit = np.array([places[key] for key in keys])
        ids = np.asarray(store.item_ids, dtype=str)
        order = np.lexsort((ids, unit))
        leaves = np.array([leaf for leaf, _ in names])
        seen = ~np.isin(leaves, list(held_out))
        fitted_on = seen if seen.any() else np.ones(len(leaves), dtype=bool)
        by_store[name] = LeafRows(store, order, unit[order], leaves, fitted_on)
    shared = sorted(set.intersection(*(set(rows.leaves) for rows in by_store.values())))
    if not shared:
        raise MismatchError(
            f"the stores {', '.join(stores)} share no leaf: they are of different worlds; capture again"
        )
    return {name: rows.only(shared) for name, rows in by_store.items()}


def read_treated(
    sides: Mapping[str, tuple[LeafRows, str]], site: str, treatment: str
) -> dict[str, "TreatedRows"]:
    """Activations of each side (name → rows, span) at one site, under the treatment fitted to each.

    A dimension that is massive in one side is left out of all, so that inner products across them exist. A
    side whose rows are all equal, as those of a prompt's own tokens before the first block, is left out.
    """
    values = {name: rows.read(site, span) for name, (rows, span) in sides.items()}
    values = {name: x for name, x in values.items() if (x != x[:1]).any()}
    fitted = {name: fit_treatment(treatment, x[sides[name][0].fitted_on]) for name, x in values.items()}
    if not fitted:
        return {}
    dimensions = reduce(np.intersect1d, (one.kept for one in fitted.values()))
    return {name: TreatedRows(values[name], replace(fitted[name], kept=dimensions)) for name in values}


@dataclass(frozen=True)
class TreatedRows:
    """Rows at one site with the treatment that they are to be seen under."""

    values: Float[np.ndarray, "n d"]
    treatment: Treatment

    def parts(self) -> Iterator[Float[np.ndarray, "chunk k"]]:
        """A few rows at a time, under the treatment; the whole never exists in double precision."""
        for start in range(0, len(self.values), _CHUNK):
            yield self.treatment(self.values[start : start + _CHUNK])

    def whole(self) -> Float[np.ndarray, "n k"]:
        """All rows under the treatment."""
        return self.treatment(self.values)


def span_pairs(
    images: Sequence[str], texts: Sequence[str], asked: Sequence[str] | None = None
) -> list[tuple[str, str, str]]:
    """(name, span of picture rows, span of text rows) of each place; "" where rows of text have no such place.

    The place of the picture, in text of the noun, is named "slot". With `asked`, these places only. Without picture
    rows, the places are those of text rows.

    Raises:
        KeyError: an asked place is not in the stores.
    """
    pairs = [] if images else [(span, "", span) for span in texts]
    for span in images:
        twin = span if span in texts else _TWIN.get(span, "")
        twin = twin if twin in texts else ""
        pairs.append(("slot" if twin and twin != span else span, span, twin))
    known = [name for name, _, _ in pairs]
    if missing := [span for span in asked or () if span not in known]:
        raise KeyError(f"no span {missing[0]!r} in these stores; they have {', '.join(known)}")
    return [pair for pair in pairs if asked is None or pair[0] in asked]


def disagreements(
    rows: pd.DataFrame, treatments: Sequence[str], share: float = 0.25, default: str = TREATMENTS[0]
) -> list[str]:
    """Lines on where each treatment gives another value than the default one: one measure of one modality.

    Another means: apart by more than `share` of the largest value under the default treatment.
    """
    wide = rows.pivot(index=["step", "span", "site"], columns="treatment", values="value").reset_index()
    lines = []
    for name in (name for name in treatments if {name, default} <= set(wide)):
        gap = (wide[default] - wide[name]).abs()
        bar = share * wide[default].max()
        if not (gap > bar).any():
            lines.append(f"  {name} and {default} rows agree to {bar:.2f} everywhere")
            continue
        most = wide.to_dict("records")[int(np.nanargmax(gap.to_numpy()))]
        lines.append(
            f"  {name} and {default} rows DISAGREE by over {bar:.2f} at {(gap > bar).sum()} of {len(gap)} places, most "
            f"at {step_text(most['step'])}{most['span']}, {most['site']}: {most[name]:.2f} {name}, "
            f"{most[default]:.2f} {default}"
        )
    return lines


def places(
    images: Mapping[int, ActivationStore], text: ActivationStore | None, asked: Sequence[str] | None = None
) -> list[tuple[str, str, str]]:
    """The places of some stores, as `span_pairs` gives them; all steps have the same.

    Raises:
        KeyError: an asked place is not in the stores.
        ValueError: a store holds the tokens of a place one by one.
    """
    first = next(iter(images.values()), None)
    pairs = span_pairs(first.spans if first else (), text.spans if text else (), asked)
    for side, store in enumerate((first, text), start=1):
        spans = [pair[side] for pair in pairs if pair[side]]
        if store is not None and (tokens := [span for span in spans if store.pooling[span] == "all"]):
            raise ValueError(
                f"a store holds the tokens of span {tokens[0]!r} one by one, where one row an item is needed: name "
                "other places with --span, or a capture in which that span is a mean or last"
            )
    return pairs


@dataclass(frozen=True)
class Captures:
    """Stores that are read together: those of one run, or of none.

    Attributes:
        images: of picture rows, by step of training.
        text: of the same prompts with the leaf's name in place of the picture, where they were captured.
    """

    images: Mapping[int, ActivationStore]
    text: ActivationStore | None

    @property
    def last(self) -> ActivationStore:
        """The picture rows of the last of these steps; the rows of text where there are none."""
        store = self.images[max(self.images)] if self.images else self.text
        assert store is not None
        return store


def captures(source: RunOrStores, steps: Sequence[int] = (), spans: Sequence[str] | None = None) -> Captures:
    """The stores of a run, or those given in place of one, at these steps (none: all); their activations are not read.

    Raises:
        FileNotFoundError: nothing was captured, or not at one of these steps.
        KeyError: one of `spans` is not a place in these stores, or no store of one of the steps was given.
        MismatchError: rows of pictures and of text share no place.
        ValueError: a store holds the tokens of a place one by one.
    """
    if isinstance(source, Stores):
        found = Captures(source.at(steps), source.text)
    elif not source.steps:
        raise FileNotFoundError(
            f"{source.path} has no captured step; `python -m taxogen train --run {source.path}` captures"
        )
    else:
        images = {step: source.store(step) for step in steps or source.steps}
        found = Captures(images, source.store(None, "text") if source.captured(None) else None)
    for images in [{step: store} for step, store in found.images.items()] or [{}]:
        places(images, found.text, spans)
    if found.text is not None and found.images:
        pictures, words = found.last, found.text
        if not any(twin for _, _, twin in span_pairs(pictures.spans, words.spans)):
            raise MismatchError(
                f"no span of {pictures.path} ({', '.join(pictures.spans)}) is one of {words.path} "
                f"({', '.join(words.spans)}): name them alike, or `image` and `noun` where picture and word stand"
            )
    return found
