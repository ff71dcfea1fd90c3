"""WordNet: the taxonomy of a list of leaves, each with its synset."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import cast

import nltk.data
from nltk.corpus.reader.wordnet import Synset, WordNetCorpusReader, WordNetError

from taxogen.world.concepts import Concept, read_concepts
from taxogen.world.edges import refuse_bad_edges
from taxogen.world.taxonomy import Taxonomy

_ID = re.compile(r"\S+\.[nvars]\.(?!00)[0-9]{2}")


class _Reader(WordNetCorpusReader):
    """nltk's reader without its map between versions, which serves other languages and needs a file more."""

    def map_wn(self, version: str = "wordnet") -> None:
        return None


@lru_cache(maxsize=1)
def _reader(root: str) -> WordNetCorpusReader:
    try:
        folder = nltk.data.find("corpora/wordnet", [root])
    except LookupError:
        folder = nltk.data.find("corpora/wordnet.zip/wordnet/", [root])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The multilingual functions are not available")
        return _Reader(folder, None)


def reader() -> WordNetCorpusReader:
    """The first WordNet in ``nltk.data.path``.

    Raises:
        FileNotFoundError: there is none, or it is incomplete.
    """
    mend = "python -c \"import nltk; nltk.download('wordnet')\" brings a complete one."
    for root in map(str, nltk.data.path):
        try:
            return _reader(root)
        except LookupError:
            continue
        except OSError as error:
            raise FileNotFoundError(f"WordNet in {root} is incomplete ({error}): {mend}") from error
    raise FileNotFoundError(f"No WordNet in nltk's data path ({', '.join(map(str, nltk.data.path))}): {mend}")


def _synset(name: str) -> Synset:
    """The synset of an id as `bat.n.01`; nltk takes `bat.n.00` and `bat.n.-1` for the last senses of the word.

    Raises:
        ValueError: the name is not of the form word.pos.NN.
        WordNetError: there is no such synset.
    """
    if not _ID.fullmatch(name):
        raise ValueError(
            f"synset {name!r} was asked for; give an id word.pos.NN with NN from 01, as bat.n.01"
        )
    return cast(Synset, reader().synset(name))


def above(synset: str) -> set[str]:
    """The ids of the synsets one step above one, by hypernymy and instance hypernymy."""
    node = _synset(synset)
    return {str(up.name()) for up in node.hypernyms() + node.instance_hypernyms()}


def closure(synset: str) -> set[str]:
    """The ids of all synsets above one, at any distance."""
    found: set[str] = set()
    todo = [synset]
    while todo:
        fresh = above(todo.pop()) - found
        found |= fresh
        todo += fresh
    return found


def build(leaves: Sequence[Concept], hypernyms: Sequence[Concept] | None = None) -> Taxonomy:
    """The taxonomy of `leaves` by WordNet.

    With `hypernyms`, only these stand above the leaves: A is under B if one of B's synsets is above A's in
    WordNet or A.also names B, unless A.unlike names B. An edge that follows from others is left out, and so
    is a hypernym without a leaf. Without `hypernyms`, every synset above a leaf becomes one, named by its
    first word (and by its id where two would have the same name).

    Raises:
        ValueError: unknown or repeated ids or names, a leaf without a hypernym or above a leaf, a cycle.
        FileNotFoundError: no WordNet.
    """
    vague = [f"{leaf}: {len(leaf.synsets)}" for leaf in leaves if len(leaf.synsets) != 1]
    if vague:
        raise ValueError(f"Leaves without exactly one synset: {', '.join(vague)}. A leaf has one.")
    resolved = _resolve([*leaves, *(hypernyms or [])])
    leaves, wanted = resolved[: len(leaves)], resolved[len(leaves) :]
    if hypernyms is None:
        return _everything_above(leaves)
    edges = _reduced(_edges(leaves, wanted))
    placed = {node for node, _ in edges}
    orphans = [f"{leaf}: {leaf.synsets[0]}" for leaf in leaves if leaf.name not in placed]
    if orphans:
        raise ValueError(f"No hypernym above {', '.join(orphans)}. Name one under 'also' or drop the leaf.")
    nodes = {node for edge in edges for node in edge}
    synsets = tuple((concept.name, concept.synsets[0]) for concept in resolved if concept.name in nodes)
    return Taxonomy(edges, synsets).restrict(leaf.name for leaf in leaves)


