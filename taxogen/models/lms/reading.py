"""Reading: how well a language model reads ten English sentences, and whether that is better than noise."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from taxogen.models import tokenizers

FILE = "reading.json"
SENTENCES = (
    "The train was late again, so we waited on the platform and drank some coffee.",
    "My grandmother planted three apple trees behind the house when she was young.",
    "If you mix yellow and blue paint, you will get a shade of green.",
    "The committee will meet on Tuesday to decide how the money should be spent.",
    "Rain had fallen all night, and in the morning the streets were full of water.",
    "She opened the window because the room was too warm to sleep in.",
    "Scientists have known for a long time that the earth moves around the sun.",
    "He put the letter back into the envelope and left it on the kitchen table.",
    "In the winter the days are short, and many people stay at home in the evening.",
    "The book was so good that I read it twice before I gave it back to the library.",
)
WORD_FREQUENCIES = 2.14 * math.log(2)
"""Nats a character of who knows how frequent each English word is, and nothing of the words before it.

Source: Shannon 1951, "Prediction and entropy of printed English": 11.82 bits a word, 2.14 a letter with the space.
"""
AGAIN = 0.5
"""Largest share of its nats a token that a sentence may have when it is read a second time right behind itself."""


@dataclass(frozen=True)
class Reading:
    """What a language model pays for the sentences, without their first tokens.

    Attributes:
        nats_per_token: mean negative log-likelihood.
        nats_per_character: the same for each character: tokens of one tokenizer are longer than those of another.
        again: nats a token of each sentence right behind itself.
        start: the token that sentences are read after; empty: none.
        other_start: the alternative: none, or the one that the file names and does not add.
        nats_after_other: nats a token after that; None where there is no alternative.
    """

    nats_per_token: float
    nats_per_character: float
    again: float
    start: str
    other_start: str = ""
    nats_after_other: float | None = None

    @property
    def is_noise(self) -> bool:
        """Whether frequencies of words read as well, or text that was just read is still far from expected.

        Random weights and wrong norms fail the first. Attention that is put together wrongly can pass it, since
        most of a short sentence is grammar of neighbours, but it cannot look up what followed a word before.
        """
        readable = self.nats_per_character < WORD_FREQUENCIES
        return not (readable and self.again <= AGAIN * self.nats_per_token)

    def __str__(self) -> str:
        text = (
            f"{self.nats_per_token:.2f} nats a token ({self.nats_per_character:.2f} a character) for ten sentences of "
            f"English after {self.start or 'no start token'}, {self.again:.2f} for each right behind itself"
        )
        if self.nats_after_other is None:
            return text
        return f"{text}; {self.nats_after_other:.2f} after {self.other_start or 'no start token'}"

    def write(self, folder: Path, **provenance: Any) -> None:
        """Keeps it beside the model, with what else is known of it."""
        content = json.dumps({**asdict(self), **provenance}, indent=2, ensure_ascii=False)
        (folder / FILE).write_text(content, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Reading:
        """That of a converted model's folder."""
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})


def read(model: PreTrainedModel, tokenizer: Any, start: int | None, other: int | None) -> Reading:
    """How a model reads the sentences after a start token, or after none.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its own.
        start: the token that texts are scored after.
        other: another one to compare with; the same one: there is nothing to compare with.
    """
    texts = [tokenizers.opening(tokenizer, sentence) for sentence in SENTENCES]
    characters = sum(len(tokenizer.decode(ids[1:])) for ids in texts)
    once, again = zip(*(_nats(model, start, ids) for ids in texts), strict=True)
    tokens = sum(len(ids) - 1 for ids in texts)
    after_other = None
    if other != start:
        after_other = sum(_nats(model, other, ids)[0] for ids in texts) / tokens
    return Reading(
        sum(once) / tokens,
        sum(once) / characters,
        sum(again) / tokens,
        _name(tokenizer, start),
        _name(tokenizer, other),
        after_other,
    )


def _nats(model: PreTrainedModel, start: int | None, ids: tuple[int, ...]) -> tuple[float, float]:
    """Nats of a text but for its first token, and of the same tokens when the text stands right behind itself."""
    before = () if start is None else (start,)
    row = torch.tensor([[*before, *ids, *ids]], device=model.device)
    with torch.inference_mode():
        logits = model(row).logits[0, :-1].float()
    nats = torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="none")
    last, rest = len(before) + len(ids) - 1, len(ids) - 1
    return nats[last - rest : last].sum().item(), nats[-rest:].sum().item()


def _name(tokenizer: Any, start: int | None) -> str:
    return "" if start is None else str(tokenizer.convert_ids_to_tokens(start))
