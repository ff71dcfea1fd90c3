"""Lenses on a run: how likely a layer finds the words for what is shown, at every picture and cue token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from analyses.inputs.subject import first_tokens
from probing.hooks import record
from probing.lens import LogitLens, fit_translator, nearest_words, unit_rows, word_evidence
from probing.sites import EMBED
from probing.stats.seeding import stream
from taxogen.models.vlm import Row, common_prefix
from taxogen.questions import prompts
from taxogen.questions.items import PROMPTS
from taxogen.runs.bench import Bench
from taxogen.world.taxonomy import Taxonomy

BATCH, LOOKED_AT = 64, 128
MODALITIES = ("image", "text")
PROMPT = PROMPTS["hypernym"][0]
OTHERS = 4  # leaves whose words a row is compared with
TARGETS = ("leaf", "hypernym")


@dataclass(frozen=True)
class Tokens:
    """States of all picture (or noun) and cue tokens: site → [tokens, width]; whose they are, and which span."""

    states: Mapping[str, Float[Tensor, "tokens width"]]
    row: Int[np.ndarray, " tokens"]
    leaves: np.ndarray  # of the rows
    in_span: Mapping[str, np.ndarray]  # slot, cue, last → mask over tokens

    @property
    def leaf(self) -> np.ndarray:
        """The leaf of each token's row."""
        return self.leaves[self.row]


@dataclass(frozen=True)
class Words:
    """Which tokens of the vocabulary stand for a leaf: its own words, and those of other leaves; row weights sum to 1.

    Weights are not-a-number where a leaf has no such word.
    """

    ids: Int[Tensor, "leaves k"]
    own: Float[np.ndarray, "leaves k"]
    other: Float[np.ndarray, "leaves k"]


@dataclass(frozen=True)
class World:
    """What every part needs: tokens of each modality, the words of each target, which leaves are looked at, folds."""

    tokens: Mapping[str, Tokens]
    words: Mapping[str, Words]
    leaves: tuple[str, ...]
    looked_at: frozenset[str]
    fold: Mapping[str, int]
    final: str
    lens: LogitLens


@torch.no_grad()
def token_states(
    bench: Bench, shown: pd.DataFrame, modality: prompts.Modality, sites: Sequence[str]
) -> Tokens:
    """The states at some sites of every token of the hypernym question about each picture, or each leaf's name."""
    vlm, index = bench.vlm, bench.picture_index
    rows = [
        vlm.row(picture, prompts.segments(PROMPT), index[picture])
        if modality == "image"
        else vlm.row(leaf, prompts.segments(PROMPT, leaf=leaf, modality="text"))
        for picture, leaf in zip(shown["picture"].astype(str), shown["leaf"].astype(str))
    ]
    vlm.use_prefix(common_prefix(rows))
    slot, skip = prompts.span_name("slot", modality), len(vlm.prefix_ids)
    found: dict[str, list[Tensor]] = {site: [] for site in sites}
    for start in tqdm(
        range(0, len(rows), BATCH), desc=f"states, {modality}", unit="batch", leave=False, mininterval=1
    ):
        batch = rows[start : start + BATCH]
        at, places = np.array([(r, p - skip) for r, row in enumerate(batch) for p, _ in _places(row, slot)]).T
        with record(vlm.model, list(sites)) as seen:
            vlm.model.base_model(**{**vlm.inputs(batch, bench.features), "use_cache": True})
        for site, parts in found.items():
            parts.append(seen[site][torch.tensor(at), torch.tensor(places)].clone())
    spans = np.array([(r, *where) for r, row in enumerate(rows) for where in _spans(row, slot)])
    masks: dict[str, np.ndarray] = dict(zip(("slot", "cue", "last"), spans[:, 1:].T.astype(bool)))
    states = {site: torch.cat(parts) for site, parts in found.items()}
    return Tokens(states, spans[:, 0], shown["leaf"].to_numpy().astype(str), masks)


def _places(row: Row, slot: str) -> list[tuple[int, str]]:
    """The position of each token that is looked at, and its span."""
    return [(place, span) for span in (slot, "cue") for place in row.spans[span]]


def _spans(row: Row, slot: str) -> list[tuple[int, int, int]]:
    """Of each token whether it is of the slot, of the cue, and the last."""
    return [
        (int(span == slot), int(span == "cue"), int(place in row.spans["last"]))
        for place, span in _places(row, slot)
    ]


def words_of(bench: Bench, target: str, leaves: Sequence[str], seed: int) -> Words:
    """The words of each leaf by the first of their tokens, and those of `OTHERS` other leaves, drawn by exchange.

    Each word is somebody's own as often as it is another's (but for words that both leaves have, which are left out),
    so that how frequent words are cancels.
    """
    taxonomy: Taxonomy = bench.run.taxonomy
    names = taxonomy.leaves if target == "leaf" else taxonomy.hypernyms
    token = dict(zip(names, first_tokens(bench, target, names).tolist()))

    def said(leaf: str) -> set[int]:
        return {token[name] for name in ((leaf,) if target == "leaf" else taxonomy.hypernyms_of(leaf))}

    partners = _partners(len(leaves), seed)
    own = [said(leaf) for leaf in leaves]
    other = [[word for p in partners[:, i] for word in sorted(own[p] - own[i])] for i in range(len(leaves))]
    width = max(len(a) + len(b) for a, b in zip(own, other))
    ids = np.zeros((len(leaves), width), dtype=np.int64)
    weights = np.zeros((2, len(leaves), width))
    for i, (mine, theirs) in enumerate(zip(own, other)):
        ids[i, : len(mine) + len(theirs)] = [*sorted(mine), *theirs]
        weights[0, i, : len(mine)] = 1 / len(mine)
        weights[1, i, len(mine) : len(mine) + len(theirs)] = 1 / len(theirs) if theirs else 1
        weights[1, i, 0] += 0 if theirs else np.nan
    return Words(torch.tensor(ids), weights[0], weights[1])


