"""Word vectors of a file in the text formats of word2vec and GloVe, of the words that are asked for."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " d"]


def phrase_vectors(path: Path, phrases: Sequence[str]) -> dict[str, Vector]:
    """Phrase → its vector; phrases that the file has no vector for are left out.

    A phrase is looked up as one entry (`pencil_sharpener`, `pencil-sharpener`, `pencil sharpener`), as it stands or in
    lower case; one that is none has the mean of its words, if the file has all of them.

    Args:
        path: text, plain or .gz: on each line a word and its numbers; word2vec's first line, "words width", may stand
            before them.
        phrases: words, or several of them with blanks between.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another format, or lines of different widths, or a number that is not finite.
    """
    entries = {phrase: _spellings(phrase) for phrase in phrases}
    wanted = {one for spellings in entries.values() for one in spellings}
    wanted |= {one for phrase in phrases for word in phrase.split() for one in _spellings(word)}
    vectors = dict(_vectors(path, wanted))
    found: dict[str, Vector] = {}
    for phrase, spellings in entries.items():
        whole = _first(vectors, spellings)
        words = [_first(vectors, _spellings(word)) for word in phrase.split()]
        if whole is not None:
            found[phrase] = whole
        elif words and all(word is not None for word in words):
            found[phrase] = np.mean([word for word in words if word is not None], axis=0)
    return found


def _spellings(phrase: str) -> tuple[str, ...]:
    joined = [phrase.replace(" ", mark) for mark in ("_", "-", " ")]
    return tuple(dict.fromkeys([*joined, *(one.lower() for one in joined)]))


def _first(vectors: dict[str, Vector], spellings: Iterable[str]) -> Vector | None:
    return next((vectors[one] for one in spellings if one in vectors), None)


def _vectors(path: Path, wanted: set[str]) -> Iterator[tuple[str, Vector]]:
    """The entries of the file that are wanted, the first of each word."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give word vectors as text, word2vec's or GloVe's format")
    width, seen = 0, set()
    for number, line in enumerate(_lines(path), 1):
        parts = line.rstrip().split(" ")
        if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
            width = int(parts[1])
            continue
        width = width or len(parts) - 1
        word = " ".join(parts[:-width]) if width > 0 else ""  # some words of GloVe's files hold blanks
        if not word:
            raise ValueError(
                f"{path}, line {number}: {len(parts)} entries were found, a word and {max(width, 1)} numbers "
                "expected; give word vectors as text, word2vec's or GloVe's format"
            )
        if word in wanted and word not in seen:
            seen.add(word)
            yield word, _numbers(parts[-width:], f"{path}, line {number}, {word!r}")


def _lines(path: Path) -> Iterator[str]:
    opening = gzip.open if path.suffix == ".gz" else open
    try:
        with opening(path, "rt", encoding="utf-8") as lines:
            yield from lines
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{path} is no text, plain or .gz ({error}); give word vectors as text, word2vec's or GloVe's format "
            "(gensim writes it with binary=False)"
        ) from error


def _numbers(parts: Sequence[str], where: str) -> Vector:
    try:
        vector = np.array(parts, dtype=np.float64)
    except ValueError:
        vector = np.full(1, np.nan)
    if not np.isfinite(vector).all():
        raise ValueError(
            f"{where}: what stands behind the word are no finite numbers; mend or leave out the line"
        )
    return vector
