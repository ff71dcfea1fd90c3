"""Vocabulary of a GGUF file: whether its tokenizer gives texts back, and the token that documents begin with."""

from __future__ import annotations

from importlib import resources
from typing import Any

from transformers import PreTrainedTokenizerFast

from probing.store import MismatchError
from taxogen.models import tokenizers
from taxogen.models.lms.gguf_file import GgufFile
from taxogen.models.lms.reading import SENTENCES
from taxogen.world.taxonomy import Taxonomy

_OTHERS = (
    "café, naïve, Ærøskøbing",
    "крокодил",
    "茶とお菓子",
    "ñandú 🦊",
    "1, 22 and 4096",
    "two  spaces\nnew line",
)


def require_whole(tokenizer: Any, file: GgufFile) -> None:
    """Refuses a tokenizer that is not that of the embedding table, or that loses a name or a text.

    Texts are the sentences, all names of the bundled taxonomy, and a few with letters and signs of other scripts.

    Raises:
        MismatchError: there are more tokens than embeddings, or fewer.
        ValueError: a text does not come back, or begins with a space where the file declares none.
    """
    rows = file.shapes.get("token_embd.weight", (0,))[0]
    entries = file.tokenizer("tokens")
    # Without the special tokens that a class puts in by itself, such as a mask, which no text has.
    largest = max(tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False).values())
    if entries != rows or largest >= rows:
        raise MismatchError(
            file.refusal(
                f"it has {entries} tokens with ids up to {largest} and embeddings of {rows}: tokenizer and weights are "
                "of two models. Get another file"
            )
        )
    if lost := tokenizers.lost(tokenizer, (*SENTENCES, *_bundled_names(), *_OTHERS)):
        text, back = next(iter(lost.items()))
        raise ValueError(
            file.refusal(
                f"its tokenizer does not give back {len(lost)} texts of those tried, such as {text!r}: {back!r}. Get "
                "another file, or give the model's folder as save_pretrained wrote it"
            )
        )
    spaced = tokenizer.convert_ids_to_tokens(tokenizers.opening(tokenizer, "crow"))[0].startswith("▁")
    if spaced and file.tokenizer("add_space_prefix") is False:
        raise ValueError(
            file.refusal(
                "it declares no space before a text, and transformers' tokenizer puts one: give the model's folder as "
                "save_pretrained wrote it"
            )
        )


def started(tokenizer: Any, file: GgufFile) -> tuple[PreTrainedTokenizerFast, int | None, int | None]:
    """The tokenizer by its parts alone, the token that texts are scored after, and another to compare with.

    The file's start token, unless the file declares that none is added. Where it names a chat template's turn marker,
    `start_token_id` decides, as for the same model from a hub.

    Raises:
        MismatchError: the tokenizer has another start token than the file declares.
    """
    named, chosen = file.tokenizer("bos_token_id"), tokenizers.start_token_id(tokenizer)
    added = file.tokenizer("add_bos_token") is not False
    marks_turns = tokenizer.bos_token in tokenizers.TURN_MARKERS
    if named is not None and chosen != named and not marks_turns:
        raise MismatchError(
            file.refusal(
                f"its start token is {named}, and the tokenizer's {tokenizer.bos_token!r} is {chosen}: get another file"
            )
        )
    special = dict(tokenizer.special_tokens_map)
    start = chosen if added or marks_turns else None
    if start is None:
        special.pop("bos_token", None)
    # Classes of single models rebuild their parts when they are loaded, and put default special tokens in.
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, chat_template=tokenizer.chat_template, **special
    )
    return whole, start, chosen if start is None else None


def _bundled_names() -> tuple[str, ...]:
    with resources.as_file(resources.files("taxogen") / "data" / "taxonomy.csv") as path:
        taxonomy = Taxonomy.read(path)
    return (*taxonomy.leaves, *taxonomy.hypernyms)
