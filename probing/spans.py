"""Spans: named runs of tokens, found by their characters, right under padding, pictures, shared prefixes.

A row is a sequence of token ids with named positions in it. Positions first count in the row alone; `collate`
moves them to where the tokens are in the padded batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from probing.hooks.sequences import has_own_positions

CharRange = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """Token ids of one prompt, and for each span the positions of its tokens among them.

    >>> row = Row((1, 7, 8, 9), {"noun": (1, 2), "last": (3,)})
    >>> [row.ids[position] for position in row.spans["noun"]]
    [7, 8]
    """

    ids: tuple[int, ...]
    spans: Mapping[str, tuple[int, ...]]


def word_range(text: str, word: str, occurrence: int | None = None) -> CharRange:
    """Where a whole word, or several, stands in a text: the characters from start to before end.

    >>> word_range("A crow is a kind of", "crow")
    (2, 6)

    Args:
        text: the prompt.
        word: the word; letter case counts.
        occurrence: which one if there are several, from 0, or from -1 at the end.

    Raises:
        ValueError: the word does not occur, or occurs several times and `occurrence` does not choose.
    """
    places = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)]
    if not places:
        raise ValueError(f"the word {word!r} does not occur in {text!r}")
    if occurrence is None and len(places) > 1:
        raise ValueError(
            f"the word {word!r} occurs {len(places)} times in {text!r}; say which with `occurrence`"
        )
    try:
        return places[occurrence or 0]
    except IndexError:
        raise ValueError(
            f"occurrence {occurrence} of {word!r} was asked for, {text!r} has {len(places)}"
        ) from None


def cue_range(text: str, end: int | None = None, words: int = 3) -> CharRange:
    """Where the last words before the answer stand; it starts at character `end`, or after the text.

    >>> text = "A crow is a kind of"
    >>> start, end = cue_range(text)
    >>> text[start:end]
    'a kind of'

    Raises:
        ValueError: there are fewer words.
    """
    end = len(text) if end is None else end
    places = [match.span() for match in re.finditer(r"\S+", text[:end])]
    if words < 1 or len(places) < words:
        raise ValueError(
            f"{words} words before character {end} were asked for, {text[:end]!r} has {len(places)}"
        )
    return places[-words][0], places[-1][1]


def encode(
    tokenizer: Any,
    text: str,
    ranges: Mapping[str, CharRange] | None = None,
    *,
    add_special_tokens: bool = True,
) -> Row:
    """The row of a text: its ids, the tokens that overlap each range of characters, and its `last` token.

    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> words = Tokenizer(models.WordLevel({"a": 0, "crow": 1, "flies": 2, "?": 3}, unk_token="?"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    >>> encode(tokenizer, "a crow flies", {"noun": (2, 6)})
    Row(ids=(0, 1, 2), spans={'noun': (1,), 'last': (2,)})

    Args:
        tokenizer: a fast Hugging Face tokenizer, which knows which characters a token covers.
        text: the prompt.
        ranges: span → (start, end) in characters.
        add_special_tokens: whether the tokenizer adds its own; they belong to no span but may be `last`.

    Raises:
        ValueError: no token overlaps a range, or the tokenizer knows no characters.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} cannot say which characters a token covers; load a fast tokenizer"
        )
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=add_special_tokens)
    offsets = encoded["offset_mapping"]
    spans = {name: tokens_in(offsets, span, name) for name, span in (ranges or {}).items()}
    return Row(tuple(encoded["input_ids"]), {**spans, "last": (len(offsets) - 1,)})


def tokens_in(offsets: Sequence[CharRange], span: CharRange, name: str = "") -> tuple[int, ...]:
    """The positions of the tokens that overlap a range of characters.

    >>> tokens_in([(0, 1), (1, 4), (4, 6)], (2, 5))
    (1, 2)

    Raises:
        ValueError: there is none.
    """
    start, end = span
    positions = tuple(
        i for i, (first, last) in enumerate(offsets) if first < last and first < end and last > start
    )
    if not positions:
        raise ValueError(f"no token overlaps the characters {start} to {end} of span {name!r}")
    return positions


def image_positions(ids: Sequence[int], image_token: int) -> tuple[int, ...]:
    """The positions of the picture tokens of a row whose placeholders are expanded already.

    >>> image_positions([1, 99, 99, 5], image_token=99)
    (1, 2)

    Raises:
        ValueError: there is none.
    """
    positions = tuple(i for i, token in enumerate(ids) if token == image_token)
    if not positions:
        raise ValueError(f"the row has no picture token (id {image_token}) among {len(ids)} tokens")
    return positions


