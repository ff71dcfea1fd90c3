"""Answers of one run, and the subset of them that a number of the `behaviour` analysis is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from taxogen.answers import baselines, readout_about
from taxogen.answers.evaluate import Scores
from taxogen.answers.rows import labels_of, named_leaves, only_leaves
from taxogen.questions import ablation
from taxogen.questions.ablation import Removal
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy


@dataclass(frozen=True)
class Part:
    """Which read-outs a number rests on.

    Attributes:
        modality: image, or text for the leaf's name in the same prompt.
        scored: held_out (pairs of leaf and hypernym whose evidence was removed), seen (the others), or all.
        leaves: all; named, for those that the model names correctly; or both_named, in a contrast.
        baseline: empty for the model itself.
        decision: when an answer is Yes. prevalence: for as many pictures as have the hypernym, the highest read-outs
            first (a completion's read-out has no threshold of its own); calibrated: above the threshold that was
            best on validation pictures; zero: where Yes is likelier than No.
    """

    modality: str = "image"
    scored: str = "all"
    leaves: str = "all"
    baseline: str = ""
    decision: str = "prevalence"


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of one run.

    Attributes:
        seed: of the run.
        scores: its read-outs.
        taxonomy: of the leaves that it shows.
        removal: which evidence was taken out of its training.
        effective: the share of hypernym questions that this really removed, from the training manifest.
        baselines: read-outs of the same rows by other rules, by name.
        naming: for each test picture the leaf that the model calls it, out of all; empty where not known.
    """

    seed: int
    scores: Scores
    taxonomy: Taxonomy
    removal: Removal
    effective: float
    baselines: Mapping[str, Float[np.ndarray, "rows k"]] = field(default_factory=dict)
    naming: Sequence[str] = ()

    @classmethod
    def of(cls, run: Run) -> Answers:
        """The answers of an evaluated run.

        Raises:
            FileNotFoundError: it was not trained to the end, or not evaluated; the command is named.
        """
        scores, data, stored = Scores.read(run), run.config.data, run.file(baselines.FILE).is_file()
        options = {"fraction": data.fraction, "rule": data.rule or None, "held_out": data.held_out}
        steps = run.record["provenance"]
        return cls(
            run.config.seed,
            scores,
            run.taxonomy,
            ablation.plan(run.taxonomy, data.ablation, **options, seed=run.config.seed),
            next(float(step["effective"]) for step in steps if step.get("operation") == "ablate"),
            baselines.baselines(run) if stored else _from_text(scores),
            baselines.named_leaves(run) if stored else (),
        )

    @property
    def decisions(self) -> tuple[str, ...]:
        """The ways in which this run's answers can be decided to be Yes, the first to be looked at."""
        ways = readout_about(self.scores.about).decisions
        return tuple(way for way in ways if way != "calibrated" or self.scores.thresholds is not None)

    @property
    def leaves(self) -> Shaped[np.ndarray, " rows"]:
        """The leaf name of each test picture in this run's world."""
        return self.scores.image["leaf"].to_numpy(str)

    @cached_property
    def named(self) -> tuple[str, ...]:
        """The leaves that the model names correctly on at least half of their pictures."""
        return named_leaves(self.leaves.tolist(), self.scores.leaf_correct)

    @cached_property
    def pairs(self) -> dict[str, Bool[np.ndarray, "leaves k"]]:
        """Pairs of leaf and hypernym by what happened to their evidence; kinds without a true pair are left out."""
        removed, true = self.removal.scored, self.removal.true
        kept = true & ~self.removal.pairs
        found = {"held_out": removed, "seen": kept | (~true & kept.any(axis=0))}
        found = {name: pairs for name, pairs in found.items() if (pairs & true).any()}
        return found | ({"all": np.ones_like(true)} if len(found) > 1 else {})

    def read(
        self, part: Part, only: Sequence[str] | None = None
    ) -> tuple[Float[np.ndarray, "rows k"], Bool[np.ndarray, "rows k"], Shaped[np.ndarray, " rows"]]:
        """Read-outs (NaN where a pair is not scored), labels and leaves of the rows of a part."""
        table = self.scores.image if part.modality == "image" else self.scores.text
        values = self.scores.image_scores if part.modality == "image" else self.scores.text_scores
        if part.baseline:
            # The majority answer is the same for every picture, so it needs no read-out.
            values = np.zeros_like(values) if part.baseline == "majority" else self.baselines[part.baseline]
        place = {leaf: row for row, leaf in enumerate(self.taxonomy.leaves)}
        leaves = table["leaf"].to_numpy(str)
        columns = [self.taxonomy.hypernyms.index(name) for name in self.scores.hypernyms]
        scored = self.pairs.get(part.scored, np.ones_like(self.removal.true))
        asked = scored[[place[leaf] for leaf in leaves]][:, columns]
        values = np.where(asked, values.astype(np.float64), np.nan)
        if part.leaves != "all":
            values = only_leaves(values, table, self.named if only is None else only)
        return values, labels_of(table, self.taxonomy, self.scores.hypernyms), leaves


def _from_text(scores: Scores) -> dict[str, Float[np.ndarray, "rows k"]]:
    """The baseline that needs no other file: the read-outs of the language model for the leaf's name."""
    place = pd.Series(range(len(scores.text)), index=scores.text["leaf"])
    return {"gold": scores.text_scores[place[scores.image["leaf"]].to_numpy()]}
