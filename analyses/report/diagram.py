"""The design of a run as a drawing: picture, encoder, projector, and the prompt in which the picture stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analyses.report.design import IMPORTED, RELEASED, TRAINED, Design
from analyses.report.sentences import listed, readable

_LETTER, _PAD, _GAP, _LEFT = 8.2, 20, 6, 44
_BOLD = 1.1
"""How much wider text may be in which some words are bold."""
_MOST = 4
"""Picture tokens that are drawn one by one."""


@dataclass(frozen=True)
class Token:
    """A box in the row of the prompt.

    Attributes:
        kind: `word`, `slot` for a token of the picture, `cue` for a word behind it, `last` for the last of these.
    """

    text: str
    kind: str
    x: float
    width: float


@dataclass(frozen=True)
class Module:
    """A part of the model: what it is, its name, and whether it learns."""

    title: str
    name: str
    state: str


@dataclass(frozen=True)
class Diagram:
    """What the drawing of one kind of model shows.

    Attributes:
        of: the conditions that it is true of.
        picture: of its slot, inline; empty for none.
        leaf: what the picture shows.
        answer, answer_about: what is read at the last token.
        captured: which activations are on disk; empty for none.
    """

    of: str
    encoder: Module
    projector: Module
    lm: Module
    tokens: Sequence[Token]
    picture: str
    leaf: str
    answer: str
    answer_about: str
    captured: str

    @property
    def width(self) -> float:
        """Of the drawing."""
        return max(self.right + 2 * _LEFT + 110, 760)

    @property
    def lm_left(self) -> float:
        """Where what is said of the language model begins: beside the arrow into the slot."""
        return max(sum(self.span(["slot"])) / 2 + 14, 36)

    @property
    def right(self) -> float:
        """Where the box of the language model ends: behind the prompt, and what is said of the model."""
        said = max(len(f"{self.lm.title} {self.lm.name}"), len(self.lm.state)) * _LETTER * _BOLD
        last = self.tokens[-1]
        return max(last.x + last.width, self.lm_left + said) + 20

    @property
    def description(self) -> str:
        """The drawing in words."""
        words = " ".join("[picture]" if t.kind == "slot" else t.text for t in self._once())
        return (
            f"A picture goes through the {self.encoder.title} {self.encoder.name} ({self.encoder.state}) and the "
            f"{self.projector.title} {self.projector.name} ({self.projector.state}) into the slot of the prompt "
            f"“{words}”, which the {self.lm.title} {self.lm.name} ({self.lm.state}) reads. Its answer is read "
            "at the last token. Slot: the tokens of the picture; cue: the words behind it; last: the last of these."
        )

    def span(self, kinds: Sequence[str]) -> tuple[float, float]:
        """Where the boxes of these kinds begin and end."""
        boxes = [token for token in self.tokens if token.kind in kinds]
        return boxes[0].x, boxes[-1].x + boxes[-1].width

    def _once(self) -> Iterator[Token]:
        """The tokens, those of the picture as one."""
        before = ""
        for token in self.tokens:
            if not token.kind == before == "slot":
                yield token
            before = token.kind


def diagrams(of: Sequence[Design], leaf: str, hypernym: str, picture: str) -> list[Diagram]:
    """A drawing for each kind of model among the runs, with an example: a leaf, a hypernym of it and its picture."""
    kinds: dict[tuple[object, ...], list[Design]] = {}
    for design in of:
        model = design.run.config.model
        kind = (design.origin, model.encoder, model.projector, model.image_tokens, design.lm)
        kinds.setdefault((*kind, *_prompt(design, hypernym)), []).append(design)
    return [_diagram(members, leaf, hypernym, picture) for members in kinds.values()]


def _diagram(members: Sequence[Design], leaf: str, hypernym: str, picture: str) -> Diagram:
    design = members[0]
    model, record = design.run.config.model, design.run.record
    frozen = "as released" if design.origin == RELEASED else "frozen"
    learned = {TRAINED: "learned", IMPORTED: "from elsewhere", RELEASED: "as released"}[design.origin]
    taught = design.origin == TRAINED
    inits = listed(
        {"pretrained": "pretrained", "random": "random weights"}.get(one.init, one.init) for one in members
    )
    before, after, count, closed = _prompt(design, hypernym)
    encoder = "its vision tower" if design.origin == RELEASED else model.encoder
    projector = "its projector" if design.origin == RELEASED else model.projector
    read = "read-out: logit Yes − logit No" if closed else f"read-out of “{hypernym}” and all other hypernyms"
    return Diagram(
        of=listed(readable(one.condition) for one in members),
        encoder=Module("image encoder", encoder, frozen),
        projector=Module("projector", projector, learned + (f", {record['steps']} steps" if taught else "")),
        lm=Module("language model", design.lm, frozen if design.origin == RELEASED else f"{frozen}; {inits}"),
        tokens=list(_tokens(before, after, count)),
        picture=picture,
        leaf=leaf,
        answer="Yes or No?" if closed else f"{hypernym}?",
        answer_about=read,
        captured=_captured(design),
    )


def _captured(design: Design) -> str:
    """Which activations of a run are on disk, in a line."""
    run = design.run
    if not run.steps:
        return ""
    wanted = run.config.capture
    steps = listed(map(str, run.steps), most=len(run.steps))
    return f"activations on disk: at {listed(wanted.spans)}, of steps {steps}"


def _prompt(design: Design, hypernym: str) -> tuple[str, str, int, bool]:
    """The words before and behind the slot, the tokens of the picture (0: not known), whether it asks for Yes or No."""
    closed = design.run.config.data.task == "yes_no"
    parts = design.question("hypernym", hypernym=hypernym if closed else "")
    count = 0 if design.origin == RELEASED else design.run.config.model.image_tokens
    return parts.before, parts.after, count, closed


def _tokens(before: str, after: str, count: int) -> Iterator[Token]:
    x = float(_LEFT)
    behind = after.replace("<image>", "").split()
    slots = [f"{number}" for number in range(1, count + 1)]
    if not 0 < count <= _MOST:
        slots = ["1", "2", "…", str(count) if count else "n"]
    row = [(word, "word") for word in before.split()] + [(text, "slot") for text in slots]
    row += [(word, "cue") for word in behind[:-1]] + [(word, "last") for word in behind[-1:]]
    for text, kind in row:
        width = max(30.0, len(text) * _LETTER + _PAD)
        yield Token(text, kind, x, width)
        x += width + _GAP