def _partners(count: int, seed: int) -> Int[np.ndarray, "draws leaves"]:
    """For each leaf some other leaves: each draw is a shift of one seeded order, so that all serve equally often."""
    order = stream(seed, "words of other leaves").permutation(count)
    shifts = [1 + (draw * (count - 1)) // OTHERS for draw in range(min(OTHERS, count - 1))]
    found = np.empty((len(shifts), count), dtype=np.int64)
    for draw, shift in enumerate(shifts):
        found[draw, order] = np.roll(order, shift)
    return found


def look(world: World, site: str) -> pd.DataFrame:
    """How likely the words are at a site, through each lens; one row a leaf, modality, span, lens, target and kind."""
    tables = []
    for modality, tokens in world.tokens.items():
        chosen = np.isin(tokens.leaf, sorted(world.looked_at))
        for name, states in (
            ("logit", tokens.states[site][torch.tensor(chosen)]),
            ("tuned", _tuned(world, tokens, site)[torch.tensor(chosen)]),
        ):
            tables += _evidence(world, tokens, chosen, _through(world.lens), states, name, modality)
    if site == EMBED and "image" in world.tokens:
        tokens = world.tokens["image"]
        chosen = np.isin(tokens.leaf, sorted(world.looked_at)) & tokens.in_span["slot"]
        table = unit_rows(world.lens.head.weight.detach().float())  # pyright: ignore[reportArgumentType, reportCallIssue]
        near = lambda part: unit_rows(part.float()) @ table.T  # noqa: E731
        tables += _evidence(
            world, tokens, chosen, near, tokens.states[site][torch.tensor(chosen)], "cosine", "image"
        )
    return pd.concat(tables, ignore_index=True).assign(site=site)


def _tuned(world: World, tokens: Tokens, site: str) -> Float[Tensor, "tokens width"]:
    """States as the last layer would have them, by translators that have not seen the leaf."""
    hidden, final = (tokens.states[name].double().cpu().numpy() for name in (site, world.final))
    if site == world.final:
        return tokens.states[site]
    fold, made = np.array([world.fold[leaf] for leaf in tokens.leaf]), np.empty_like(hidden)
    for held in sorted(set(fold)):
        kept = fold != held
        made[~kept] = fit_translator(hidden[kept], final[kept], tokens.leaf[kept])(hidden[~kept])
    return torch.tensor(made, dtype=torch.float32)


def _through(lens: LogitLens):
    return lambda part: lens(part)


@torch.no_grad()
def _evidence(
    world: World, tokens: Tokens, chosen: np.ndarray, say, states: Tensor, lens: str, modality: str
) -> list:
    """Means over the tokens of each row and span, of own words and of others'."""
    place = {leaf: at for at, leaf in enumerate(world.leaves)}
    leaf_at = np.array([place[leaf] for leaf in tokens.leaf[chosen]])
    ids = torch.cat([world.words[target].ids for target in TARGETS], 1)[torch.tensor(leaf_at)]
    values, ranks = [], []
    for start in range(0, len(states), LOOKED_AT):
        logits, part = say(states[start : start + LOOKED_AT]), ids[start : start + LOOKED_AT]
        found, rank = word_evidence(logits, part)
        values.append(logits.gather(1, part) if lens == "cosine" else found)
        ranks.append(rank)
    evidence, log_rank = torch.cat(values).double().numpy(), np.log10(torch.cat(ranks).numpy())
    tables, first = [], 0
    for target in TARGETS:
        words = world.words[target]
        columns, first = slice(first, first + words.ids.shape[1]), first + words.ids.shape[1]
        for kind, weights in (("own", words.own), ("other", words.other)):
            share = weights[leaf_at]
            frame = pd.DataFrame(
                {
                    "leaf": tokens.leaf[chosen],
                    "evidence": (evidence[:, columns] * share).sum(1),
                    "log10_rank": (log_rank[:, columns] * share).sum(1),
                }
            )
            for span, mask in tokens.in_span.items():
                here = frame[mask[chosen]].groupby("leaf", as_index=False).mean()
                tables.append(here.assign(modality=modality, span=span, lens=lens, target=target, words=kind))
    return [table for table in tables if len(table)]


def nearest(bench: Bench, tokens: Tokens, shown: pd.DataFrame, k: int = 5) -> pd.DataFrame:
    """The words nearest to each projected picture token, a row a word; place 1 is the nearest."""
    mask = tokens.in_span["slot"]
    ids, cosines = nearest_words(
        tokens.states[EMBED][torch.tensor(mask)].float(), bench.vlm.embedding.weight.detach().float(), k
    )
    number = pd.Series(tokens.row[mask]).groupby(tokens.row[mask]).cumcount().to_numpy()
    made = pd.DataFrame(
        {
            "picture": np.repeat(shown["picture"].to_numpy()[tokens.row[mask]], k),
            "leaf": np.repeat(tokens.leaf[mask], k),
            "token": np.repeat(number, k),
            "place": np.tile(np.arange(1, k + 1), len(number)),
            "word": bench.vlm.lm.tokenizer.batch_decode(ids.reshape(-1, 1).tolist()),
            "cosine": cosines.reshape(-1).cpu().numpy(),
        }
    )
    return made
