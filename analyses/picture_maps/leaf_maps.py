"""The maps of one leaf's picture: a number for each token by every method, in place and with tokens shuffled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.inputs.subject import Subject, draw_leaves, mean_logit, shown_pictures
from analyses.picture_maps import places
from analyses.picture_maps.probe import PatchProbe
from probing.hooks import record
from probing.patching.answers import Answers
from probing.patching.runs import forward
from probing.patching.tokens import (
    TokensOfRow,
    attention,
    contributions,
    cut,
    exchanged,
    metric_between,
)
from probing.stats.seeding import stream
from probing.store import MismatchError

MAPS = ("attention", "gradient", "integrated", "cut", "mean", "patch", "probe")
"""Methods by name; `analyses.picture_maps.summary.LABELS` has them in words."""
QUERIES = ("last", "cue")
"""From where attention looks at the picture."""
SHUFFLED = "shuffled "
"""How the names of maps begin that are of pictures whose tokens were shuffled."""
_PICTURES = 32
"""Pictures of which the mean picture token is."""
_TRIED = 20
"""Other leaves of which one with a picture of as many tokens is looked for."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Mapper:
    """What makes the maps of a subject.

    Attributes:
        subject: the model.
        question: "hypernym" or "leaf".
        maps: which methods.
        probe: fitted on pooled pictures of other leaves; None where it is not asked for.
        steps: of integrated gradients.
        seed: of what is drawn.
    """

    subject: Subject
    question: str
    maps: Sequence[str]
    probe: PatchProbe | None
    steps: int
    seed: int

    def check(self, pictures: pd.DataFrame) -> None:
        """Refuses pictures that the subject's world has not.

        Raises:
            MismatchError: there is one.
        """
        if lost := sorted(set(pictures["picture"]) - set(self.subject.bench.picture_index)):
            raise MismatchError(
                f"maps of {lost[0]} were asked for, and {len(lost) - 1} more; {self.subject.run.path} was trained in a "
                "world without it: give a placebo run with the same data.pictures"
            )

    def cost(self, leaf: str, picture: str, count: int) -> str:
        """What the maps of so many pictures like this one take, in words."""
        tokens = self.tokens(leaf, picture)
        passes = {"gradient": 3, "integrated": 3 * self.steps + 2, "attention": 1, "probe": 1}
        each = 2 * sum(passes.get(name, len(tokens) + 1) for name in self.maps)
        return (
            f"{count} pictures of {len(tokens)} patches: about {count * each:,} forward passes of {tokens.length} "
            f"tokens ({each} a picture, half of them with shuffled patches)"
        )

    def arrays(self, leaf: str, picture: str) -> Arrays:
        """Places of the tokens and every map of a picture: [tokens], of attention [layers, heads, tokens]."""
        tokens, boxes = self.tokens(leaf, picture), places.boxes_of(self.subject, picture)
        assert len(tokens) == len(boxes)
        arrays = {"boxes": boxes, **self._maps(leaf, tokens)}
        order = stream(self.seed, "shuffled patches", leaf).permutation(len(tokens)).tolist()
        shuffled = self._maps(leaf, tokens.shuffled(order))
        return arrays | {SHUFFLED + name: values for name, values in shuffled.items()}

    def tokens(self, leaf: str, picture: str) -> TokensOfRow:
        """The picture tokens of the question about a picture."""
        row = self.subject.row(self.question, leaf, picture)
        self.subject.share_prefix([row])
        rows = self.subject.group([row])
        return TokensOfRow(
            self.subject.bench.vlm.model, lambda n: self.subject.group([row] * n), tuple(rows.spans["slot"])
        )

    def _maps(self, leaf: str, tokens: TokensOfRow) -> Arrays:
        methods: Mapping[str, Callable[[str, TokensOfRow], Mapping[str, Tensor | np.ndarray]]] = {
            "attention": self._attention,
            "gradient": lambda leaf, tokens: {"gradient": self._contributions(leaf, tokens, 0)},
            "integrated": self._integrated,
            "cut": lambda leaf, tokens: {"cut": self._lost(leaf, tokens, cut(tokens, self._read))},
            "mean": lambda leaf, tokens: {"mean": self._exchanged(leaf, tokens, self._mean_token)},
            "patch": self._patched,
            "probe": self._probed,
        }
        arrays: Arrays = {}
        for name in self.maps:
            for key, value in methods[name](leaf, tokens).items():
                arrays[key] = np.asarray(value, np.float32)
        return arrays

    def _attention(self, leaf: str, tokens: TokensOfRow) -> dict[str, Tensor]:
        spans = tokens.rows().spans
        queries = [spans["last"], tuple(at for at in spans["cue"] if at not in spans["last"])]
        looks = attention(tokens, [at for span in queries for at in span])
        own, first, arrays = list(tokens.places), 0, {"layers": torch.tensor(looks.layers)}
        for name, span in zip(QUERIES, queries):
            some = slice(first, first + len(span))
            first += len(span)
            if span:
                arrays[f"heads.{name}"] = looks.heads[:, :, some].mean(2)[..., own].cpu()
                arrays[f"rollout.{name}"] = looks.rolled[some].mean(0)[own].cpu()
        return arrays

    def _contributions(self, leaf: str, tokens: TokensOfRow, steps: int) -> Tensor:
        return contributions(tokens, self._mean_token, self._metric(leaf), steps).cpu()

    def _integrated(self, leaf: str, tokens: TokensOfRow) -> dict[str, Tensor]:
        ends = metric_between(tokens, self._mean_token, self._metric(leaf), [1.0, 0.0]).cpu()
        return {"integrated": self._contributions(leaf, tokens, self.steps), "ends": ends}

    def _patched(self, leaf: str, tokens: TokensOfRow) -> dict[str, Tensor | np.ndarray]:
        """What is lost where a token comes from the same place of a picture of a leaf that shares no hypernym."""
        taxonomy, shown = self.subject.run.taxonomy, self._shown
        own = set(taxonomy.hypernyms_of(leaf))
        others = [name for name in shown["leaf"] if not own.intersection(taxonomy.hypernyms_of(name))]
        order = stream(self.seed, "another leaf's patches", leaf).permutation(len(others))[:_TRIED]
        for other in (others[at] for at in order):
            picture = shown.loc[shown["leaf"] == other, "picture"].iloc[0]
            states = self.tokens(other, picture).embedded
            if len(states) == len(tokens):
                states = states[list(tokens.order)] if tokens.order else states
                return {"patch": self._exchanged(leaf, tokens, states)}
        return {"patch": np.full(len(tokens), np.nan)}

    def _probed(self, leaf: str, tokens: TokensOfRow) -> dict[str, np.ndarray]:
        assert self.probe is not None
        own = [place - tokens.rows().skip for place in tokens.places]
        with torch.no_grad(), record(tokens.model, list(self.probe.sites)) as seen:
            forward(tokens.model, tokens.rows())
        states = {site: seen[site][0, own].float().cpu().numpy() for site in self.probe.sites}
        return {f"probe.{site}": self.probe.scores(site, leaf, values) for site, values in states.items()}

    def _exchanged(self, leaf: str, tokens: TokensOfRow, states: Tensor) -> np.ndarray:
        states = states.expand(len(tokens), -1)
        return self._lost(leaf, tokens, exchanged(tokens, states, self._read))

    def _lost(self, leaf: str, tokens: TokensOfRow, logits: Float[Tensor, "tokens names"]) -> np.ndarray:
        """The log-odds that are lost with each edit, in nats."""
        hidden = forward(tokens.model, tokens.rows()).last_hidden_state[:, -1]
        return (self._odds(leaf, self._read(hidden)) - self._odds(leaf, logits)).cpu().numpy()

    def _metric(self, leaf: str) -> Callable[[Tensor], Tensor]:
        return lambda hidden: self._odds(leaf, self._read(hidden))

    def _odds(self, leaf: str, logits: Float[Tensor, "rows names"]) -> Float[Tensor, " rows"]:
        """Mean log-odds of the right names against all wrong ones, in nats, as `Question.margin` has it."""
        own = self.subject.own(self.question, np.array([leaf]))
        wrong = ~own & ~self.subject.candidates(self.question).alike(own)
        each = np.eye(own.shape[1])
        weights = mean_logit(each, np.repeat(own, len(each), 0))
        weights = weights - mean_logit(each, np.repeat(wrong, len(each), 0))
        return logits @ torch.tensor(weights, dtype=logits.dtype, device=logits.device)

    @cached_property
    def _read(self) -> Answers:
        tokens = self.subject.candidates(self.question).tokens.tolist()
        return Answers.of(self.subject.bench.vlm.model, tokens)

    @cached_property
    def _shown(self) -> pd.DataFrame:
        return shown_pictures(self.subject.run)

    @cached_property
    def _mean_token(self) -> Float[Tensor, " width"]:
        """The mean picture token of a seeded draw of pictures."""
        shown = shown_pictures(self.subject.run, draw_leaves(self.subject.run, _PICTURES, self.seed))
        states = [
            self.tokens(leaf, picture).embedded.float().mean(0)
            for leaf, picture in zip(shown["leaf"], shown["picture"])
        ]
        return torch.stack(states).mean(0)
