"""The contextual lens on a run: words in sentences that states are most like, beside a bank of exchanged words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from analyses.inputs.subject import Subject
from analyses.lens.parts import LensInputs, View, evidence_in
from analyses.lens.sentences import terms_of
from analyses.lens.words import TARGETS, Words, words_of
from probing.hooks.provenance import weight_hash
from probing.lens import Bank, build_bank, nearest_states, word_cosines, words_in
from probing.stats.seeding import stream
from probing.store import cache, records
from taxogen.questions.nouns import spoken

SHUFFLES = 19
"""Banks in which words are exchanged: the fewest that have a p of .05."""
KINDS = ("own name", "own hypernym", "other name", "other hypernym", "other word")
SAME, ANY = "same layer", "any layer"
EVIDENCE, NEAREST, SENTENCE = "evidence", "nearest", "sentence"
"""Kinds of rows in a part: of evidence for words; how often the nearest word is of a kind; nearest sentences."""


@dataclass(frozen=True)
class Book:
    """A bank with the words of its sentences.

    Attributes:
        bank: of states.
        names: of its words; those of leaves and of hypernyms first.
        word: of each token of the bank.
        own: leaf → the number of its name.
        hypernyms: leaf → which words are names of its hypernyms.
        kind: of each word: 0 the name of a leaf, 1 of a hypernym alone, 2 any other.
        exchanged: for each shuffled bank, the word that stands in the place of each word, of the same kind.
        words: of each target, those that evidence is looked for.
    """

    bank: Bank
    names: tuple[str, ...]
    word: Int[np.ndarray, " tokens"]
    own: Mapping[str, int]
    hypernyms: Mapping[str, Bool[np.ndarray, " words"]]
    kind: Int[np.ndarray, " words"]
    exchanged: Int[np.ndarray, "shuffles words"]
    words: Mapping[str, Words]


def book_of(
    subject: Subject, leaves: Sequence[str], sites: Sequence[str], sentences: Sequence[str], seed: int
) -> Book:
    """The bank of some sentences, read by the run's language model once for all runs that have the same one."""
    lm, taxonomy = subject.bench.vlm.lm, subject.run.taxonomy
    start = () if lm.start_token_id is None else (lm.start_token_id,)
    key = records.digest_of([list(sentences), list(sites), list(start), weight_hash(lm.model)])
    path = cache.folder() / "banks" / key[:16] / "bank.h5"
    with cache.locked(path):
        bank = build_bank(path, lm.model, lm.tokenizer, sentences, sites, start)
    names, word = words_in(bank, terms_of(taxonomy))
    number = {name: at for at, name in enumerate(names)}
    present = np.isin(np.arange(len(names)), word)
    of_leaf = {leaf: number[spoken(leaf)] for leaf in taxonomy.leaves}
    of_hypernym = {name: number[spoken(name)] for name in taxonomy.hypernyms}
    kind = np.full(len(names), 2)
    kind[list(of_hypernym.values())] = 1
    kind[list(of_leaf.values())] = 0
    exchanged = np.tile(np.arange(len(names)), (SHUFFLES, 1))
    for draw, order in enumerate(exchanged):
        for group in range(3):
            where = np.flatnonzero((kind == group) & present)
            order[where] = stream(seed, "words of a bank", str(draw), str(group)).permutation(where)
    hypernyms = {
        leaf: np.isin(np.arange(len(names)), [of_hypernym[name] for name in taxonomy.hypernyms_of(leaf)])
        for leaf in taxonomy.leaves
    }
    words = {
        target: words_of(
            subject, target, leaves, seed, {name: at for name, at in of_target.items() if present[at]}
        )
        for target, of_target in zip(TARGETS, (of_leaf, of_hypernym), strict=True)
    }
    return Book(bank, names, word, of_leaf, hypernyms, kind, exchanged, words)


def look(inputs: LensInputs, book: Book, site: str) -> pd.DataFrame:
    """Rows of all three kinds at a site, of each modality."""
    inputs = replace(inputs, words=book.words)
    tables: list[pd.DataFrame] = []
    for modality in inputs.tokens:
        view = View.on(inputs, modality, "contextual", lambda cosines: cosines)
        states, leaf = view.of(view.tokens.states[site]), view.tokens.leaf[view.chosen]
        cosines = word_cosines(states, book.bank.pieces(site), book.word, len(book.names)).cpu()
        tables += [table.assign(rows=EVIDENCE) for table in evidence_in(inputs, view, cosines)]
        nearest = cosines.argmax(1).numpy()
        for span, mask in view.tokens.in_span.items():
            at = mask[view.chosen]
            tables.append(shares(book, nearest[at], leaf[at]).assign(span=span, near=SAME, modality=modality))
        at = view.tokens.in_span["slot"][view.chosen]
        every = nearest_states(states[torch.tensor(at)], [book.bank.pieces(name) for name in book.bank.sites])
        words = book.word[every.token[:, 0].cpu().numpy()]
        tables.append(shares(book, words, leaf[at]).assign(span="slot", near=ANY, modality=modality))
        if modality == "image":
            tables.append(_sentences(book, states[torch.tensor(at)], leaf[at], site))
    return pd.concat(tables, ignore_index=True).assign(site=site, lens="contextual")


def shares(book: Book, nearest: Int[np.ndarray, " tokens"], leaf: np.ndarray) -> pd.DataFrame:
    """How many tokens of each leaf have a nearest word of each kind, in the bank (draw −1) and in shuffled ones."""
    frames = []
    for draw in range(-1, len(book.exchanged)):
        words = nearest if draw < 0 else book.exchanged[draw][nearest]
        kinds = pd.DataFrame(kinds_of(book, words, leaf), columns=list(KINDS))
        frames.append(kinds.groupby(leaf).mean().rename_axis("leaf").reset_index().assign(draw=draw))
    return pd.concat(frames, ignore_index=True).assign(rows=NEAREST)


def kinds_of(book: Book, words: Int[np.ndarray, " n"], leaf: np.ndarray) -> Float[np.ndarray, "n kinds"]:
    """Which kind a word is to a leaf: 1 in one column of `KINDS`. A leaf's own name is no hypernym of it."""
    own = words == np.array([book.own[name] for name in leaf])
    hypernym = np.array([book.hypernyms[name][word] for name, word in zip(leaf, words)], dtype=bool) & ~own
    kind, other = book.kind[words], ~own & ~hypernym
    return np.column_stack([own, hypernym, *((kind == group) & other for group in range(3))]).astype(float)


def _sentences(book: Book, states: torch.Tensor, leaf: np.ndarray, site: str) -> pd.DataFrame:
    """The nearest word of each picture token at its own layer, and the sentence that it stands in."""
    near = nearest_states(states, [book.bank.pieces(site)])
    token = near.token[:, 0].cpu().numpy()
    return pd.DataFrame(
        {
            "rows": SENTENCE,
            "leaf": leaf,
            "token": pd.Series(leaf).groupby(leaf).cumcount().to_numpy(),
            "word": [book.names[at] for at in book.word[token]],
            "sentence": [book.bank.sentences[at] for at in book.bank.places[token, 0]],
            "cosine": near.cosine[:, 0].double().cpu().numpy(),
        }
    )


def rows_of(parts: pd.DataFrame, kind: str) -> Iterator[pd.DataFrame]:
    """The rows of a kind, if any, with the columns that they have."""
    rows = parts[parts["rows"] == kind]
    if len(rows):
        yield rows.drop(columns="rows").dropna(axis=1, how="all").reset_index(drop=True)