def build_table(
    leaves_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    hypernyms: str | os.PathLike[str] | None = None,
) -> Taxonomy:
    """The taxonomy of a leaf list and a list of wanted hypernyms; also written to `out_path` as a table."""
    wanted = None if hypernyms is None else read_concepts(hypernyms, "hypernym")
    taxonomy = build(read_concepts(leaves_path, "leaf"), wanted)
    taxonomy.write(out_path)
    return taxonomy


def _resolve(concepts: Sequence[Concept]) -> list[Concept]:
    """The concepts with every synset's first id (``axe.n.01`` is ``ax.n.01``), all known and used once."""
    unknown: list[str] = []
    users: dict[str, list[str]] = {}
    resolved = []
    for concept in concepts:
        users.setdefault(f"the name {concept.name!r}", []).append(str(concept))
        ids = []
        for synset in concept.synsets:
            try:
                ids.append(str(_synset(synset).name()))
            except (WordNetError, ValueError):
                unknown.append(f"{synset} of {concept}")
        for synset in ids:
            users.setdefault(synset, []).append(str(concept))
        resolved.append(replace(concept, synsets=tuple(ids)))
    if unknown:
        raise ValueError(
            f"No such synsets in WordNet {reader().get_version()}: {', '.join(unknown)}. "
            "Mend the ids: word.pos.NN with NN from 01."
        )
    twice = [f"{key} in {' and '.join(names)}" for key, names in users.items() if len(names) > 1]
    if twice:
        raise ValueError(
            f"Given more than once: {'; '.join(twice)}. A name and a synset stand for one concept."
        )
    return resolved


def _edges(leaves: Sequence[Concept], hypernyms: Sequence[Concept]) -> list[tuple[str, str]]:
    """Every (concept, hypernym above it), at any distance."""
    known = {hypernym.name for hypernym in hypernyms}
    edges = []
    for concept in (*leaves, *hypernyms):
        strangers = sorted({*concept.also, *concept.unlike} - known)
        if strangers:
            raise ValueError(f"{concept} names {', '.join(strangers)}, not among the {len(known)} hypernyms.")
        over = set().union(*map(closure, concept.synsets))
        names = {hypernym.name for hypernym in hypernyms if over.intersection(hypernym.synsets)}
        names = (names | set(concept.also)) - set(concept.unlike) - {concept.name}
        edges += [(concept.name, name) for name in sorted(names)]
    return edges


def _reduced(edges: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The edges that do not follow from others (the transitive reduction)."""
    where = [f"{node} → {over}" for node, over in edges]
    refuse_bad_edges(edges, where, "WordNet with the corrections given")
    parents: dict[str, set[str]] = {}
    for node, over in edges:
        parents.setdefault(node, set()).add(over)

    def ancestors(node: str) -> set[str]:
        direct = parents.get(node, set())
        return direct.union(*map(ancestors, direct))

    implied = {node: set().union(*map(ancestors, direct)) for node, direct in parents.items()}
    return tuple((node, over) for node, over in edges if over not in implied[node])


def _everything_above(leaves: Sequence[Concept]) -> Taxonomy:
    names = {leaf.synsets[0]: leaf.name for leaf in leaves}
    over = set().union(*map(closure, names))
    nested = [f"{leaf}: {leaf.synsets[0]}" for leaf in leaves if leaf.synsets[0] in over]
    if nested:
        raise ValueError(
            f"Above other leaves in WordNet: {', '.join(nested)}. Drop these leaves or those below."
        )
    words = {synset: _word(synset) for synset in sorted(over)}
    taken = [*names.values(), *words.values()]
    names |= {
        synset: word if taken.count(word) == 1 else f"{word} ({synset})" for synset, word in words.items()
    }
    edges = sorted((name, names[up]) for synset, name in names.items() for up in above(synset))
    return Taxonomy(tuple(edges), tuple((name, synset) for synset, name in names.items()))


def _word(synset: str) -> str:
    return str(_synset(synset).lemma_names()[0]).replace("_", " ")
