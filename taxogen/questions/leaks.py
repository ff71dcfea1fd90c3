"""Leaks: training items with evidence that an ablation was to remove."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool

from taxogen.questions.manifest import Manifest
from taxogen.questions.nouns import spoken


def naming(frame: pd.DataFrame, hypernyms: Iterable[str]) -> Bool[np.ndarray, " rows"]:
    """Whether each row of a manifest names one of the hypernyms.

    It may be the hypernym asked about, the answer, the noun of a yes/no question, or a text row's subject;
    a leaf that contains the hypernym as a word (candy bar, board game) names it too.
    """
    nouns = [f" {spoken(name).lower()} " for name in hypernyms]
    names_one = np.zeros(len(frame), dtype=bool)
    for column in ("hypernym", "answer", "asked", "leaf"):
        texts = {value: f" {spoken(value).lower()} " for value in frame[column].unique()}
        named = [value for value, words in texts.items() if any(noun in words for noun in nouns)]
        rows = np.asarray(frame[column].isin(named))
        names_one |= rows & np.asarray(frame["modality"] == "text") if column == "leaf" else rows
    return names_one


def check_no_leak(train: Manifest, held_out: Iterable[str]) -> None:
    """Nothing, when no training item names a held-out hypernym (see `naming`).

    Raises:
        ValueError: some do; shows the first.
    """
    rows = np.flatnonzero(naming(train.frame, held_out))
    if len(rows):
        row = train.frame.iloc[rows[0]]
        raise ValueError(
            f"{len(rows)} training items name a held-out hypernym, for example item {row['item_id']} (leaf "
            f"{row['leaf']!r}, hypernym {row['hypernym']!r}, answer {row['answer']!r}); remove with ablate()"
        )


def check_no_pair(train: Manifest, removed: Iterable[tuple[str, str]]) -> None:
    """Nothing, when no training item asks about one of the (leaf, hypernym) pairs.

    Raises:
        ValueError: some do; shows the first.
    """
    pairs = set(removed)
    frame = train.frame
    questions = zip(np.asarray(frame["leaf"]), np.asarray(frame["hypernym"]), strict=True)
    rows = [row for row, pair in enumerate(questions) if pair in pairs]
    if rows:
        row = frame.iloc[rows[0]]
        raise ValueError(
            f"{len(rows)} training items ask about a pair whose evidence was removed, for example item "
            f"{row['item_id']} (leaf {row['leaf']!r}, hypernym {row['hypernym']!r}); remove with ablate()"
        )
