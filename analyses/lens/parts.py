"""Lenses on a run: how likely a layer finds the words for what is shown, at every picture and cue token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analyses.inputs.subject import Subject
from analyses.lens.rows import COSINES
from analyses.lens.tokens import Tokens
from analyses.lens.words import TARGETS, Words
from probing.lens import LogitLens, fit_translator, nearest_words, unit_rows, word_evidence
from probing.sites import EMBED

ROWS = 128  # whose logits over the whole vocabulary are in memory at once


@dataclass(frozen=True)
class LensInputs:
    """What lenses are looked through with.

    Attributes:
        tokens: of each modality.
        words: of each target.
        leaves: of the words, in their order.
        sample: leaves that are looked at; translators are fitted on all.
        fold: leaf → the fold that holds it out.
        final: the site behind the last layer, to which translators translate.
        lens: the model's own final norm and output embedding.
    """

    tokens: Mapping[str, Tokens]
    words: Mapping[str, Words]
    leaves: tuple[str, ...]
    sample: frozenset[str]
    fold: Mapping[str, int]
    final: str
    lens: LogitLens


@dataclass(frozen=True)
class View:
    """Some tokens of a modality, seen through a lens; `logits` of a few of their states, or cosines."""

    tokens: Tokens
    chosen: Bool[np.ndarray, " tokens"]
    lens: str
    modality: str
    logits: Callable[[Tensor], Tensor]

    @classmethod
    def on(cls, inputs: LensInputs, modality: str, lens: str, logits: Callable[[Tensor], Tensor]) -> View:
        """The tokens of the leaves that are looked at."""
        tokens = inputs.tokens[modality]
        return cls(tokens, np.isin(tokens.leaf, sorted(inputs.sample)), lens, modality, logits)

    def of(self, states: Tensor) -> Tensor:
        """The states of the tokens that are looked at, of all states."""
        return states[torch.tensor(self.chosen)]


def look(inputs: LensInputs, site: str) -> pd.DataFrame:
    """How likely the words are at a site, through each lens; one row a leaf, modality, span, lens, target and kind."""
    tables: list[pd.DataFrame] = []
    for modality, tokens in inputs.tokens.items():
        for lens, states in (("logit", tokens.states[site]), ("tuned", translated(inputs, tokens, site))):
            view = View.on(inputs, modality, lens, inputs.lens)
            tables += evidence_in(inputs, view, view.of(states))
    if site == EMBED and "image" in inputs.tokens:
        tokens = inputs.tokens["image"]
        chosen = np.isin(tokens.leaf, sorted(inputs.sample)) & tokens.in_span["slot"]
        table = unit_rows(inputs.lens.head.weight.detach().float())  # pyright: ignore[reportArgumentType, reportCallIssue]
        view = View(tokens, chosen, "cosine", "image", lambda states: unit_rows(states.float()) @ table.T)
        tables += evidence_in(inputs, view, view.of(tokens.states[site]))
    return pd.concat(tables, ignore_index=True).assign(site=site)


def translated(inputs: LensInputs, tokens: Tokens, site: str) -> Float[Tensor, "tokens width"]:
    """States as the last layer would have them, by translators fitted on the leaves of all other folds."""
    if site == inputs.final:
        return tokens.states[site]
    hidden, final = (tokens.states[name].double().cpu().numpy() for name in (site, inputs.final))
    fold, translation = np.array([inputs.fold[leaf] for leaf in tokens.leaf]), np.empty_like(hidden)
    for held_out in sorted(set(fold)):
        others = fold != held_out
        translator = fit_translator(hidden[others], final[others], tokens.leaf[others])
        translation[~others] = translator(hidden[~others])
    return torch.tensor(translation, dtype=torch.float32)


@torch.no_grad()
def evidence_in(
    inputs: LensInputs, view: View, states: Tensor, spans: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """Means over the tokens of each leaf and span, of own words and of others'."""
    tokens, place = view.tokens, {leaf: at for at, leaf in enumerate(inputs.leaves)}
    leaf_at = np.array([place[leaf] for leaf in tokens.leaf[view.chosen]])
    ids = torch.cat([inputs.words[target].ids for target in TARGETS], 1)[torch.tensor(leaf_at)]
    evidence, log_rank = _words_in(view, states, ids)
    first = 0
    for target in TARGETS:
        words = inputs.words[target]
        columns, first = slice(first, first + words.ids.shape[1]), first + words.ids.shape[1]
        for kind, weights in (("own", words.own), ("other", words.other)):
            share = weights[leaf_at]
            frame = pd.DataFrame(
                {
                    "leaf": tokens.leaf[view.chosen],
                    "evidence": (evidence[:, columns] * share).sum(1),
                    "log10_rank": (log_rank[:, columns] * share).sum(1),
                }
            )
            labels = {"lens": view.lens, "target": target, "words": kind}
            for span in spans or tokens.in_span:
                mask = tokens.in_span[span]
                means = frame[mask[view.chosen]].groupby("leaf", as_index=False).mean()
                if len(means):
                    yield means.assign(modality=view.modality, span=span, **labels)


def _words_in(
    view: View, states: Tensor, ids: Tensor
) -> tuple[Float[np.ndarray, "tokens words"], Float[np.ndarray, "tokens words"]]:
    """Evidence for each word at each token (its log-probability in nats, or its cosine) and log10 of its rank."""
    values, ranks = [], []
    for start in range(0, len(states), ROWS):
        logits, words = view.logits(states[start : start + ROWS]), ids[start : start + ROWS]
        log_probs, rank = word_evidence(logits, words)
        values.append(logits.gather(1, words) if view.lens in COSINES else log_probs)
        ranks.append(rank)
    return torch.cat(values).double().numpy(), np.log10(torch.cat(ranks).numpy())


def nearest(subject: Subject, tokens: Tokens, shown: pd.DataFrame, k: int = 5) -> pd.DataFrame:
    """The words nearest to each projected picture token, a row a word; place 1 is the nearest."""
    vlm, mask = subject.bench.vlm, tokens.in_span["slot"]
    vectors = tokens.states[EMBED][torch.tensor(mask)].float()
    ids, cosines = nearest_words(vectors, vlm.embedding.weight.detach().float(), k)
    number = pd.Series(tokens.row[mask]).groupby(tokens.row[mask]).cumcount().to_numpy()
    return pd.DataFrame(
        {
            "picture": np.repeat(shown["picture"].to_numpy()[tokens.row[mask]], k),
            "leaf": np.repeat(tokens.leaf[mask], k),
            "token": np.repeat(number, k),
            "place": np.tile(np.arange(1, k + 1), len(number)),
            "word": vlm.lm.tokenizer.batch_decode(ids.reshape(-1, 1).tolist()),
            "cosine": cosines.reshape(-1).cpu().numpy(),
        }
    )
