"""Spans of rows with pictures, found in the token ids that the model's own processor made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from probing.spans import CharRange, tokens_in

_BEFORE, _AFTER = "aaa", "zzz"


def picture_mark(processor: Any) -> str:
    """The text that stands for a picture in a prompt, with what the chat template puts around it.

    `<image>` for LLaVA, `<|vision_start|><|image_pad|><|vision_end|>` for Qwen2-VL.

    Raises:
        ValueError: the processor names no token that stands for a picture.
    """
    token = getattr(processor, "image_token", None)
    if not token:
        raise ValueError(f"{type(processor).__name__} names no token that stands for a picture in a text")
    if getattr(processor, "chat_template", None):
        content = [{"type": "text", "text": _BEFORE}, {"type": "image"}, {"type": "text", "text": _AFTER}]
        try:
            prompt = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        except (TypeError, TemplateError):  # a template of messages that are texts
            return str(token)
        inside = prompt.partition(_BEFORE)[2].partition(_AFTER)[0].strip()
        if inside.count(token) == 1:
            return inside
    return str(token)


def picture_token(processor: Any) -> int:
    """The id that stands once for each of a picture's embeddings in the ids that a processor makes."""
    ids = list(getattr(processor, "image_token_ids", None) or ())
    own = getattr(processor, "image_token_id", None)
    return own if own is not None and (own in ids or not ids) else ids[0]


def picture_spans(
    inputs: Mapping[str, Any],
    processor: Any,
    texts: Sequence[str],
    ranges: Sequence[Mapping[str, CharRange]] | None = None,
    *,
    image_token: int | None = None,
    tiles: bool = False,
) -> dict[str, list[tuple[int, ...]]]:
    """Span → for each row its positions in the padded sequence, as `CaptureBatch` takes them.

    Every row has `image`, the places of its picture's embeddings, and `last`. Padding may be on either side.

    Args:
        inputs: what the processor made: `processor(text=texts, images=…, padding=True, return_tensors="pt")`.
        processor: of the model; its tokenizer is a fast one.
        texts: the prompts that the processor was given, a picture's token once for each picture.
        ranges: for each row span → (start, end) in characters of its text, such as `probing.spans.word_range` gives.
        image_token: the id of a picture's embeddings; that of the processor by default.
        tiles: adds `image.0`, `image.1` …: the runs of picture tokens that separators divide (tiles, rows of tiles,
            pictures).

    Raises:
        ValueError: a row has no picture token, or its text and its ids do not fit together.
    """
    token = picture_token(processor) if image_token is None else image_token
    masks = inputs.get("attention_mask")
    rows = []
    for number, text in enumerate(texts):
        ids = inputs["input_ids"][number].tolist()
        real = list(range(len(ids))) if masks is None else masks[number].nonzero()[:, 0].tolist()
        wanted = ranges[number] if ranges else {}
        row = _row([ids[at] for at in real], processor, text, wanted, token)
        if tiles:
            row |= {f"image.{at}": run for at, run in enumerate(runs(row["image"]))}
        rows.append({name: tuple(real[at] for at in places) for name, places in row.items()})
    if len({frozenset(row) for row in rows}) > 1:
        raise ValueError(f"rows have different spans: {sorted({tuple(sorted(row)) for row in rows})}")
    return {name: [row[name] for row in rows] for name in rows[0]}


def runs(positions: Sequence[int]) -> list[tuple[int, ...]]:
    """Positions in runs without a gap.

    >>> runs([3, 4, 7, 8, 9])
    [(3, 4), (7, 8, 9)]
    """
    cuts = [at + 1 for at, (a, b) in enumerate(pairwise(positions)) if b != a + 1]
    return [tuple(positions[a:b]) for a, b in pairwise([0, *cuts, len(positions)])]


def _row(
    ids: Sequence[int], processor: Any, text: str, ranges: Mapping[str, CharRange], token: int
) -> dict[str, tuple[int, ...]]:
    """The spans of one row without padding."""
    image = tuple(at for at, id in enumerate(ids) if id == token)
    if not image:
        raise ValueError(
            f"the processor's ids hold no picture token (id {token}): the model expands pictures by itself, and their "
            "places are not known; give image_token=…, or capture text only"
        )
    spans = {"image": image, "last": (len(ids) - 1,)}
    if not ranges:
        return spans
    encoded = processor.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    mark = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    places = _placed(encoded["input_ids"], list(ids), mark, token)
    for name, span in ranges.items():
        own = tokens_in(encoded["offset_mapping"], span, name)
        if lost := [at for at in own if not places[at]]:
            raise ValueError(
                f"span {name!r} holds the characters {encoded['offset_mapping'][lost[0]]} of {text!r}, which "
                f"{type(processor).__name__} joins with what it puts around a picture: leave them out of the span"
            )
        spans[name] = tuple(at for place in own for at in places[place])
    return spans


def _placed(own: Sequence[int], ids: list[int], mark: int, token: int) -> list[tuple[int, ...]]:
    """For each token of a text, in which a mark stands for a picture, its places among the expanded ids.

    None of them, where the processor made other tokens next to a picture. The first tokens of the text may stand
    behind special tokens, the last ones before them.
    """
    marks = [at for at, id in enumerate(own) if id == mark]
    places: list[tuple[int, ...]] = [()] * len(own)
    image = [at for at, id in enumerate(ids) if id == token]
    first, last = own[: marks[0]] if marks else own, own[marks[-1] + 1 :] if marks else []
    start = next((at for at in range(image[0] + 1) if ids[at : at + 1] == list(first[:1])), 0)
    for at, id in enumerate(first):
        if start + at >= image[0] or ids[start + at] != id:
            break
        places[at] = (start + at,)
    stop = next(
        (at for at in range(len(ids), image[-1], -1) if ids[at - 1 : at] == list(last[-1:])), len(ids)
    )
    for back, id in enumerate(reversed(last), 1):
        if stop - back <= image[-1] or ids[stop - back] != id:
            break
        places[len(own) - back] = (stop - back,)
    at = image[0]
    for mine, following in pairwise([*marks, len(own)]):
        between = list(own[mine + 1 : following])
        end = len(ids)
        if following < len(own):
            end = next(
                (e for e in range(at + 1, len(ids)) if between and ids[e : e + len(between)] == between), -1
            )
            if end < 0:
                return places  # this picture's tokens and the next one's cannot be told apart
            places[mine + 1 : following] = [(end + k,) for k in range(len(between))]
        places[mine] = tuple(place for place in image if at <= place < end)
        at = end + len(between)
    return places
