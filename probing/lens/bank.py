"""Bank: the states of the tokens of many sentences at every asked site of a language model, on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probing.hooks import record
from probing.hooks.layouts import layout_of
from probing.hooks.provenance import weight_hash
from probing.store import MismatchError, records

VERSION = 1
SKIPPED = 2
"""Tokens at the start of a sentence that are left out: the first takes attention that goes nowhere."""
BATCH = 32
ROWS = 4096  # of a bank in memory at once


@dataclass(frozen=True)
class Bank:
    """States of tokens in sentences, of a file that `build_bank` wrote; read in pieces.

    >>> Bank(Path("bank.h5"), ("A crow",), np.array([[0, 2, 2, 6]]), ("hook_embed",)).texts
    ('crow',)

    Attributes:
        path: of the file.
        sentences: in the order of the text.
        places: of each token: its sentence, its position among the tokens, and its first and last + 1 character.
        sites: of which it holds states.
    """

    path: Path
    sentences: tuple[str, ...]
    places: Int[np.ndarray, "tokens 4"]
    sites: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The characters that each token stands for."""
        return tuple(self.sentences[at][first:last] for at, _, first, last in self.places.tolist())

    def pieces(self, site: str, rows: int = ROWS) -> Iterator[tuple[int, Float[Tensor, "rows width"]]]:
        """States at a site, some rows at a time, each with the number of the first.

        Raises:
            KeyError: the bank has no such site.
        """
        if site not in self.sites:
            raise KeyError(
                f"{self.path} has no states at {site}; it has {', '.join(self.sites)}: build it with {site}"
            )
        with h5py.File(self.path) as opened:
            states = opened["states"][site]  # pyright: ignore[reportIndexIssue]
            for start in range(0, len(self.places), rows):
                yield start, torch.from_numpy(states[start : start + rows])  # pyright: ignore


