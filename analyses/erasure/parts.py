"""Erasure and steering tried out: every picture's read-outs under every edit of a span behind a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from analyses.inputs.span_states import SpanStates, SpanWhitening, exchanged, post
from analyses.inputs.subject import Asked, over
from probing.edits.steering import projection_std
from probing.patching.cells import Cell, Patch
from probing.sites import Site
from probing.stats.seeding import stream
from taxogen.world.taxonomy import Taxonomy

EDITS = ("none", "erased", "random", "shuffled")
DIRECTIONS = ("mass_mean", "probe", "text")
CONTROLS = ("random", "shuffled")
States = Float[np.ndarray, "rows k d"]


@dataclass(frozen=True)
class Place:
    """A span behind a layer."""

    layer: int
    span: str

    @property
    def name(self) -> str:
        """How its part is called."""
        return f"{self.span}-{self.layer:03d}"

    @classmethod
    def parse(cls, name: str) -> Place:
        """The inverse of `name`."""
        span, layer = name.rsplit("-", 1)
        return cls(int(layer), span)


@dataclass(frozen=True)
class World:
    """What every part needs: the questions, the states that edits are fitted on, the taxonomy and the hypernyms."""

    asked: Mapping[str, Asked]
    states: Mapping[str, SpanStates]
    taxonomy: Taxonomy
    hypernyms: tuple[str, ...]
    fold: np.ndarray  # of the asked pictures
    shrinkage: float
    seed: int

    def members(self, leaves: np.ndarray, hypernym: str) -> np.ndarray:
        """Which pictures are of a leaf under the hypernym."""
        return np.isin(leaves, self.taxonomy.leaves_of(hypernym))

    def overlapping(self, hypernym: str) -> tuple[str, ...]:
        """Hypernyms that share a leaf with this one, itself among them."""
        leaves = set(self.taxonomy.leaves_of(hypernym))
        return tuple(name for name in self.taxonomy.hypernyms if leaves & set(self.taxonomy.leaves_of(name)))


def choose_hypernyms(taxonomy: Taxonomy, count: int, share: float = 1 / 6) -> tuple[str, ...]:
    """The largest hypernyms with at most that share of all leaves, no two with a leaf in common."""
    limit = share * len(taxonomy.leaves)
    chosen: list[str] = []
    taken: set[str] = set()
    for name in sorted(taxonomy.hypernyms, key=lambda name: (-len(taxonomy.leaves_of(name)), name)):
        leaves = set(taxonomy.leaves_of(name))
        if len(leaves) <= limit and not leaves & taken and len(chosen) < count:
            chosen.append(name)
            taken |= leaves
    return tuple(chosen)


def choose_leaves(
    taxonomy: Taxonomy, known: Sequence[str], hypernyms: Sequence[str], each: int, others: int, seed: int
) -> list[str]:
    """So many leaves under each hypernym, and others under none of them; seeded, a larger draw holds a smaller one."""
    groups = {name: set(taxonomy.leaves_of(name)) & set(known) for name in hypernyms}
    groups[""] = set(known).difference(*groups.values())
    chosen: list[str] = []
    for name, leaves in groups.items():
        ordered = sorted(leaves)
        order = stream(seed, "leaves to intervene on", name).permutation(len(ordered))
        chosen += [ordered[at] for at in order[: each if name else others]]
    return sorted(set(chosen))


def erase(world: World, place: Place) -> pd.DataFrame:
    """Read-outs of every picture with each hypernym erased at a place, and under the controls; one row a picture."""
    logits = {
        task: _answers(asked, place, list(_erased_states(world, task, place)))
        for task, asked in world.asked.items()
    }
    edits = [("none", world.hypernyms[0])] + [(edit, name) for name in world.hypernyms for edit in EDITS[1:]]
    tables = []
    for name in world.hypernyms:
        for at, (edit, of) in enumerate(edits):
            if edit == "none" or of == name:
                found = {task: values[at] for task, values in logits.items()}
                tables.append(read_outs(world, name, found).assign(hypernym=name, edit=edit))
    return pd.concat(tables, ignore_index=True).assign(layer=place.layer, span=place.span)


def _erased_states(world: World, task: str, place: Place) -> Iterator[States]:
    """The states that are put into the place: untouched, then for each hypernym erased and its controls."""
    asked, fitted_on = world.asked[task], world.states[task]
    clean = clean_states(asked, place)
    yield clean
    folds = sorted(set(world.fold))
    trained = {fold: fitted_on.train(fold, place.layer, place.span) for fold in folds}
    white = {fold: SpanWhitening.of(states, world.shrinkage) for fold, (states, _) in trained.items()}
    for number, name in enumerate(world.hypernyms):
        made = {edit: clean.copy() for edit in EDITS[1:]}
        for fold in folds:
            leaves, held = trained[fold][1], world.fold == fold
            labels = dict(zip(leaves.tolist(), world.members(leaves, name).tolist()))
            other = exchanged(labels, name, seed=world.seed)
            seed = 1_000_003 * world.seed + 1_009 * number + 31 * place.layer + fold
            erasers = {
                "erased": white[fold].erase(np.array([labels[leaf] for leaf in leaves])),
                "random": white[fold].erase_randomly(1, seed),
                "shuffled": white[fold].erase(np.array([other[leaf] for leaf in leaves])),
            }
            for edit, eraser in erasers.items():
                made[edit][held] = eraser(clean[held])
        yield from made.values()


def clean_states(asked: Asked, place: Place) -> States:
    """What stands at a place when nothing is changed."""
    states = asked.kept.states[place.layer + 1][:, list(asked.positions(place.span))]
    return states.double().cpu().numpy()


def _answers(asked: Asked, place: Place, states: Sequence[States]) -> Float[np.ndarray, "edits rows names"]:
    """Logits of the names when each of these states is put into the place, one pass for all of them."""
    cell = Cell((Site("hook_resid_post", place.layer),), place.span)
    patches = [
        Patch(
            cell,
            {post(place.layer): torch.tensor(value, dtype=torch.float32, device=asked.kept.hidden.device)},
        )
        for value in states
    ]
    return asked.restart.run(patches, asked.read).double().cpu().numpy()


def read_outs(
    world: World, hypernym: str, logits: Mapping[str, Float[np.ndarray, "rows names"]]
) -> pd.DataFrame:
    """For each picture how far the model means the hypernym, its other hypernyms, and its leaf; in nats.

    Columns: leaf, member (is it under the hypernym), target (log-odds of the hypernym against all that share no leaf
    with it), other (log-odds of its other hypernyms against wrong ones), leaf_margin (log-odds of its name against
    other names).
    """
    kinds = world.asked["hypernym"]
    values = logits["hypernym"]
    apart = ~np.isin(kinds.names, world.overlapping(hypernym))
    target = values[:, kinds.names.index(hypernym)] - over(values, np.repeat(apart[None], len(kinds), 0))
    found = {
        "leaf": kinds.leaves,
        "member": world.members(kinds.leaves, hypernym),
        "target": target,
        "other": kinds.margin(values, without=(hypernym,)),
    }
    if "leaf" in logits:
        found["leaf_margin"] = world.asked["leaf"].margin(logits["leaf"])
    return pd.DataFrame(found)


@dataclass(frozen=True)
class Steering:
    """Doses, in standard deviations of the rows' projection, and given directions: (kind, hypernym) → unit vector.

    `given` is asked for one place at a time; mass-mean directions and the controls are made here.
    """

    doses: tuple[float, ...]
    kinds: tuple[str, ...] = DIRECTIONS[:1]
    given: Mapping[tuple[str, int, str], Mapping[str, np.ndarray]] | None = None


def steer(world: World, place: Place, steering: Steering) -> pd.DataFrame:
    """Read-outs of pictures that are not under a hypernym when they are steered towards it; one row a picture."""
    tables, signed = [], [dose for dose in steering.doses if dose]
    for number, name in enumerate(world.hypernyms):
        vectors = {task: _directions(world, task, place, name, number, steering) for task in world.asked}
        edits = [(kind, dose) for kind in vectors["hypernym"] for dose in signed]
        logits = {}
        for task, asked in world.asked.items():
            clean = clean_states(asked, place)
            states = [clean] + [clean + dose * vectors[task][kind] for kind, dose in edits]
            logits[task] = _answers(asked, place, states)
        for at, (kind, dose) in enumerate([("none", 0.0), *edits]):
            found = {task: values[at] for task, values in logits.items()}
            tables.append(read_outs(world, name, found).assign(hypernym=name, edit=kind, dose=dose))
    table = pd.concat(tables, ignore_index=True).assign(layer=place.layer, span=place.span)
    return table[~table["member"]].reset_index(drop=True)


def _directions(
    world: World, task: str, place: Place, name: str, number: int, steering: Steering
) -> dict[str, Float[np.ndarray, " d"]]:
    """One standard deviation along each direction; the controls are as long as the first of them."""
    states, leaves = world.states[task].train(-1, place.layer, place.span)
    centred = (states - states.mean(0)).mean(1)
    labels = dict(zip(leaves.tolist(), world.members(leaves, name).tolist()))
    other = exchanged(labels, name, seed=world.seed)
    seed = 1_000_003 * world.seed + 1_009 * number + 31 * place.layer
    means = {
        "mass_mean": _difference(centred, np.array([labels[leaf] for leaf in leaves])),
        **{kind: (steering.given or {})[kind, place.layer, place.span][name] for kind in steering.kinds[1:]},
    }
    found = {
        kind: _one_deviation(centred, vector) for kind, vector in means.items() if kind in steering.kinds
    }
    length = float(np.linalg.norm(next(iter(found.values()))))
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(states.shape[-1])
    shuffled = _difference(centred, np.array([other[leaf] for leaf in leaves]))
    for kind, vector in (("random", drawn), ("shuffled", shuffled)):
        found[kind] = vector * length / np.linalg.norm(vector)
    return found


def _one_deviation(
    rows: Float[np.ndarray, "n d"], direction: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " d"]:
    return direction / np.linalg.norm(direction) * projection_std(rows, direction)


def _difference(rows: Float[np.ndarray, "n d"], labels: np.ndarray) -> Float[np.ndarray, " d"]:
    """Difference of class means (Marks & Tegmark 2023, arXiv:2310.06824, section 5.1)."""
    return rows[labels].mean(0) - rows[~labels].mean(0)
