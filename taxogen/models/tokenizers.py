"""Tokenizers: the ids of a text that is given in pieces, and the identity of what decides them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedTokenizerBase

from taxogen.models.weights import text_hash

ANCHOR = "\n"
"""A text before a piece, so that the piece is not taken for the start of a text."""

VOLATILE = ("padding", "truncation", "version")
"""Of the backend's JSON: what a call sets and leaves behind, and the format of the file."""

TURN_MARKERS = frozenset({"<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|user|>", "<|turn|>"})
"""Tokens that chat templates open every turn with; no model was trained on plain documents that begin with one."""
_DOCUMENT_SEPARATOR = "<|endoftext|>"


def opening(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The ids of a text as the first of several pieces, with no special token added."""
    return tuple(tokenizer(text, add_special_tokens=False).input_ids) if text else ()


def following(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The ids of a text that stands behind others, with no special token added.

    Tokenizers such as Llama's put a space before every text that they are given; behind an `ANCHOR` they do not.

    Raises:
        ValueError: the tokenizer joins the anchor with the text.
    """
    alone = opening(tokenizer, text)
    if not text or opening(tokenizer, " a")[-1:] == opening(tokenizer, " a"):
        return alone
    anchor, whole = opening(tokenizer, ANCHOR), opening(tokenizer, ANCHOR + text)
    if whole[: len(anchor)] != anchor:
        raise ValueError(
            f"{type(tokenizer).__name__} joins {text!r} with the line before it: a prompt in pieces is not read as a "
            "whole one; use a language model with another tokenizer"
        )
    return whole[len(anchor) :]


def start_token_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token that plain text follows in training; None for a model without one.

    This is the tokenizer's `bos_token`, except where that is a chat template's turn marker: SmolLM2-Instruct
    names `<|im_start|>`, yet the documents it was pretrained on begin after `<|endoftext|>`.
    """
    token = tokenizer.bos_token
    if token in TURN_MARKERS:
        token = _DOCUMENT_SEPARATOR
    return None if token is None else tokenizer.get_vocab().get(str(token))


def lost(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> dict[str, str]:
    """The texts that their tokens do not give back, each with the text that its tokens give."""
    back = {text: str(tokenizer.decode(list(opening(tokenizer, text)))) for text in texts}
    return {text: given for text, given in back.items() if given != text}


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """First 16 hex digits of the SHA-256 of what decides the ids of a text and of a chat.

    Normaliser, pre-tokeniser, vocabulary with merges or scores, post-processor, added and special tokens, chat
    template. Padding, truncation, file names and the use of the tokenizer leave it as it is.
    """
    identity = {
        "pipeline": _backend(tokenizer) if tokenizer.is_fast else _slow(tokenizer),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "split_special": tokenizer.split_special_tokens,
        "template": tokenizer.chat_template,
    }
    return text_hash(identity)[:16]


def _backend(tokenizer: Any) -> dict[str, Any]:
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in content.items() if key not in VOLATILE}


def _slow(tokenizer: Any) -> dict[str, Any]:
    """Class, switches, ids, and the vocabulary's files (with merges or scores) of a tokenizer written in Python."""
    with TemporaryDirectory() as folder:
        tokenizer.save_vocabulary(folder)
        files = {path.name: path.read_bytes().hex() for path in Path(folder).iterdir()}
    return {
        "class": type(tokenizer).__name__,
        "switches": {name: value for name, value in tokenizer.init_kwargs.items() if isinstance(value, bool)},
        "ids": tokenizer.get_vocab(),
        "added": {id: repr(token) for id, token in tokenizer.added_tokens_decoder.items()},
        "files": files,
    }
