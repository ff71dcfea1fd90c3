"""Rows: tokenised stimuli, with a mark where the image tokens go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from taxogen.questions import prompts

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
        slot = {name: self.spans[name] for name in prompts.SPAN_OF_SLOT.values() if name in self.spans}
        return Row(self.item_id, self.ids[:stop], stop, slot, self.picture)


def common_prefix(rows: Sequence[Row]) -> tuple[int, ...]:
    """The longest run of tokens that all rows start with and that lies before every named span."""
    first, last = min(row.ids for row in rows), max(row.ids for row in rows)
    limit = min(position for row in rows for span in row.spans.values() for position in span)
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return first[:length]