def expand_images(row: Row, image_token: int, counts: Sequence[int], name: str = "image") -> Row:
    """The row with each placeholder repeated for all tokens of its picture, and a span of them all.

    Positions after a placeholder move; a span that holds a placeholder holds all of its tokens afterwards.

    >>> row = expand_images(Row((1, 99, 5), {"last": (2,)}), image_token=99, counts=[3])
    >>> row.ids, row.spans
    ((1, 99, 99, 99, 5), {'last': (4,), 'image': (1, 2, 3)})

    Args:
        row: a row with one placeholder a picture.
        image_token: the placeholder's id.
        counts: how many tokens each picture takes, in order.
        name: the name of the span of picture tokens.

    Raises:
        ValueError: placeholders and pictures differ in number.
    """
    placeholders = [i for i, token in enumerate(row.ids) if token == image_token]
    if len(placeholders) != len(counts):
        raise ValueError(
            f"the row has {len(placeholders)} picture placeholders, {len(counts)} pictures were given"
        )
    lengths = dict(zip(placeholders, counts))
    ids: list[int] = []
    places: list[tuple[int, ...]] = []
    for i, token in enumerate(row.ids):
        repeat = lengths.get(i, 1)
        places.append(tuple(range(len(ids), len(ids) + repeat)))
        ids += [token] * repeat
    spans = {span: tuple(p for i in held for p in places[i]) for span, held in row.spans.items()}
    return Row(tuple(ids), {**spans, name: tuple(p for i in placeholders for p in places[i])})


def shared_prefix(rows: Sequence[Row]) -> int:
    """How many first tokens all rows have in common, at least one token of each row left over.

    >>> shared_prefix([Row((1, 2, 3), {}), Row((1, 2, 4), {})])
    2
    """
    shortest = min(len(row.ids) for row in rows) - 1
    for i in range(shortest):
        if len({row.ids[i] for row in rows}) > 1:
            return i
    return shortest


def collate(
    rows: Sequence[Row],
    *,
    pad: int = 0,
    side: Literal["left", "right"] = "right",
    prefix: int = 0,
    model: nn.Module | None = None,
) -> tuple[dict[str, Tensor], dict[str, list[tuple[int, ...]]]]:
    """A model's inputs for padded rows, and the spans as positions in the sequence that it then sees.

    >>> inputs, spans = collate([Row((5, 6, 7), {"last": (2,)}), Row((5, 6), {"last": (1,)})], side="left")
    >>> inputs["input_ids"], spans
    (tensor([[5, 6, 7],
            [0, 5, 6]]), {'last': [(2,), (2,)]})

    Args:
        rows: rows with the same spans.
        pad: the id that fills up.
        side: where padding goes. Behind a shared prefix, left padding stands between it and the rest.
        prefix: how many first tokens, common to all rows, are given to the model separately; `input_ids` and
            `position_ids` then hold what follows, and `attention_mask` and the spans the whole sequence.
        model: gets no `position_ids` if it makes positions from pictures (M-RoPE). `capture` leaves positions that
            only count the tokens to any model; who calls `model(**inputs)` gives the model here.

    Raises:
        ValueError: the rows differ in their spans or in the prefix.
    """
    names = list(rows[0].spans)
    if any(set(row.spans) != set(names) for row in rows):
        raise ValueError(
            f"rows of a batch need the same spans, found {sorted({tuple(row.spans) for row in rows})}"
        )
    if len({row.ids[:prefix] for row in rows}) > 1:
        raise ValueError(f"the rows do not share their first {prefix} tokens")
    width = max(len(row.ids) for row in rows) - prefix
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros(len(rows), prefix + width, dtype=torch.long)
    mask[:, :prefix] = 1
    spans: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}
    for i, row in enumerate(rows):
        rest = torch.tensor(row.ids[prefix:])
        start = width - len(rest) if side == "left" else 0
        ids[i, start : start + len(rest)] = rest
        mask[i, prefix + start : prefix + start + len(rest)] = 1
        for name in names:
            spans[name].append(tuple(p + start if p >= prefix else p for p in row.spans[name]))
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model is None or not has_own_positions(model):
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)[:, prefix:]
    return inputs, spans


def with_span(row: Row, name: str, positions: Sequence[int]) -> Row:
    """The row with one more span, at positions that the caller knows.

    >>> with_span(Row((1, 2, 3), {}), "noun", [1, 2]).spans
    {'noun': (1, 2)}

    Raises:
        ValueError: a position is not in the row.
    """
    if any(not 0 <= p < len(row.ids) for p in positions):
        raise ValueError(f"span {name!r} has positions {list(positions)}, the row has {len(row.ids)} tokens")
    return replace(row, spans={**row.spans, name: tuple(positions)})
