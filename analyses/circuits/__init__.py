"""Which heads and MLPs carry the hypernym, from words and from pictures: one circuit or two?

    python -m analyses.circuits --run RUN [--run RUN2 …] [--ablation resample] [--leaves …] [--random …] [--step …]

Reads: projector snapshots, manifests and taxonomy of each run.
Writes: analyses/circuits/ in each run: circuits.parquet and .csv (with --ablation resample: circuits-resample), figures
(png and svg), effects.h5 (circuits-resample-effects.h5), and a part for each search, test and set of paths, from which
a second start goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd

from analyses.circuits.effects import circuits_effects
from analyses.circuits.figures import draw
from analyses.circuits.halves import MODALITIES, TASK, Half, halves_of
from analyses.circuits.routes import Route, lost, routes_of
from analyses.circuits.rows import EXTRA, SetTest, agreement_row, part_rows, path_rows
from analyses.circuits.search import Arrays, Sets, search_on, sets_of, sizes_of, strata_of, tested_on
from analyses.circuits.sharing import sharing_rows
from analyses.circuits.summary import summary
from analyses.frame import tables
from analyses.frame.analysis import Analysis, Result
from analyses.frame.command_line import EXTENT, TABLE, Resampling, option
from analyses.frame.parts import ARRAYS, Parts, stored, tracked
from analyses.frame.results import one_or_several
from analyses.frame.tables import CAUSES, Evidence
from analyses.inputs.effects import with_effects
from analyses.inputs.subject import Subject
from analyses.inputs.subject import check as check_run
from probing.patching.circuits import parts_of
from probing.stats import draw_weights
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "check", "compute", "draw", "main", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """What is ablated, how sets are found, and how many are tested.

    Attributes:
        step: of a saved projector, by default the last
        ablation: what takes the place of a part's output: its mean over leaves, or that of another leaf
        leaves: leaf concepts that are drawn, 0 for all; sets are found on one half of them and tested on the other
        shares: sizes of the tested sets, as shares of all parts
        integrated: steps of integrated gradients
        tested: parts, drawn at random, that are also ablated each alone
        random: random sets of each kind and size; a p takes 19
        members: of a set that are taken out, one at a time, for minimality
        width: layers that send and receive at a time on a path
    """

    step: int | None = option(None)
    ablation: str = option("mean", choices=("mean", "resample"), role=TABLE)
    leaves: int = option(40, role=EXTENT)
    shares: tuple[float, ...] = option((0.02, 0.05, 0.1, 0.2, 0.5), flag="--share", role=EXTENT)
    integrated: int = option(5)
    tested: int = option(30, role=EXTENT)
    random: int = option(4, role=EXTENT)
    members: int = option(4, role=EXTENT)
    width: int = option(5, flag="--window", role=EXTENT)


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be asked of a run, before anything is loaded.

    Raises:
        ValueError: no random set, member, window or share was asked for, a share outside (0, 1), or leaves of which a
            half has fewer than two.
    """
    for flag, least, value in (
        ("--random", 1, options.random), ("--members", 1, options.members), ("--window", 1, options.width),
        ("--integrated", 0, options.integrated), ("--tested", 0, options.tested), ("--leaves", 0, options.leaves),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"{flag} {value} was asked for; give {least} or more")
    if 0 < options.leaves < 4:
        raise ValueError(
            f"--leaves {options.leaves} was asked for; each half needs 2: give 4 or more, or 0 for all"
        )
    if wrong := [share for share in options.shares if not 0 < share < 1]:
        raise ValueError(f"--share {wrong[0]:g} was asked for; sets are shares of all parts, between 0 and 1")
    if not options.shares:
        raise ValueError(
            "no --share was asked for; give the sizes of sets as shares of all parts, such as 0.1"
        )
    for run in runs:
        check_run(run, options.step)


Key = tuple[str, int]
"""Modality and half."""


