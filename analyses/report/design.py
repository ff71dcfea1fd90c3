"""How a run was made, as far as sentences depend on it: what it was taught, read from its training questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analyses.inputs.conditions import condition_of
from taxogen.answers.evaluate import templates_of
from taxogen.questions import prompts
from taxogen.questions.leaks import naming
from taxogen.questions.prompts import Segments
from taxogen.runs.run import Run

RELEASED, IMPORTED, TRAINED = "released", "imported", "trained"
NOTHING, SOME, ALL, UNKNOWN = "nothing", "some", "all", "unknown"


@dataclass(frozen=True, eq=False)
class Design:
    """A run under its condition.

    Attributes:
        run: closed and trained to its end.
        condition: its name among the runs of the report.
    """

    run: Run
    condition: str

    @property
    def origin(self) -> str:
        """Where the projector comes from: trained by this toolkit, imported, or of a released model."""
        if self.run.config.model.vlm:
            return RELEASED
        return TRAINED if self.run.record["training_items"] else IMPORTED

    @cached_property
    def taught(self) -> Taught:
        """The hypernyms that training named."""
        return Taught.of(self.run)

    @property
    def level(self) -> str:
        """How many of the pairs of leaf and hypernym training affirmed; of models from elsewhere that is unknown."""
        if self.origin != TRAINED:
            return UNKNOWN
        taught = self.taught
        if taught.asked == 0:
            return NOTHING
        return ALL if taught.affirmed == taught.pairs else SOME

    @property
    def init(self) -> str:
        """Where the weights of the language model come from."""
        return self.run.config.model.init

    @property
    def shuffled(self) -> bool:
        """Whether pictures were exchanged between leaves."""
        return self.run.config.data.shuffle != "none"

    @property
    def lm(self) -> str:
        """The name of the language model."""
        model = self.run.config.model
        return model.vlm or model.lm

    def question(self, task: str, leaf: str = "", hypernym: str = "") -> Segments:
        """The texts of a training question about a leaf's picture, or of the test question about a hypernym."""
        if task == "hypernym":
            template = templates_of(self.run)[task][0]
        else:
            frame = self.run.manifest("train").frame
            template = str(frame.loc[frame["task"] == task, "prompt"].iloc[0])
        return prompts.segments(template, leaf=leaf, hypernym=hypernym)


@dataclass(frozen=True)
class Taught:
    """What training questions say of hypernyms.

    Attributes:
        questions: of training, all together.
        asked: those that are about a hypernym.
        naming: those that name a hypernym in any way, also inside the name of a leaf.
        pairs: of a leaf and a hypernym that it has.
        affirmed: of these pairs, those that a question affirms.
        silent: hypernyms that no question names.
        denied: hypernyms that questions name, and never affirm.
    """

    questions: int
    asked: int
    naming: int
    pairs: int
    affirmed: int
    silent: tuple[str, ...]
    denied: tuple[str, ...]

    @classmethod
    def of(cls, run: Run) -> Taught:
        """What the training questions of a run say."""
        frame, taxonomy = run.manifest("train").frame.astype(str), run.taxonomy
        about = frame[frame["task"] == "hypernym"]
        yes = [form.answers[0] for form in prompts.FORMATS.values() if form.answers]
        affirmed = about[(about["answer"] == about["hypernym"]) | about["answer"].isin(yes)]
        pairs = {(leaf, name) for leaf in taxonomy.leaves for name in taxonomy.hypernyms_of(leaf)}
        told = pairs & set(zip(affirmed["leaf"], affirmed["hypernym"]))
        named = {name: bool(naming(frame, [name]).any()) for name in taxonomy.hypernyms}
        asked = set(about["hypernym"])
        positive = {name for _, name in told}
        return cls(
            questions=len(frame),
            asked=len(about),
            naming=int(np.count_nonzero(naming(frame, taxonomy.hypernyms))),
            pairs=len(pairs),
            affirmed=len(told),
            silent=tuple(name for name in taxonomy.hypernyms if not named[name]),
            denied=tuple(name for name in taxonomy.hypernyms if name in asked - positive),
        )


def designs(runs: Sequence[Run]) -> list[Design]:
    """The design of each run."""
    return [Design(run, condition_of(run, runs)) for run in runs]


def by_condition(of: Sequence[Design]) -> dict[str, list[Design]]:
    """The designs of each condition, by its name; in the order given."""
    grouped: dict[str, list[Design]] = {}
    for design in of:
        grouped.setdefault(design.condition, []).append(design)
    return grouped