def read_sentences(path: Path) -> tuple[str, ...]:
    r"""The sentences of a text file, one a line; empty lines are left out.

    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "text.txt"
    >>> _ = path.write_text("A crow flew by.\n\nIt rained.\n")
    >>> read_sentences(path)
    ('A crow flew by.', 'It rained.')

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8, or has no sentence.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give a text file with a sentence in each line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8 text") from error
    sentences = tuple(line.strip() for line in lines if line.strip())
    if not sentences:
        raise ValueError(f"{path} has no sentence; give a text file with a sentence in each line")
    return sentences


def build_bank(
    path: Path,
    model: nn.Module,
    tokenizer: Any,
    sentences: Sequence[str],
    sites: Sequence[str],
    start: Sequence[int] = (),
) -> Bank:
    """Writes the bank of some sentences and gives it; a file of other sentences, sites or weights is refused.

    A file that is there already is compared and read. In a causal model a state depends on the tokens before it alone,
    so that a start that an earlier sentence has had is left out, with the first two tokens (`SKIPPED`).

    >>> from tempfile import mkdtemp
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> words = Tokenizer(models.WordLevel({"the": 0, "old": 1, "crow": 2, "left": 3}, unk_token="the"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    >>> sentences = ["the old crow left", "the old crow"]
    >>> bank = build_bank(Path(mkdtemp()) / "bank.h5", model, tokenizer, sentences, ["blocks.0.hook_resid_post"])
    >>> bank.texts
    ('crow', 'left')

    Args:
        path: of the file.
        model: a causal language model.
        tokenizer: its own, with character offsets (a "fast" one).
        sentences: of any text, see `read_sentences`.
        sites: names of sites whose states have the model's width.
        start: tokens that stand before each sentence, such as the one that documents begin with.

    Source: Krojer et al. 2026, arXiv:2602.00462 (LatentLens), and the authors' package `latentlens`, which leaves out
    the same tokens.

    Raises:
        ValueError: no sentence, one that is longer than the model's context, or none with a token to be stored.
        MismatchError: the file is the bank of another text, model, tokenizer or of other sites.
    """
    tokens, offsets = _tokenised(model, tokenizer, sentences, start)
    names = [str(site) for site in layout_of(model).select(list(sites))]
    made_from = {
        "version": VERSION,
        "text": _digest(sentences),
        "tokens": _digest(tokens),
        "model": weight_hash(model),
        "sites": names,
    }
    if not path.is_file():
        places = _places(tokens, offsets, len(start))
        if not places:
            raise ValueError(
                f"{len(sentences)} sentences have no token behind their first {SKIPPED}; give longer ones"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write(path, lambda part: _write(part, model, tokens, places, names), made_from)
    return _open(path, tuple(sentences), made_from)


def _open(path: Path, sentences: tuple[str, ...], expected: Mapping[str, Any]) -> Bank:
    found = records.made_from(path, "remove it, and it is built again") or {}
    for what, value in expected.items():
        if found.get(what) != value:
            raise MismatchError(
                f"{path} is the bank of another {what} ({_short(found.get(what))}, here {_short(value)}); "
                "give another path, or remove it"
            )
    with h5py.File(path) as opened:
        places = opened["places"][:]  # pyright: ignore[reportIndexIssue]
    return Bank(path, sentences, np.asarray(places), tuple(expected["sites"]))


def _tokenised(
    model: nn.Module, tokenizer: Any, sentences: Sequence[str], start: Sequence[int]
) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
    """The tokens of each sentence, those before it included, and the characters of its own."""
    if not sentences:
        raise ValueError("a bank was asked for without a sentence; give at least one")
    coded = tokenizer(list(sentences), add_special_tokens=False, return_offsets_mapping=True)
    tokens = [[*start, *ids] for ids in coded["input_ids"]]
    config = getattr(model, "config", None)
    most = getattr(config.get_text_config(), "max_position_embeddings", None) if config else None
    for number, ids in enumerate(tokens, start=1):
        if most and len(ids) > most:
            raise ValueError(
                f"sentence {number} has {len(ids)} tokens, more than the {most} of the model's context: split it"
            )
    return tokens, coded["offset_mapping"]


def _places(
    tokens: Sequence[Sequence[int]], offsets: Sequence[Sequence[tuple[int, int]]], before: int
) -> list[tuple[int, int, int, int]]:
    """Sentence, position and characters of each token that is stored: those whose way there is new."""
    seen: set[tuple[int, ...]] = set()
    places = []
    for sentence, (ids, own) in enumerate(zip(tokens, offsets, strict=True)):
        for at in range(max(SKIPPED, before), len(ids)):
            way = tuple(ids[: at + 1])
            if way not in seen:
                seen.add(way)
                places.append((sentence, at, *own[at - before]))
    return places


@torch.no_grad()
def _write(
    path: Path,
    model: nn.Module,
    tokens: Sequence[Sequence[int]],
    places: Sequence[tuple[int, int, int, int]],
    sites: Sequence[str],
) -> None:
    where, stack = np.array(places), layout_of(model).stack
    device = next(model.parameters()).device
    with h5py.File(path, "w") as out:
        out["places"] = where
        for start in range(0, len(tokens), BATCH):
            batch = tokens[start : start + BATCH]
            ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
            for line, one in zip(ids, batch):  # padded on the right, where no token looks
                line[: len(one)] = torch.tensor(one)
            rows = np.flatnonzero((where[:, 0] >= start) & (where[:, 0] < start + BATCH))
            if not len(rows):
                continue
            lines, columns = torch.tensor(where[rows, 0] - start), torch.tensor(where[rows, 1])
            with record(model, list(sites)) as seen:
                stack(input_ids=ids.to(device))
            for site in sites:
                states = seen[site][lines.to(device), columns.to(device)].float().cpu().numpy()
                if start == 0 or f"states/{site}" not in out:
                    out.create_dataset(f"states/{site}", (len(where), states.shape[1]), np.float32)
                out[f"states/{site}"][rows[0] : rows[-1] + 1] = states  # pyright: ignore[reportIndexIssue]


def _digest(value: Any) -> str:
    return hashlib.sha256(
        repr([list(one) if not isinstance(one, str) else one for one in value]).encode()
    ).hexdigest()


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) else str(value)
