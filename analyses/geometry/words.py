"""Static vectors of the leaves' words, whose distances hold what words co-occur with: to be partialled out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from probing.categories.word_vectors import phrase_vectors
from probing.similarity.rsa import rdm
from taxogen.models.lms import LM
from taxogen.questions.nouns import spoken
from taxogen.runs.bench import open_lm
from taxogen.runs.run import Run

log = logging.getLogger(__name__)
INPUT_EMBEDDINGS = "input-embeddings"
MOST_MISSING = 0.2
"""Share of the leaves that may have no vector."""

Vectors = dict[str, Float[np.ndarray, " d"]]
"""Leaf → vector of its word."""


def check_words(partial: str | None, run: Run | None) -> None:
    """Refuses vectors that cannot be there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the input embeddings of a language model were asked for where there is none.
    """
    if partial == INPUT_EMBEDDINGS and run is None:
        raise ValueError(
            "--partial input-embeddings was asked for of stores, which have no language model; give a file of word "
            "vectors"
        )
    if partial not in (None, INPUT_EMBEDDINGS) and not Path(partial).is_file():
        raise FileNotFoundError(
            f"--partial {partial}: there is no such file; give word vectors as text (word2vec, GloVe; plain or .gz), "
            f"or {INPUT_EMBEDDINGS}"
        )


def word_vectors(partial: str | None, leaves: Sequence[str], run: Run | None) -> Vectors | None:
    """Vectors of the leaves' words; None where none are asked for.

    Raises:
        ValueError: a file that is none of word vectors, or has none for more than a fifth of the leaves.
    """
    if partial is None:
        return None
    check_words(partial, run)
    if partial == INPUT_EMBEDDINGS:
        assert run is not None
        return input_embeddings(open_lm(run), leaves)
    words = {leaf: spoken(leaf) for leaf in leaves}
    vectors = phrase_vectors(Path(partial), sorted(set(words.values())))
    missing = [leaf for leaf in leaves if words[leaf] not in vectors]
    named = (
        f"{len(missing)} of {len(leaves)} leaves have no vector in {partial}: {', '.join(missing[:20])}"
        + (", …" if len(missing) > 20 else "")
    )
    if len(missing) > MOST_MISSING * len(leaves):
        raise ValueError(f"{named}; give a file with more words")
    if missing:
        log.warning("%s; distances given words leave them out", named)
    return {leaf: vectors[words[leaf]] for leaf in leaves if words[leaf] in vectors}


def input_embeddings(lm: LM, leaves: Sequence[str]) -> Vectors:
    """Rows of a language model's input table, the mean over the tokens of each leaf's word."""
    table = lm.model.get_input_embeddings().weight.detach()  # pyright: ignore[reportCallIssue]
    ids = {leaf: lm.tokenizer(f" {spoken(leaf)}", add_special_tokens=False)["input_ids"] for leaf in leaves}
    return {
        leaf: table[tokens].float().mean(0).cpu().numpy().astype(np.float64) for leaf, tokens in ids.items()
    }


def word_distances(vectors: Vectors, leaves: Sequence[str]) -> Float[np.ndarray, "leaves leaves"]:
    """Cosine distances between the words of leaves."""
    return rdm(np.stack([vectors[leaf] for leaf in leaves]), "cosine")
