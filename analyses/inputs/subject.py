"""Test pictures of a run with a question put to them: words that may answer, and the pass that nothing changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from probing.patching.answers import Answers
from probing.patching.restart import Restart
from probing.patching.runs import Kept, Rows, keep
from probing.stats.seeding import stream
from taxogen.models.vlm import common_prefix
from taxogen.questions import prompts
from taxogen.questions.items import PROMPTS
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from taxogen.stages.pipeline import Bench
from taxogen.stages.train import load_projector, resolve_steps
from taxogen.world.taxonomy import Taxonomy

TASKS = ("hypernym", "leaf")
SLOT = "image"  # what rows of pictures call the span that tables call "slot"


@dataclass(frozen=True)
class Asked:
    """One question about some pictures, and the pass in which nothing was changed.

    Attributes:
        task: "hypernym" (is a kind of …) or "leaf" (is also called …).
        names: words that may answer; each is read by the first of its tokens.
        leaves: what each row's picture is called.
        own: which names are right for each row.
        alike: which others begin with the same token as a right one, so that they cannot be told from it.
        kept: the clean pass; `restart` goes on from its middle, `answers` reads the logits of the names.
    """

    task: str
    names: tuple[str, ...]
    leaves: np.ndarray
    own: Bool[np.ndarray, "rows names"]
    alike: Bool[np.ndarray, "rows names"]
    kept: Kept
    restart: Restart
    answers: Answers

    def __len__(self) -> int:
        return len(self.leaves)

    def read(self, hidden: Tensor) -> Tensor:
        """Logits of the names; their differences are differences of log-probabilities, in nats."""
        return self.answers(hidden)

    def positions(self, span: str) -> tuple[int, ...]:
        """Where a span stands, in the tokens after the cached prefix."""
        return self.kept.rows.positions(span)

    def margin(
        self, logits: Float[np.ndarray, "*edits rows names"], without: Sequence[str] = ()
    ) -> Float[np.ndarray, "*edits rows"]:
        """Mean log-odds of a row's right names against all wrong ones, in nats; `without` takes part on neither side.

        Not-a-number in rows that have no right name left.
        """
        taking_part = ~np.isin(self.names, list(without))
        right = self.own & taking_part
        wrong = ~self.own & ~self.alike & taking_part
        return over(logits, right) - over(logits, wrong)


def over(
    logits: Float[np.ndarray, "*edits rows names"], chosen: Bool[np.ndarray, "rows names"]
) -> Float[np.ndarray, "*edits rows"]:
    """Mean logit of each row's chosen names; not-a-number in rows without any."""
    count = chosen.sum(-1)
    total = np.where(chosen, logits, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def open_at(run: Run, step: int | None = None) -> tuple[Bench, int]:
    """The bench of a trained run with its projector as it was after `step` steps (default: the last), and that step.

    Raises:
        FileNotFoundError: training did not end, or no projector was saved at that step.
    """
    last = run.record["steps"]
    step = resolve_steps(("last",), last)[0] if step is None else step
    if step not in run.snapshots:
        raise FileNotFoundError(
            f"{run.path} has no projector of step {step}; it was saved at {', '.join(map(str, run.snapshots))}"
        )
    bench = pipeline.open_bench(run)
    load_projector(bench.vlm.projector, run.snapshot(step))
    return bench, step


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
    """So many leaves (0: all), a seeded draw over all captured ones, sorted; a larger draw contains a smaller one."""
    known = sorted(set(run.manifest("capture").where(modality="image").frame["leaf"].astype(str)))
    order = stream(seed, "leaves to intervene on").permutation(len(known))
    return sorted(known[at] for at in order[: count or len(known)])


def ask(bench: Bench, task: str, shown: pd.DataFrame) -> Asked:
    """The question of a task about some pictures.

    Raises:
        KeyError: no such task.
    """
    if task not in TASKS:
        raise KeyError(f"task {task!r} was asked for; known: {', '.join(TASKS)}")
    vlm, taxonomy = bench.vlm, bench.run.taxonomy
    leaves = shown["leaf"].to_numpy().astype(str)
    names, own = _right_names(task, taxonomy, leaves)
    tokens = first_tokens(bench, task, names)
    same = np.equal.outer(tokens, tokens)
    kept = keep(vlm.model, rows_of(bench, PROMPTS[task][0], shown))
    return Asked(
        task,
        names,
        leaves,
        own,
        (own.astype(int) @ same.astype(int) > 0) & ~own,
        kept,
        Restart(vlm.model, kept),
        Answers.of(vlm.model, tokens.tolist()),
    )


def _right_names(
    task: str, taxonomy: Taxonomy, leaves: np.ndarray
) -> tuple[tuple[str, ...], Bool[np.ndarray, "rows names"]]:
    if task == "hypernym":
        return taxonomy.hypernyms, taxonomy.labels(leaves.tolist())
    return taxonomy.leaves, leaves[:, None] == np.array(taxonomy.leaves)[None]


def first_tokens(bench: Bench, task: str, names: Sequence[str]) -> np.ndarray:
    """The first token of each name as an answer to the question of a task."""
    prompt = PROMPTS[task][0]
    answers = [prompts.segments(prompt, **{task: name}).answer for name in names]  # pyright: ignore[reportArgumentType]
    return np.array([bench.vlm.tokens(answer)[0] for answer in answers])


def rows_of(bench: Bench, prompt: str, shown: pd.DataFrame) -> Rows:
    """The tokenised prompt about each picture; what all share, up to the picture, is the cached prefix."""
    index = bench.picture_index
    rows = [bench.vlm.row(name, prompts.segments(prompt), index[name]) for name in shown["picture"]]
    bench.vlm.use_prefix(common_prefix(rows))
    spans = {("slot" if span == SLOT else span): at for span, at in rows[0].spans.items()}
    return Rows(partial(_inputs, bench, rows), spans, len(bench.vlm.prefix_ids))


def _inputs(bench: Bench, rows: Sequence) -> dict[str, object]:
    return bench.vlm.inputs(rows, bench.features)
