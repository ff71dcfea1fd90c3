"""The image token of an exported checkpoint: a token id that no text has, and its row of the embedding table."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerBase

NAMES = ("<image>", "<|image|>", "<|picture|>")


@dataclass(frozen=True)
class PictureToken:
    """A tokenizer that knows the image token.

    Attributes:
        tokenizer: that of the language model, and the image token.
        text: how the token is written.
        id: its id.
        instead_of: the special token whose id it has, or empty.
    """

    tokenizer: PreTrainedTokenizerBase
    text: str
    id: int
    instead_of: str = ""


def with_picture_token(
    tokenizer: Any, rows: int, texts: Collection[str], used: Collection[int], folder: Path
) -> PictureToken:
    """The tokenizer, written to a folder and read again, with an image token that changes the ids of no text.

    Its id is one that the embedding table has a row for but the tokenizer no token, or else that of the last special
    token that has no part in any prompt, which is renamed, or else one more than there are rows.

    Args:
        tokenizer: of the language model.
        rows: of its embedding table.
        texts: of prompts; the image token is written as none of them has it.
        used: ids that are not to be taken.
        folder: that of the checkpoint.
    """
    taken = tokenizer.get_vocab()
    text = next(name for name in NAMES if name not in taken and not any(name in one for one in texts))
    tokenizer.save_pretrained(folder)
    spare = _spare(tokenizer, used) if len(tokenizer) >= rows and tokenizer.is_fast else None
    if spare is not None:
        instead_of = str(tokenizer.added_tokens_decoder[spare])
        for path in folder.glob("*.json"):
            written = path.read_text(encoding="utf-8")
            for ascii_only in (True, False):
                old = json.dumps(instead_of, ensure_ascii=ascii_only)
                written = written.replace(old, json.dumps(text))
            path.write_text(written, encoding="utf-8")
        return PictureToken(_read(folder), text, spare, instead_of)
    own = _read(folder)
    own.add_tokens([AddedToken(text, special=True, normalized=False)])
    return PictureToken(own, text, own.convert_tokens_to_ids(text))


def _spare(tokenizer: Any, used: Collection[int]) -> int | None:
    """The last special token without a role of its own, and outside the chat template; None where there is none."""
    roles, template = {*tokenizer.special_tokens_map.values()}, tokenizer.chat_template or ""
    known = [
        number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special and number not in used and str(token) not in roles and str(token) not in template
    ]
    return max(known, default=None)


def _read(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, padding_side="left")  # as `generate` wants it