@dataclass(frozen=True)
class _Numbers:
    """Every number that is kept on disk, by (modality, half), and what they are about."""

    searches: dict[Key, Arrays]
    tests: dict[Key, Arrays]
    paths: dict[Key, Arrays]
    sizes: list[int]
    strata: list[str]
    names: list[str]
    routes: list[Route]
    sets: dict[Key, Sets]


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of curves, areas, overlaps and paths of a run; see `analyses.circuits.rows`.

    Raises:
        ValueError: too few leaves, words that cannot be read by their first token, or a model without such parts.
    """
    (run,) = runs
    subject = Subject.of(run, options.step)
    numbers = _numbers(subject, options)
    table = _table(numbers, options).assign(run=run.name, step=subject.step)
    name = table_name(options)
    effects = circuits_effects(
        numbers.searches, numbers.paths, numbers.names, numbers.routes, subject.run.taxonomy
    )
    return Result(table, with_effects(effects, "circuits", name))


def table_name(options: Options) -> str:
    """The name of the table."""
    return "circuits" if options.ablation == "mean" else f"circuits-{options.ablation}"


@dataclass(frozen=True)
class _Work:
    """What is computed about a subject, each array once: a second start reads it."""

    subject: Subject
    options: Options

    @cached_property
    def names(self) -> list[str]:
        """Of heads and MLPs."""
        return [str(part) for part in parts_of(self.subject.bench.vlm.model)]

    @cached_property
    def sizes(self) -> list[int]:
        """Of sets that are tested."""
        return sizes_of(len(self.names), self.options.shares)

    @cached_property
    def halves(self) -> dict[Key, Half]:
        """The question about each half of the leaves."""
        return halves_of(self.subject, self.options.leaves, self.options.ablation, self.options.seed)

    @cached_property
    def parts(self) -> Parts:
        """Where arrays are kept."""
        settings = {field: value for field, value in asdict(self.options).items() if field != "draws"}
        settings |= {"step": self.subject.step, **self.subject.wording, "makers": self.subject.makers}
        return Parts.of(self.subject.run.folder("analyses", "circuits"), settings)

    def kept(self, what: str, make: Callable[[str, int], Arrays]) -> dict[Key, Arrays]:
        """Arrays of each modality and half, made where they are not there."""
        keys = [(modality, half) for modality in MODALITIES for half in (0, 1)]
        return {
            key: stored(
                self.parts.folder,
                f"{what}-{key[0]}-{key[1]}",
                partial(make, *key),
                ARRAYS,
                self.parts.settings,
            )
            for key in tracked(keys, f"{what}, {self.subject.run.name}", "parts")
        }

    def searched(self, modality: str, half: int) -> Arrays:
        """Contributions, greedy order and losses of single parts on one half."""
        one, options = self.halves[modality, half], self.options
        found = search_on(one, options.ablation, options.integrated, self.sizes, options.tested, options.seed)
        return found | {"leaves": one.leaves}

    def tested(self, sets: Mapping[Key, Sets], modality: str, half: int) -> Arrays:
        """The log-odds on one half with sets of the other ablated."""
        one, source = self.halves[modality, half], self.halves[modality, 1 - half]
        levels = tested_on(one, source, self.options.ablation, sets[modality, half], self.options.seed)
        return {"levels": levels, "leaves": one.leaves}

    def followed(self, modality: str, half: int) -> Arrays:
        """The losses by all routes."""
        one, source = self.halves[modality, half], self.halves[modality, 1 - half]
        routes = routes_of(one, self.options.width)
        names = np.array([[route.sender, route.receiver, route.of, route.to] for route in routes])
        losses = lost(one, source, self.options.ablation, routes, self.options.seed)
        return {"losses": losses, "leaves": one.leaves, "routes": names}


def _numbers(subject: Subject, options: Options) -> _Numbers:
    work = _Work(subject, options)
    searches, strata = work.kept("search", work.searched), strata_of(subject.bench.vlm.model)
    sets = {
        (modality, half): sets_of(
            searches[modality, 1 - half],
            searches[_other(modality), 1 - half],
            work.sizes, options.random, options.members, strata, options.seed,
        )
        for modality in MODALITIES
        for half in (0, 1)
    }  # fmt: skip
    tests, paths = work.kept("test", partial(work.tested, sets)), work.kept("paths", work.followed)
    routes = [Route(*map(str, names)) for names in paths["image", 0]["routes"]]
    return _Numbers(searches, tests, paths, work.sizes, strata, work.names, routes, sets)


def _other(modality: str) -> str:
    return MODALITIES[1 - MODALITIES.index(modality)]


def _table(numbers: _Numbers, options: Options) -> pd.DataFrame:
    records = []
    for modality in MODALITIES:
        labels = {"modality": modality, "target": TASK, "span": "", "split": "tested on other leaves"}
        tests, searches, paths = (
            [of[modality, half] for half in (0, 1)] for of in (numbers.tests, numbers.searches, numbers.paths)
        )
        levels = np.concatenate([one["levels"] for one in tests], axis=1)
        weights = draw_weights(levels.shape[1], options.draws, options.seed)
        of_sets = numbers.sets[modality, 0]
        records += SetTest(of_sets, levels, numbers.sizes, len(numbers.names), weights, labels).rows()
        found = {**labels, "split": "all"}
        contributions = np.concatenate([one["contributions"] for one in searches], axis=1)
        records += part_rows(contributions, numbers.names, weights, found)
        sample = searches[0]["sample"]
        alone = np.concatenate([one["losses"] for one in searches], axis=1)
        records.append(agreement_row(contributions[sample], alone, options.draws, options.seed, found))
        losses = np.concatenate([one["losses"] for one in paths], axis=1)
        leaves = np.concatenate([one["leaves"] for one in paths])
        records += path_rows(losses, numbers.routes, leaves, options.draws, options.seed, found)
    of_parts = {key: one["contributions"] for key, one in numbers.searches.items()}
    records += sharing_rows(of_parts, numbers.sizes, numbers.strata, options.draws, options.seed)
    blank = dict.fromkeys(EXTRA, "") | {"size": 0, "modality": "", "split": "", "span": ""}
    return tables.table([{**blank, **record} for record in records], "circuits", options.seed, EXTRA)


ALONG_LAYERS = (
    Evidence(
        kind="heads and MLPs",
        about=CAUSES,
        rows={"target": "hypernym", "modality": "image", "measure": "contribution"},
    ),
)

ANALYSIS = Analysis(
    "circuits",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.circuits --run artifacts/runs/demo-pretrained --leaves 24 --random 2",
    of_stores="it asks the model again, with parts of it ablated",
    check=check,
    table_name=table_name,
    also=("circuits-resample",),
    quick={"leaves": 16, "tested": 8, "random": 2, "members": 2},
)
main = ANALYSIS.main
