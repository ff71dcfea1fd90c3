"""Sample pictures with what a model calls them and where they stand for their hypernyms."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyses.report.told import Told
from probing.stats.seeding import stream
from taxogen.world import pictures

SAMPLES, HIGHEST, SIDE = 10, 3, 96


@dataclass(frozen=True)
class Seen:
    """What a model answers about a picture.

    Attributes:
        called: the name that it gives it.
        right: whether that is its name.
        true: each hypernym that it has → the share of pictures without it that stand lower.
        highest: the hypernyms for which it stands highest, best first, and whether it has them.
    """

    called: str
    right: bool
    true: Sequence[tuple[str, float]]
    highest: Sequence[tuple[str, bool]]


@dataclass(frozen=True)
class Sample:
    """A test picture with its leaf, and what a model of each condition answers; None where it was not asked."""

    picture: str
    leaf: str
    seen: Sequence[Seen | None]


def unshuffled(of: Sequence[Told]) -> list[Told]:
    """The conditions in which pictures have their own names."""
    return [told for told in of if told.run.config.data.shuffle == "none" and told.run.closed]


def samples(of: Sequence[Told]) -> list[Sample]:
    """Some test pictures of different leaves, drawn by seed, with the answers of every condition in `of`."""
    if not of:
        return []
    first = of[0]
    shown, collection = first.answers.scores.image, first.pictures
    order = stream(first.run.config.seed, "samples").permutation(len(shown))
    chosen = shown.iloc[order].drop_duplicates("leaf").head(SAMPLES)
    return [
        Sample(inline(collection, str(picture)), str(leaf), [seen(told, str(picture)) for told in of])
        for picture, leaf in zip(chosen["picture"], chosen["leaf"], strict=True)
    ]


def seen(told: Told, picture: str) -> Seen | None:
    """What the first run of a condition answers about a picture; None where it was not asked."""
    answers = told.answers
    (rows,) = np.nonzero(answers.scores.image["picture"].to_numpy(str) == picture)
    if not len(rows):
        return None
    row, hypernyms = int(rows[0]), answers.scores.hypernyms
    share, having = told.standing[row], told.labels[row]
    order = [at for at in np.argsort(-share, kind="stable") if not np.isnan(share[at])]
    return Seen(
        called=str(told.called[row]),
        right=bool(told.called[row] == answers.leaves[row]),
        true=[(hypernyms[at], float(share[at])) for at in np.flatnonzero(having)],
        highest=[(hypernyms[at], bool(having[at])) for at in order[:HIGHEST]],
    )


def inline(collection: pictures.Pictures, name: str) -> str:
    """A small picture as a data URI."""
    image = collection.open_or_blank(name)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return data_uri(buffer.getvalue(), "webp")


def data_uri(data: bytes, kind: str) -> str:
    """An image inside a page."""
    return f"data:image/{kind};base64,{b64encode(data).decode()}"
