"""Attention knocked out between spans, a window of layers at a time: read-outs of every picture, and of placebos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import nn

from analyses.inputs.subject import Question
from probing.edits.knockout import Edges, between, knock_out
from probing.patching.cells import Cell, Patch
from probing.patching.restart import Restart
from probing.sites import Site
from probing.stats.seeding import stream

PATHS = ("slot → cue", "slot → last", "cue → last", "slot → cue, last")
USUAL_WIDTH = 5
SINK = 0  # the first token takes the attention that goes nowhere (Xiao et al. 2023, arXiv:2309.17453)


@dataclass(frozen=True)
class Window:
    """Layers from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def layers(self) -> range:
        """The layers."""
        return range(self.first, self.last + 1)

    @classmethod
    def parse(cls, text: str) -> Window:
        """The inverse of `str`."""
        first, last = text.split("-")
        return cls(int(first), int(last))


def windows(depth: int, width: int) -> list[Window]:
    """Windows of `width` layers that cover a model one after the other, the last perhaps narrower; then all layers."""
    narrow = [Window(first, min(first + width, depth) - 1) for first in range(0, depth, width)]
    whole = Window(0, depth - 1)
    return narrow if whole in narrow else [*narrow, whole]


def width_of(depth: int) -> int:
    """Layers of a window where none were asked for."""
    return USUAL_WIDTH if depth >= 2 * USUAL_WIDTH else max(1, depth // 2)


def check_paths(paths: Sequence[str]) -> None:
    """Nothing, when all paths are known.

    Raises:
        KeyError: one is not.
    """
    if unknown := [path for path in paths if path not in PATHS]:
        raise KeyError(f"path {unknown[0]!r} was asked for; known: {'; '.join(PATHS)}")


def edges_of(path: str, spans: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, int], ...]:
    """The edges that carry a path: from each token of its target to each token of its source.

    "cue" is the cue without its last token, which answers; that one is "last".

    Raises:
        KeyError: no such path.
    """
    check_paths([path])
    places = {"slot": spans["slot"], "cue": spans["cue"][:-1], "last": spans["last"]}
    source, targets = path.split(" → ")
    return tuple(edge for name in targets.split(", ") for edge in between(places[name], places[source]))


def placebo_edges(
    edges: Edges, first: int, length: int, seed: int, *names: str
) -> tuple[tuple[int, int], ...]:
    """As many edges drawn at random among all of the computed tokens, none to the first token of all.

    Edges of the path can be among them: where a path carries nothing of its own, it is then one more such set.

    Raises:
        ValueError: the prompt has no other set of as many edges.
    """
    known = [edge for edge in between(range(first, length), range(length)) if edge[1] != SINK]
    if len(known) <= len(edges):
        raise ValueError(
            f"a placebo of {len(edges)} edges was asked for, the prompt has {len(known)} in all, so that no other set "
            "can be drawn; ask for a path of fewer edges"
        )
    order = stream(seed, "placebo edges", *names).permutation(len(known))
    return tuple(sorted(known[at] for at in order[: len(edges)]))


def knocked_out(
    model: nn.Module,
    questions: Mapping[str, Question],
    window: Window,
    paths: tuple[str, ...],
    placebos: int,
    seed: int,
) -> pd.DataFrame:
    """Read-outs of every picture with each path blocked in a window, and with placebos; one row a picture and edit.

    A draw of edges is the same in every window, so that all its windows together compare with those of the path.
    """
    tables = []
    for task, question in questions.items():
        rows = question.clean.rows
        length = rows.skip + question.clean.hidden.shape[1]
        restart = _from_any_token(model, question)
        clean = _logits(restart, question, 0, rows.spans["slot"][0])
        tables.append(_read_outs(question, clean).assign(path="", edit="none", draw=0, task=task))
        for path in paths:
            edges = edges_of(path, rows.spans)
            edits = [("knocked out", 0, edges)]
            for draw in range(placebos):
                drawn = placebo_edges(edges, rows.skip, length, seed, path, str(draw))
                edits.append(("placebo", draw, drawn))
            for edit, draw, chosen in edits:
                start = min(query for query, _ in chosen)  # tokens before it stay as they are
                with knock_out(model, chosen, window.layers):
                    logits = _logits(restart, question, window.first, start)
                tables.append(_read_outs(question, logits).assign(path=path, edit=edit, draw=draw, task=task))
    return pd.concat(tables, ignore_index=True).assign(first=window.first, last=window.last)


def _from_any_token(model: nn.Module, question: Question) -> Restart:
    """Passes that go on from the clean one at any token, which is a span of its own."""
    rows = question.clean.rows
    tokens = range(rows.skip, rows.skip + question.clean.hidden.shape[1])
    spans = {str(token): (token,) for token in tokens}
    restart = Restart(model, replace(question.clean, rows=replace(rows, spans=spans)))
    for token in tokens:  # a restart is checked at its first pass: on the model as it is
        _logits(restart, question, len(question.clean.states) - 2, token)
    return restart


def _logits(restart: Restart, question: Question, layer: int, token: int) -> Float[np.ndarray, "rows names"]:
    """Logits of the names by a pass that starts at a layer and token with the states of the clean pass."""
    site, clean = Site("hook_resid_pre", layer), question.clean
    state = clean.states[layer][:, [token - clean.rows.skip]]
    logits = restart.run([Patch(Cell((site,), str(token)), {str(site): state})], question.read)
    return logits[0].double().cpu().numpy()


def _read_outs(question: Question, logits: Float[np.ndarray, "rows names"]) -> pd.DataFrame:
    """Columns: leaf; margin, the log-odds of the right names in nats; top1, whether the first of all is right."""
    best = np.where(question.alike, -np.inf, logits).argmax(1)
    right = question.own[np.arange(len(best)), best].astype(float)
    return pd.DataFrame({"leaf": question.leaves, "margin": question.margin(logits), "top1": right})
