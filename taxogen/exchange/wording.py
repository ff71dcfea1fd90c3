"""Wording: the chat template of an exported checkpoint, and the text by which its processor gives the ids of a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taxogen.models.rows import IMAGE, Row
from taxogen.questions.prompts import Segments

_JOIN = (
    "{%- set joined = namespace(messages=[]) -%}"
    "{%- for message in messages -%}"
    "{%- set own = namespace(text='') -%}"
    "{%- if message['content'] is string -%}{%- set own.text = message['content'] -%}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{%- set own.text = own.text + IMAGE -%}"
    "{%- else -%}{%- set own.text = own.text + part['text'] -%}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- set joined.messages = joined.messages + [dict(message, content=own.text)] -%}"
    "{%- endfor -%}"
    "{%- set messages = joined.messages %}"
)
"""Makes of each message's parts one text, with IMAGE where a picture stands."""
_PLAIN = "{{ START }}{% for message in messages %}{{ message['content'] }}{% endfor %}"


def chat_template(image: str, start: str, chat: str = "") -> str:
    """A template (Jinja) that writes messages as this run's rows are: in the language model's own, or as they are.

    Args:
        image: the image token.
        start: what a text begins with where there is no template of its own.
        chat: the template of the language model, or empty.
    """
    return _JOIN.replace("IMAGE", repr(image)) + (chat or _PLAIN.replace("START", repr(start)))


def ids_with(row: Row, image: int) -> list[int]:
    """The ids of a row's prompt with the image token where its picture stands."""
    return [image if one == IMAGE else one for one in row.prompt.ids]


def spelling(processor: Any, row: Row, worded: Segments, start: int | None, image: int) -> str | None:
    """The text that the processor reads as a row's prompt; None where none of those that are tried is.

    Args:
        processor: of the checkpoint.
        row: a question about a picture.
        worded: its texts.
        start: the id of the token that it begins with, which some tokenizers add by themselves.
        image: the id of the image token.
    """
    tokenizer, wanted = processor.tokenizer, ids_with(row, image)
    first = "" if start is None else tokenizer.convert_ids_to_tokens(start)
    bos = tokenizer.bos_token or ""
    for text in _texts(worded, processor.image_token, tokenizer, first):
        for tried in dict.fromkeys((text.removeprefix(bos), text, first + text)):
            if _ids(processor, tried, wanted.count(image)) == wanted:
                return tried
    return None


def _texts(worded: Segments, image: str, tokenizer: Any, start: str) -> Iterator[str]:
    """The prompt with the image token in its slot, or after its first token, which may be the start token."""
    if worded.image_at == "slot":
        yield worded.before + image + worded.after
        return
    text = worded.before + worded.after
    if start:
        yield start + image + text
        return
    head = tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids[:1])
    if text.startswith(head):
        yield head + image + text.removeprefix(head)


def _ids(processor: Any, text: str, pictures_tokens: int) -> Sequence[int]:
    """The ids of a text in which the image token stands once, for a picture of this number of tokens."""
    return processor.tokenizer(
        text.replace(processor.image_token, processor.image_token * pictures_tokens)
    ).input_ids
