"""Sentences of a report about the design of its runs: how they were made, and what a right answer of theirs shows.

Each is stated only where it is true of the run: of what its training questions said, its weights, its pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from analyses.report.design import ALL, IMPORTED, NOTHING, RELEASED, SOME, TRAINED, Design, by_condition
from taxogen.world import pictures

LANGUAGE_MODELS = {
    "pretrained": "pretrained language model",
    "random": "language model with random weights",
    "pretrained-embeddings": "language model with pretrained token embeddings around random blocks",
}
_SHUFFLES = {
    "none": "pictures as they are",
    "within": "each leaf shown by another leaf of its group, so that all or most hypernyms stay true",
    "category": "whole categories shown by each other, leaf by leaf",
    "graded": "{coherence:.0%} of the leaves shown by another leaf of their group, the others by one that shares no "
    "hypernym with them",
    "across": "each leaf shown by one that shares no hypernym with it",
    "across-plain": "each leaf shown by any other leaf",
}
_SPLITS = {
    "leaf": "Test pictures are of leaf concepts that training did not show.",
    "source": "Test pictures are from sources that training did not show, of leaf concepts that it did.",
}
_LISTED = 6


def lead(of: Sequence[Design]) -> list[str]:
    """The paragraphs with which a report begins: how the models were made, and what they were asked."""
    said = []
    if released := [design for design in of if design.origin == RELEASED]:
        names = listed(design.lm for design in released)
        one = len({design.lm for design in released}) == 1
        kind = (
            "a vision-language model as it was released"
            if one
            else "vision-language models as they were released"
        )
        said.append(f"{names}: {kind}. Nothing was trained here, and what was taught before is not known.")
    if imported := [design for design in of if design.origin == IMPORTED]:
        names = listed(readable(design.condition) for design in imported)
        said.append(
            f"{names}: the projector was trained elsewhere and brought here; what it was taught is not recorded."
        )
    if trained := [design for design in of if design.origin == TRAINED]:
        said.append(" ".join(_training(trained)))
    asked = [f"“{test_question(design)}”" for design in of]
    said.append(f"What was asked about test pictures: {listed(asked, most=len(asked))}")
    if conclusion := _conclusion(trained):
        said.append(conclusion)
    return said


def _training(of: Sequence[Design]) -> list[str]:
    encoders = listed(design.run.config.model.encoder for design in of)
    models = listed(f"{design.lm}" for design in of)
    runs = "one run" if len(of) == 1 else f"{len(of)} runs"
    said = [
        f"In {runs} a projector was trained between an image encoder ({encoders}) and a language model ({models}), "
        "both frozen."
    ]
    for task in dict.fromkeys(design.run.config.data.task for design in of):
        leaf = next(design for design in of if design.run.config.data.task == task)
        example = leaf.question("leaf", leaf.run.taxonomy.leaves[0]).text
        how = "to answer Yes or No to questions" if task == "yes_no" else "to complete sentences"
        said.append(f"It learned {how}, such as: “{example}”")
    evidence = list(dict.fromkeys(map(about_hypernyms, of)))
    several = "What training said of hypernyms differs from condition to condition, as the table shows."
    said.append(evidence[0] if len(evidence) == 1 else several)
    return said


def test_question(design: Design) -> str:
    """The test question about a hypernym as a person reads it, the answer left open."""
    closed = design.run.config.data.task == "yes_no"
    parts = design.question("hypernym", hypernym=design.run.taxonomy.hypernyms[0] if closed else "")
    text = f"{parts.before} [picture]{parts.after}{'' if closed else ' …'}".strip()
    return text + (" (in the chat template of the model)" if design.run.config.data.chat else "")


def about_hypernyms(design: Design) -> str:
    """What training said of hypernyms, in a sentence or two."""
    if design.origin != TRAINED:
        return "What was taught of hypernyms is not known."
    taught = design.taught
    if design.level == NOTHING:
        if not taught.naming:
            return "No training question names a hypernym."
        return (
            f"No training question is about a hypernym; {taught.naming} of {taught.questions} name one all the same, "
            "inside the name of a leaf."
        )
    if design.level == ALL:
        return (
            f"Training named the hypernyms of every leaf: {taught.asked} of {taught.questions} questions were about "
            "hypernyms."
        )
    said = [
        f"Training affirmed {taught.affirmed} of {taught.pairs} pairs of a leaf and its hypernym "
        f"({taught.affirmed / taught.pairs:.0%})."
    ]
    for names, how in ((taught.silent, "never named"), (taught.denied, "only ever denied")):
        if names:
            said.append(
                f"{len(names)} of {len(design.run.taxonomy.hypernyms)} hypernyms were {how}: {listed(names)}."
            )
    return " ".join(said)


def what_it_is(design: Design) -> str:
    """The model and the pictures of a run, in a few words."""
    if design.origin == RELEASED:
        return "released model, pictures as they are"
    data = design.run.config.data
    kind = data.shuffle.removesuffix("-matched")
    scored = "; only leaves that it names rightly are scored" if kind != data.shuffle else ""
    imported = ", projector from elsewhere" if design.origin == IMPORTED else ""
    return f"{LANGUAGE_MODELS[design.init]}{imported}; {_SHUFFLES[kind].format(coherence=data.coherence)}{scored}"


def what_right_shows(design: Design, of: Sequence[Design]) -> str:
    """What a right answer of a run shows, and what it does not."""
    if design.origin != TRAINED:
        return "What it was taught is not known: a right answer does not tell where it comes from."
    said = {
        "pretrained": _of_pretrained,
        "random": _of_random,
        "pretrained-embeddings": _of_embeddings,
    }[design.init](design, of)
    if design.shuffled:
        said += " Right is what is true of the name that a picture has in this world, not of what it shows"
        same = design.run.config.data.shuffle == "within"
        said += " (of all or most hypernyms that is the same)." if same else "."
    return said


def _of_pretrained(design: Design, of: Sequence[Design]) -> str:
    if design.level == NOTHING:
        floor = _floor(design, of) or "the same training with random weights, which is not among these runs,"
        return f"What it gets right beyond {floor} rests on what its language model had learned before."
    if design.level == ALL:
        return (
            "A right answer may repeat what was taught: it does not show what the language model knew before."
        )
    return (
        "About a pair that training affirmed, a right answer may repeat it. About the others it is inferred from "
        "leaves that were taught, or comes from the language model: what exceeds the same training with random weights."
    )


def _of_random(design: Design, of: Sequence[Design]) -> str:
    if design.level == NOTHING:
        inside = ", but for names of leaves that hold a hypernym," if design.taught.naming else ""
        return (
            f"The floor: nothing{inside} ever connected hypernyms with names or pictures. What exceeds chance "
            "is no knowledge of words."
        )
    if design.level == ALL:
        return "Its language model had learned nothing before: a right answer shows what was taught."
    return (
        "Its language model had learned nothing before: what is right about pairs that training did not affirm is "
        "inferred from leaves that were taught."
    )


def _of_embeddings(design: Design, of: Sequence[Design]) -> str:
    if design.level == NOTHING:
        floor = _floor(design, of) or "random weights, which are not among these runs,"
        return f"Only token embeddings were learned before: what it gets right beyond {floor} rests on these."
    if design.level == ALL:
        return "A right answer may repeat what was taught: it does not show what the token embeddings hold."
    return (
        "About a pair that training affirmed, a right answer may repeat it. About the others it is inferred from "
        "leaves that were taught, or rests on token embeddings, which alone were learned before."
    )


def _floor(design: Design, of: Sequence[Design]) -> str:
    """The conditions that differ from this one in nothing but random weights of the language model."""
    own = design.run.config
    wanted = (own.data, replace(own.model, init="random"), own.train)
    same = [other for other in of if other.origin == TRAINED and other.init == "random"]
    return listed(
        readable(other.condition)
        for other in same
        if (other.run.config.data, other.run.config.model, other.run.config.train) == wanted
    )


def _conclusion(trained: Sequence[Design]) -> str:
    """What pretrained weights add to random ones, where both are there and hypernyms were not taught."""
    wanted = (NOTHING, "pretrained", False)
    told = [design for design in trained if (design.level, design.init, design.shuffled) == wanted]
    pairs = dict.fromkeys((design.condition, _floor(design, trained)) for design in told)
    beyond = [f"{readable(name)} gets right beyond {floor}" for name, floor in pairs if floor]
    if not beyond:
        return ""
    return (
        f"What {listed(beyond)} rests on what the language model had learned before: with random weights it "
        "had learned nothing, and no training question was about a hypernym."
    )


def limits(of: Sequence[Design], leaves: int) -> list[str]:
    """What must be kept in mind, as far as it is true of these runs."""
    said = []
    alone = [readable(name) for name, members in by_condition(of).items() if len(members) == 1]
    if alone:
        said.append(
            f"Differences between seeds are not in the intervals of conditions with one: {listed(alone)}."
        )
    hypernyms = max(len(design.run.taxonomy.hypernyms) for design in of)
    said.append(
        f"Answers are compared among the {hypernyms} hypernyms of the taxonomy; {leaves} leaf concepts."
    )
    if any(bundled(design) for design in of):
        said.append("The bundled pictures are pictograms, not photographs.")
    said += [_SPLITS[rule] for rule in dict.fromkeys(d.run.config.data.split for d in of) if rule in _SPLITS]
    if any(design.level == SOME for design in of):
        said.append(
            "Scores that lead are of pairs of leaf and hypernym that training did not affirm (held out)."
        )
    said.append(
        "Probes and similarities show what can be read from states, patching and its kin what is used."
    )
    return said


def bundled(design: Design) -> bool:
    """Whether the pictures of a run come with the package."""
    return design.run.config.data.pictures in pictures.BUNDLED


def readable(condition: str) -> str:
    """The name of a condition for the eye."""
    return condition.replace("_", " ")


def listed(names: Iterable[str], most: int = _LISTED) -> str:
    """Names in a row, each once; of many the first, and how many more."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - most} more" if len(unique) > most else ""
    shown = unique[:most]
    if len(shown) > 1 and not more:
        return f"{', '.join(shown[:-1])} and {shown[-1]}"
    return ", ".join(shown) + more
