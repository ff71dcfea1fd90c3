"""Options of layer probes: sites, targets, splits and probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyses.frame.command_line import EXTENT, PARTNER, Resampling, option
from analyses.frame.stores import RunOrStores, Stores
from probing.probes import PROBES
from probing.probes.linear import PENALTIES
from probing.probes.transfer import TRANSFORMS
from taxogen.runs.names import plain_name

TARGETS = ("hypernym", "leaf", "height")
SPLITS = ("leaf", "ungrouped", "family", "source")
SEES_LEAVES = ("ungrouped", "source")
"""Splits that have every leaf on both sides."""


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """How layers are probed; the defaults are those of the report.

    Attributes:
        against: a run to contrast with, one for each --run
        step: a captured step, or last; by default all
        spans: slot, cue or last; by default all
        target: the property that a probe tells
        probe: the kind of probe
        split: the unit that is held out: leaf concepts, families of them, sources of pictures, or none (ungrouped,
            which leaks by design)
        captures: name of captures made after training
        sites: a captured site, or a head such as blocks.3.attn.hook_z#5; by default the residual stream
        all_sites: every captured site, heads one by one
        transforms: of features between modalities; none for no transfer
        folds: of the split
        controls: control tasks; 19 or more give p
        shuffled: draws of labels permuted over single rows
        code: also the minimum description length (slow)
        device: cpu, or a torch device such as cuda
        held_out: hypernyms without evidence in training, reported apart; of a run by default its own
        penalties: that a probe chooses from.
        least_leaves: that a hypernym needs under it, and as many that are not.
        workers: threads, each with one thread of linear algebra.
    """

    against: tuple[Path, ...] = option((), metavar="DIR", role=PARTNER)
    step: tuple[str, ...] = option((), metavar="STEP", role=EXTENT)
    spans: tuple[str, ...] | None = option(None, flag="--span", metavar="SPAN", role=EXTENT)
    target: str = option("hypernym", choices=TARGETS)
    probe: str = option("ridge", choices=sorted(PROBES))
    split: str = option("leaf", choices=SPLITS)
    captures: str = option("", metavar="NAME")
    sites: tuple[str, ...] | None = option(None, flag="--site", metavar="SITE")
    all_sites: bool = option(False)
    transforms: tuple[str, ...] = option(
        ("raw", "centred"), flag="--transfer", choices=TRANSFORMS, empty=True, role=EXTENT
    )
    folds: int = option(5, role=EXTENT)
    controls: int = option(3, role=EXTENT)
    shuffled: int = option(1, role=EXTENT)
    code: bool = option(False, role=EXTENT)
    device: str = option("cpu", role=EXTENT)
    held_out: tuple[str, ...] = option((), metavar="HYPERNYM")
    penalties: tuple[float, ...] = PENALTIES
    least_leaves: int = 3
    workers: int = 2


def refuse_unanswerable(options: Options) -> None:
    """Refuses choices that are unknown, or that no run could answer.

    Raises:
        KeyError: an unknown target, split, probe or transform.
        ValueError: leaf identity was asked for with leaves held out, or sites twice, or captures by a path.
    """
    choices = {"probe": tuple(PROBES), "target": TARGETS, "split": SPLITS}
    chosen = [(name, getattr(options, name), known) for name, known in choices.items()]
    chosen += [("transform", name, TRANSFORMS) for name in options.transforms]
    for name, value, known in chosen:
        if value not in known:
            raise KeyError(f"unknown {name} {value!r}; known: {', '.join(known)}")
    if options.target == "leaf" and options.split not in SEES_LEAVES:
        raise ValueError(
            "no probe can name a leaf that it has never seen: ask for target leaf with --split ungrouped or source"
        )
    if options.captures:
        plain_name(options.captures, "--captures")
    if options.all_sites and options.sites:
        raise ValueError("--site and --all-sites were both given; give one of them")


def steps_of(source: RunOrStores, steps: Sequence[str]) -> tuple[int, ...]:
    """The captured steps that are asked for by number or as "last"; without one, all.

    Raises:
        ValueError: neither a number nor "last".
        FileNotFoundError: no step was captured; the command that does it is named.
    """
    if not source.steps and not isinstance(source, Stores):
        raise FileNotFoundError(
            f"{source.path} has no captured step; `python -m taxogen train --run {source.path}` captures"
        )
    if wrong := [step for step in steps if step != "last" and not step.isdigit()]:
        raise ValueError(
            f"--step {wrong[0]} was asked for; give the number of a captured step "
            f"({', '.join(map(str, source.steps))}), or last"
        )
    last = source.steps[-1:]
    return (
        tuple(number for step in steps for number in (last if step == "last" else (int(step),)))
        or source.steps
    )
