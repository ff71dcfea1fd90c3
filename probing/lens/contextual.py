"""Contextual lens: the words in sentences whose states point most nearly where a state does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from probing.lens.bank import Bank
from probing.lens.words import unit_rows

Pieces = Iterable[tuple[int, Tensor]]
"""Some states at a time, each with the number of the first: see `Bank.pieces`."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest tokens of a bank to some states, best first; of equals, the earlier one.

    >>> Neighbours(torch.tensor([[0.9]]), torch.tensor([[7]]), torch.tensor([[0]])).token.tolist()
    [[7]]

    Attributes:
        cosine: of each neighbour.
        token: its row in the bank.
        site: which of the sources that were searched it is of.
    """

    cosine: Float[Tensor, "n k"]
    token: Int[Tensor, "n k"]
    site: Int[Tensor, "n k"]


@torch.no_grad()
def nearest_states(states: Float[Tensor, "n width"], sources: Sequence[Pieces], k: int = 1) -> Neighbours:
    """The k tokens that point most nearly where each state does, of all sources together, such as sites of a bank.

    Cosines are exact; one piece of a source is in memory at a time. A state of zeros points nowhere: its cosine is 0.

    >>> near = nearest_states(torch.tensor([[3.0, 1.0]]), [[(0, torch.eye(2))], [(0, torch.ones(1, 2))]], k=2)
    >>> near.site.tolist(), near.token.tolist()
    ([[0, 1]], [[0, 0]])

    Source: Krojer et al. 2026, arXiv:2602.00462, who search all layers together; one source alone compares a state with
    those of words at one depth.

    Raises:
        ValueError: fewer than k tokens to choose from.
    """
    unit = unit_rows(states.float())
    best = torch.zeros((len(states), 0), device=unit.device)
    token, place = best.long(), best.long()
    for number, pieces in enumerate(sources):
        for start, piece in pieces:
            cosine = unit @ unit_rows(piece.to(unit.device)).T
            own = torch.arange(start, start + len(piece), device=unit.device).expand_as(cosine)
            both = torch.cat([best, cosine], 1)
            order = both.argsort(dim=1, descending=True, stable=True)[:, :k]
            best = both.gather(1, order)
            token = torch.cat([token, own], 1).gather(1, order)
            place = torch.cat([place, torch.full_like(own, number)], 1).gather(1, order)
    if not 0 < k <= best.shape[1]:
        raise ValueError(f"asked for the {k} nearest of {best.shape[1]} states")
    return Neighbours(best, token, place)


@torch.no_grad()
def word_cosines(
    states: Float[Tensor, "n width"], pieces: Pieces, word: Int[np.ndarray, " tokens"], words: int
) -> Float[Tensor, "n words"]:
    """The cosine of each state with each word: with its most similar token; −1 where a word has none.

    >>> word_cosines(torch.tensor([[3.0, 4.0]]), [(0, torch.eye(2))], np.array([1, 1]), words=3)
    tensor([[-1.0000,  0.8000, -1.0000]])

    Args:
        states: to be compared.
        pieces: of states of a bank at a site.
        word: the word that each token of the bank is a piece of, see `words_in`.
        words: their number.
    """
    unit, of_token = unit_rows(states.float()), torch.from_numpy(np.asarray(word, np.int64))
    best = torch.full((len(states), words), -1.0, device=unit.device)
    for start, piece in pieces:
        cosine = unit @ unit_rows(piece.to(unit.device)).T
        own = of_token[start : start + len(piece)].to(unit.device).expand_as(cosine)
        best.scatter_reduce_(1, own, cosine, "amax")
    return best


def words_in(bank: Bank, terms: Sequence[str]) -> tuple[tuple[str, ...], Int[np.ndarray, " tokens"]]:
    """The words of a bank's sentences, and which of them each token is a piece of; terms may be several words.

    The terms come first, in their order, whether the bank has them or not; where two overlap the longer one counts.
    Case and a plural ending do not matter for them. A token outside of words (a full stop) is a word of its own.

    >>> from pathlib import Path
    >>> sentences = ("Sea lions sleep.",)
    >>> places = np.array([[0, 0, 0, 3], [0, 1, 3, 9], [0, 2, 9, 15], [0, 3, 15, 16]])
    >>> words_in(Bank(Path("bank.h5"), sentences, places, ()), ["lion", "sea lion"])
    (('lion', 'sea lion', 'sleep', '.'), array([1, 1, 2, 3]))
    """
    longest = sorted((re.escape(term) for term in terms), key=len, reverse=True)
    wanted = "|".join(longest) or r"(?!)"
    pattern = re.compile(rf"(?<!\w)(?P<term>{wanted})(?:s|es)?(?!\w)|(?P<word>\w+)", re.IGNORECASE)
    number = {term: at for at, term in enumerate(terms)}
    of_case = {term.casefold(): term for term in reversed(terms)}

    def named(found: re.Match[str]) -> str:
        """The term, or the word as it is written in small letters."""
        return of_case.get((found["term"] or "").casefold(), (found["term"] or found["word"]).lower())

    owners: dict[int, dict[int, str]] = {}
    words = np.empty(len(bank.places), dtype=np.int64)
    for row, (sentence, _, first, last) in enumerate(bank.places.tolist()):
        text = bank.sentences[sentence]
        if sentence not in owners:
            owners[sentence] = {
                place: named(found) for found in pattern.finditer(text) for place in range(*found.span())
            }
        places = [place for place in range(first, last) if not text[place].isspace()]
        own = owners[sentence].get(places[-1]) if places else " "
        words[row] = number.setdefault(own or text[places[-1]], len(number))
    return tuple(number), words
