"""Rows: tokenised stimuli, with a mark where the image tokens go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from probing.sites import SPAN_OF_SLOT
from taxogen.questions import prompts
from taxogen.questions.prompts import Segments

IMAGE = -1  # stands in a row's ids where a projected picture token goes


@dataclass(frozen=True)
class Row:
    """One tokenised stimulus: ids with IMAGE where the picture goes, where the answer starts, its named spans."""

    item_id: str
    ids: tuple[int, ...]
    answer: int  # index of the first answer token; ids[:answer] is the prompt
    spans: Mapping[str, tuple[int, ...]]
    picture: int = -1  # row of the feature table; -1 for a text row

    @property
    def prompt(self) -> Row:
        """The same row without its answer."""
        return replace(self, ids=self.ids[: self.answer])

    @property
    def without_last(self) -> Row:
        """The same row without its last token, after which nothing is predicted."""
        return replace(self, ids=self.ids[:-1])

    @property
    def before_cue(self) -> Row:
        """The same row up to the end of its slot: the part that questions about one subject share."""
        stop = self.spans["cue"][0]
        slot = {name: self.spans[name] for name in SPAN_OF_SLOT.values() if name in self.spans}
        return Row(self.item_id, self.ids[:stop], stop, slot, self.picture)


@dataclass(frozen=True)
class Speller:
    """What makes rows of prompts: a tokenizer, and the number of tokens of a picture; no weights.

    Attributes:
        tokens: the token ids of a piece of text that stands behind others, with no special token added.
        start: what every row begins with: the start token, where there is one.
        end: the id of the end token, which follows the answer of a prompt without an end of its own.
        image_tokens: of a picture.
        opening: the token ids of a piece with which a row begins; `tokens` unless given.
    """

    tokens: Callable[[str], tuple[int, ...]]
    start: tuple[int, ...]
    end: int | None
    image_tokens: int
    opening: Callable[[str], tuple[int, ...]] | None = None

    def row(
        self, item_id: str, segments: Segments, picture: int = -1, slot: tuple[int, ...] | None = None
    ) -> Row:
        """A prompt and its answer as token ids; the picture (or the slot's words) between `before` and `after`.

        `slot` are the ids of a picture, where separators stand among its tokens.
        """
        first = (self.opening or self.tokens)(segments.before)
        before, after = (*self.start, *first), self.tokens(segments.after)
        if segments.image_at == "after_first_token":
            text = (*before, *after)
            before, after = text[:1], text[1:]
        if slot is None:
            slot = (IMAGE,) * self.image_tokens if segments.slot is None else self.tokens(segments.slot)
        answer = self.tokens(segments.answer)
        if answer and not segments.end:
            answer = (*answer, cast(int, self.end))
        at = len(before) + len(slot)
        modality = "image" if segments.slot is None else "text"
        spans = {
            prompts.span_name("slot", modality): tuple(
                place for place, id in enumerate(slot, len(before)) if id == IMAGE or modality == "text"
            ),
            "cue": tuple(range(at, at + len(after))),
            "last": (at + len(after) - 1,),
        }
        return Row(item_id, (*before, *slot, *after, *answer), at + len(after), spans, picture)


def common_prefix(rows: Sequence[Row]) -> tuple[int, ...]:
    """The longest run of tokens that all rows start with and that lies before every named span."""
    first, last = min(row.ids for row in rows), max(row.ids for row in rows)
    limit = min(position for row in rows for span in row.spans.values() for position in span)
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return first[:length]
