"""Subject: a trained model with the questions that its run puts. The only place that puts a question to a model.

Prompts (template, chat template or not), the words that may answer, the first tokens by which they are read, and the
forward pass that nothing changes: all come from the run, as in its evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probing.patching.answers import Answers
from probing.patching.restart import Restart
from probing.patching.runs import Kept, Rows, keep
from probing.stats.seeding import stream
from taxogen.answers.evaluate import templates_of
from taxogen.models.rows import Row, common_prefix
from taxogen.questions import prompts
from taxogen.questions.items import PROMPTS
from taxogen.questions.prompts import Modality
from taxogen.runs.bench import Bench, open_bench
from taxogen.runs.run import Run
from taxogen.stages.train import load_projector, resolve_steps

TASKS = ("hypernym", "leaf")


@dataclass(frozen=True)
class Candidates:
    """Words that may answer the question of a task, each read by the first token of its answer.

    Of hypernyms only those count whose first token no other hypernym shares. Leaves keep theirs (there are hundreds);
    which of them cannot be told from a right one is said by `alike`.
    """

    names: tuple[str, ...]
    tokens: Int[np.ndarray, " names"]

    def alike(self, own: Bool[np.ndarray, "rows names"]) -> Bool[np.ndarray, "rows names"]:
        """Which wrong names of each row begin with the same token as a right one."""
        same = np.equal.outer(self.tokens, self.tokens)
        return (own.astype(int) @ same.astype(int) > 0) & ~own

    @property
    def token_of(self) -> dict[str, int]:
        """The first token of each name."""
        return dict(zip(self.names, self.tokens.tolist(), strict=True))


@dataclass(frozen=True)
class Question:
    """The question of a task about some pictures, and the forward pass in which nothing was changed.

    Attributes:
        task: "hypernym" (a kind of …) or "leaf" (also called …).
        candidates: the words that may answer.
        leaves: what each row's picture is called.
        own: which names are right for each row.
        clean: the pass; `restart` goes on from its middle, `answers` reads the logits of the names.
    """

    task: str
    candidates: Candidates
    leaves: np.ndarray
    own: Bool[np.ndarray, "rows names"]
    clean: Kept
    restart: Restart
    answers: Answers

    def __len__(self) -> int:
        return len(self.leaves)

    @property
    def names(self) -> tuple[str, ...]:
        """The words that may answer."""
        return self.candidates.names

    @property
    def alike(self) -> Bool[np.ndarray, "rows names"]:
        """Which wrong names begin with the same token as a right one, so that they cannot be told from it."""
        return self.candidates.alike(self.own)

    def read(self, hidden: Tensor) -> Tensor:
        """Logits of the names; their differences are differences of log-probabilities, in nats."""
        return self.answers(hidden)

    def positions(self, span: str) -> tuple[int, ...]:
        """Where a span stands, in the tokens after the cached prefix."""
        return self.clean.rows.positions(span)

    def margin(
        self, logits: Float[np.ndarray, "*edits rows names"], without: Sequence[str] = ()
    ) -> Float[np.ndarray, "*edits rows"]:
        """Mean log-odds of a row's right names against all wrong ones, in nats; `without` takes part on neither side.

        NaN in rows that have no right name left.
        """
        taking_part = ~np.isin(self.names, list(without))
        right = self.own & taking_part
        wrong = ~self.own & ~self.alike & taking_part
        return mean_logit(logits, right) - mean_logit(logits, wrong)


def mean_logit(
    logits: Float[np.ndarray, "*edits rows names"], chosen: Bool[np.ndarray, "rows names"]
) -> Float[np.ndarray, "*edits rows"]:
    """Mean logit of each row's chosen names; NaN in rows without any."""
    count = chosen.sum(-1)
    total = np.where(chosen, logits, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Subject:
    """A trained model with its projector as it was after `step` steps.

    Attributes:
        bench: the run with everything loaded.
        step: of training.
    """

    bench: Bench
    step: int
    _candidates: dict[str, Candidates] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, step: int | None = None, dtype: str = "run") -> Subject:
        """The subject of a run after `step` steps (default: the last); `dtype` is a torch number type, or the run's.

        Raises:
            FileNotFoundError: training did not end, or no projector was saved at that step.
            ValueError: the run asks yes/no questions, which have no word to be read.
        """
        step = check(run, step)
        bench = open_bench(run)
        load_projector(bench.vlm.projector, run.require_snapshot(step))
        if dtype != "run":
            bench.vlm.model.to(getattr(torch, dtype))  # pyright: ignore[reportArgumentType, reportCallIssue]
        return cls(bench, step)

    @property
    def run(self) -> Run:
        """The run."""
        return self.bench.run

    @property
    def makers(self) -> dict[str, str]:
        """What the numbers of this subject are made from: hashes by name; see `Run.makers`."""
        return self.run.makers(self.step)

    def template(self, task: str) -> str:
        """The template in which the run's evaluation puts the question of a task: the first, where it has several.

        Raises:
            KeyError: no such task.
        """
        if task not in TASKS:
            raise KeyError(f"task {task!r} was asked for; known: {', '.join(TASKS)}")
        return templates_of(self.run)[task][0]

    def candidates(self, task: str) -> Candidates:
        """The words that may answer the question of a task.

        Raises:
            ValueError: fewer than two of them can be told apart by their first token.
        """
        if task not in self._candidates:
            taxonomy = self.run.taxonomy
            names = taxonomy.hypernyms if task == "hypernym" else taxonomy.leaves
            tokens = np.array([self.answer(task, name)[0] for name in names])
            alone = np.equal.outer(tokens, tokens).sum(1) == 1
            counted = alone if task == "hypernym" else np.ones_like(alone)
            if alone.sum() < 2:
                raise ValueError(
                    f"{self.run.path} puts the {task} question as {self.template(task)!r}, where the answers of "
                    f"{len(names)} names begin with {len(set(tokens))} different tokens: they cannot be read by their "
                    "first token; evaluate with another template (evaluate.templates)"
                )
            self._candidates[task] = Candidates(tuple(np.array(names)[counted].tolist()), tokens[counted])
        return self._candidates[task]

    @property
    def wording(self) -> dict[str, Any]:
        """How questions are put, where that is not the usual way; a part of the settings of what is kept on disk.

        Empty where templates are those of a default run, without a chat template, and every hypernym can be read.

        Raises:
            ValueError: the words that may answer cannot be read by their first token.
        """
        templates = {task: self.template(task) for task in TASKS}
        read = {task: self.candidates(task).names for task in TASKS}
        unread = sorted(set(self.run.taxonomy.hypernyms).difference(read["hypernym"]))
        chat = self.run.config.data.chat
        if not chat and not unread and all(templates[task] == PROMPTS[task][0] for task in TASKS):
            return {}
        return {"wording": {"templates": templates, "chat": chat, "unread": unread}}

    def row(self, task: str, leaf: str, picture: str = "") -> Row:
        """The tokenised question about a picture or, without one, about the leaf's name; its answer left open."""
        modality: Modality = "image" if picture else "text"
        words = prompts.segments(self.template(task), leaf="" if picture else leaf, modality=modality)
        at = self.bench.picture_index[picture] if picture else -1
        return self.bench.vlm.row(picture or leaf, words, at).prompt

    def share_prefix(self, rows: Sequence[Row]) -> None:
        """Computes once what all rows start with."""
        self.bench.vlm.use_prefix(common_prefix(rows))

    def rows_of(self, task: str, shown: pd.DataFrame) -> Rows:
        """The question of a task about each picture, as the patching engine takes it; the prefix is shared."""
        rows = [self.row(task, leaf, picture) for picture, leaf in zip(shown["picture"], shown["leaf"])]
        self.share_prefix(rows)
        return self.group(rows)

    def group(self, rows: Sequence[Row]) -> Rows:
        """Rows of one length as the patching engine takes them; picture or name stands in the span "slot"."""
        spans = dict(rows[0].spans)
        spans["slot"] = spans.pop(prompts.span_name("slot", "image" if rows[0].picture >= 0 else "text"))
        return Rows(partial(self._inputs, rows), spans, len(self.bench.vlm.prefix_ids))

    def ask(self, task: str, shown: pd.DataFrame) -> Question:
        """The question of a task about some pictures, and the pass in which nothing is changed."""
        model, leaves = self.bench.vlm.model, shown["leaf"].to_numpy().astype(str)
        candidates = self.candidates(task)
        clean = keep(model, self.rows_of(task, shown))
        answers = Answers.of(model, candidates.tokens.tolist())
        return Question(
            task, candidates, leaves, self.own(task, leaves), clean, Restart(model, clean), answers
        )

    def own(self, task: str, leaves: np.ndarray) -> Bool[np.ndarray, "rows names"]:
        """Which of the words that may answer are right for each leaf."""
        names, taxonomy = self.candidates(task).names, self.run.taxonomy
        if task == "leaf":
            return leaves[:, None] == np.array(names)[None]
        columns = [taxonomy.hypernyms.index(name) for name in names]
        return np.asarray(taxonomy.labels(leaves.tolist()))[:, columns]

    def answer(self, task: str, name: str) -> tuple[int, ...]:
        """The tokens of a name as the answer to the question of a task."""
        template = self.template(task)
        hypernym, leaf = (name, "") if task == "hypernym" else ("", name)
        return self.bench.vlm.answer(prompts.segments(template, hypernym=hypernym, leaf=leaf))

    def _inputs(self, rows: Sequence[Row]) -> Mapping[str, object]:
        """Inputs on which no gradient of the projector hangs."""
        inputs = self.bench.vlm.inputs(rows, self.bench.features)
        return {
            name: value.detach() if isinstance(value, Tensor) else value for name, value in inputs.items()
        }


def check(run: Run, step: int | None = None) -> int:
    """The step of the projector that is asked for; refuses before anything is loaded what `Subject.of` refuses."""
    last = run.record["steps"]
    if prompts.FORMATS[run.config.data.task].answers:
        raise ValueError(
            f"{run.path} was trained on data.task={run.config.data.task}; this analysis reads the word that completes "
            "a prompt: give a run of data.task=completion"
        )
    step = resolve_steps(("last",), last)[0] if step is None else step
    if step not in run.snapshots:
        raise FileNotFoundError(
            f"{run.path} has no projector of step {step}; it was saved at {', '.join(map(str, run.snapshots))}"
        )
    return step


def shown_pictures(run: Run, leaves: Iterable[str] | None = None, per_leaf: int = 1) -> pd.DataFrame:
    """Picture and leaf of the captured test pictures, the first of each leaf's (in a seeded order), sorted by leaf."""
    frame = run.manifest("capture").where(modality="image").frame.astype(str)
    shown = frame[["leaf", "picture"]].drop_duplicates().sort_values(["leaf", "picture"])
    if leaves is not None:
        shown = shown[shown["leaf"].isin(list(leaves))]
    order = [stream(run.config.seed, "pictures to intervene on", name).random() for name in shown["picture"]]
    first = shown.assign(order=order).sort_values(["leaf", "order"]).groupby("leaf").head(per_leaf)
    return first[["picture", "leaf"]].reset_index(drop=True)


def draw_leaves(run: Run, count: int, seed: int = 0) -> list[str]:
    """`count` captured leaves (0: all), a seeded draw, sorted; a larger draw contains a smaller one."""
    known = sorted(set(run.manifest("capture").where(modality="image").frame["leaf"].astype(str)))
    order = stream(seed, "leaves to intervene on").permutation(len(known))
    return sorted(known[at] for at in order[: count or len(known)])
