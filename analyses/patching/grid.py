"""The grid of patched runs of one trained model, part by part on disk: killed, it goes on with the next part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analyses.frame import parts
from analyses.inputs.span_states import fold_of_leaves
from analyses.inputs.stimuli import States, Stimuli, first_rows, of_one_length
from analyses.inputs.stimuli.natural import MEASURES, ranked
from analyses.inputs.stimuli.pairs import Pair
from analyses.patching.options import Options
from analyses.patching.outcomes import Outcomes, joined, masks, outcomes_of
from probing.edits.naturalness import Naturalness
from probing.patching import (
    EACH,
    Answers,
    Cell,
    Patch,
    Restart,
    Rows,
    attribute,
    contrast,
    keep,
    patched_by_hooks,
    same_norm,
    span_states,
)
from probing.sites import Site
from probing.stats.seeding import stream
from taxogen.models.rows import Row
from taxogen.models.threads import cores

SELF_CHECKED = 2
"""Runs into which their own state is put back in every cell, by hooks through the whole model."""

Done = Callable[[int], object]
"""Is told how many patched runs have ended."""


@dataclass(frozen=True)
class PatchGrid:
    """Cells × kinds × pairs of one model.

    Attributes:
        stimuli: the prompts that the model is run on.
        cells: what patches replace.
        options: what is patched.
        pairs: between which leaves.
        folder: where parts are kept.
    """

    stimuli: Stimuli
    cells: Sequence[Cell]
    options: Options
    pairs: Sequence[Pair]
    folder: Path

    @cached_property
    def sites(self) -> list[Site]:
        """Every site of a cell, in forward order."""
        return sorted({site for cell in self.cells for site in cell.sites}, key=lambda site: site.order)

    def run(self, label: str) -> dict[str, Outcomes]:
        """The outcomes of every patched run, by question; parts that are on disk are not run again."""
        outcomes, options = {}, self.options
        size = {"questions": len(options.questions), "states": len(options.kinds)}
        size |= {"cells": len(self.cells), "pairs": len(self.pairs)}
        with parts.Progress(label, "patched runs", **size) as progress:
            for question in self.options.questions:
                chunks = []
                for first in range(0, len(self.pairs), self.options.chunk):
                    before = progress.ended
                    chunk = self.part("patched", question, first, partial(self.patched, done=progress.done))
                    progress.known(chunk["log_odds"].size - (progress.ended - before))
                    chunks.append(chunk)
                outcomes[question] = joined(chunks)
                if options.natural:
                    outcomes[question] |= self.natural(question)
        return outcomes

    def part(
        self, name: str, question: str, first: int, work: Callable[[str, Sequence[Pair]], Outcomes]
    ) -> Outcomes:
        """The numbers of some pairs, from disk or worked out and put there."""
        pairs = self.pairs[first : first + self.options.chunk]
        file = f"{name}-{question}-{first:04d}-{self._key(question, pairs)}"
        makers = self.stimuli.subject.makers
        return parts.stored(self.folder, file, lambda: work(question, pairs), parts.ARRAYS, makers)

    def patched(self, question: str, pairs: Sequence[Pair], done: Done) -> Outcomes:
        """Outcomes [kinds, cells, pairs] of patched runs, and of the runs that they lie between."""
        givers = {kind: self._givers(pairs, kind) for kind in self.options.kinds if kind != "random"}
        leaves = sorted({leaf for names in givers.values() for leaf in names})
        sources, targets = self._rows(question, leaves, pairs)
        states, answers = self.stimuli.states(question, sources, self.sites)
        read, model = self.stimuli.read(question), self.stimuli.model
        before = np.zeros((len(pairs), answers.shape[1]), np.float32)
        logits = np.zeros((len(self.options.kinds), len(self.cells), *before.shape), np.float32)
        for places in of_one_length(targets):
            kept = keep(model, self.stimuli.group([targets[i] for i in places]))
            before[places] = read(kept.hidden[:, -1]).numpy()
            restart = Restart(model, kept, dict(self.stimuli.alignments))
            lists = []
            for kind in self.options.kinds:
                index = torch.tensor([leaves.index(givers.get(kind, givers["clean"])[i]) for i in places])
                random = kind == "random"
                seeds = [(question, pairs[i].clean, pairs[i].corrupted) for i in places] if random else None
                lists.append([self._patch(cell, states, index, seeds) for cell in self.cells])
            answers_of = restart.run_each(lists, read, workers=_workers(), done=_times(len(places), done))
            for k, numbers in enumerate(answers_of):
                logits[k][:, places] = numbers.numpy()
        source = answers[[leaves.index(leaf) for leaf in givers["clean"]]]
        outcomes = outcomes_of(logits, before, source, self._masks(question, pairs))
        if pairs[0] == self.pairs[0]:
            outcomes["own"] = self._own(self.stimuli.group(targets[:1] * SELF_CHECKED), read)
        return outcomes

    def natural(self, question: str) -> Outcomes:
        """How far patched states lie among natural ones of their site (`analyses.inputs.stimuli.natural.MEASURES`).

        [kinds, cells, pairs]; natural are the states of all leaves in the modality of the patched run, those of the
        leaf that the state comes from held out. Of cells of several sites it is the last one that is ranked.
        """
        file = f"natural-{question}-{self._key(question, self.pairs)}"
        makers = self.stimuli.subject.makers
        return parts.stored(self.folder, file, partial(self._ranked, question), parts.ARRAYS, makers)

    def _ranked(self, question: str) -> Outcomes:
        leaves, (source, target) = sorted(self.stimuli.pictures), self.options.modalities
        rows = self.stimuli.rows(question, [(leaf, side) for side in (source, target) for leaf in leaves])
        own, others = (
            self.stimuli.states(question, [rows[leaf, side] for leaf in leaves], self.sites)[0]
            for side in (target, source)
        )
        names = np.array(leaves)
        fold = fold_of_leaves(self.stimuli.subject.run.taxonomy, names, 3, self.options.seed)
        seeds = [(question, pair.clean, pair.corrupted) for pair in self.pairs]
        every = torch.arange(len(leaves))
        found: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
        for cell in self.cells:
            natural = Naturalness.fit(_last(self._patch(cell, own, every, None)), names, fold)
            of_kinds = []
            for kind in self.options.kinds:
                givers = self._givers(self.pairs, "clean" if kind == "random" else kind)
                index = torch.tensor([leaves.index(leaf) for leaf in givers])
                patch = self._patch(cell, others, index, seeds if kind == "random" else None)
                of_kinds.append(ranked(natural, [_last(patch)], np.array(givers)))
            for name in MEASURES:
                found[name].append(np.concatenate([one[name] for one in of_kinds]))
        return {name: np.stack(values, axis=1) for name, values in found.items()}

    def attributed(self, question: str, pairs: Sequence[Pair]) -> Outcomes:
        """Attributions [cells, pairs] of the log-odds."""
        givers = self._givers(pairs, "clean")
        leaves = sorted(set(givers))
        sources, targets = self._rows(question, leaves, pairs)
        states, _ = self.stimuli.states(question, sources, self.sites)
        read, result = self.stimuli.read(question), np.zeros((len(self.cells), len(pairs)))
        for places in of_one_length(targets):
            index = torch.tensor([leaves.index(givers[i]) for i in places])
            up, down = map(torch.from_numpy, self._masks(question, [pairs[i] for i in places])[:2])
            result[:, places] = attribute(
                self.stimuli.model,
                self.stimuli.group([targets[i] for i in places]),
                self.cells,
                {key: value[index] for key, value in states.items()},
                lambda hidden, up=up, down=down: contrast(read(hidden), up, down),
                alignments=self.stimuli.alignments,
                steps=self.options.integrated,
            ).numpy()
        return {"attribution": result}

    def _key(self, question: str, pairs: Sequence[Pair]) -> str:
        """A digest of all that a part's numbers depend on."""
        subject, reading = self.stimuli.subject, self.stimuli.reading(question)
        deciding = [
            self.options.of_part(question),
            [(cell.site, cell.span, cell.head) for cell in self.cells],
            [vars(pair) for pair in pairs],
            self.stimuli.pictures,
            [subject.makers, subject.run.record["manifest_hash"], str(subject.bench.vlm.dtype)],
            *([reading] if reading else []),
        ]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def _noising(self) -> bool:
        return self.options.mode == "noising"

    def _givers(self, pairs: Sequence[Pair], kind: str) -> list[str]:
        """The leaf that each pair's state comes from."""
        side = "corrupted" if kind == "clean" and self._noising else kind
        return [getattr(pair, side) for pair in pairs]

    def _masks(self, question: str, pairs: Sequence[Pair]) -> list[np.ndarray]:
        return masks(self.stimuli, question, pairs, self._noising)

    def _rows(
        self, question: str, leaves: Sequence[str], pairs: Sequence[Pair]
    ) -> tuple[list[Row], list[Row]]:
        """The rows that states come from, one for each leaf, and those that are patched, one for each pair."""
        source, target = self.options.modalities
        sources = [(leaf, source) for leaf in leaves]
        targets = [(pair.clean if self._noising else pair.corrupted, target) for pair in pairs]
        rows = self.stimuli.rows(question, [*sources, *targets])
        return [rows[stimulus] for stimulus in sources], [rows[stimulus] for stimulus in targets]

    def _patch(
        self, cell: Cell, states: States, index: Tensor, seeds: Sequence[tuple[str, ...]] | None
    ) -> Patch:
        """A cell's patch with the states at `index`, or with random ones as long, seeded by names of the pairs."""

        def state(site: Site) -> Tensor:
            chosen = states[str(site), cell.span][index]
            chosen = chosen if cell.head is None else chosen[:, :, cell.head]
            if seeds is None:
                return chosen
            place = (str(site), cell.span, str(cell.head))
            rows = zip(chosen, seeds, strict=True)
            return torch.stack([_random(row, self.options.seed, *names, *place) for row, names in rows])

        return Patch(cell, {str(site): state(site) for site in cell.sites})

    def _own(self, group: Rows, read: Answers) -> np.ndarray:
        """Largest change of any answer when a run's own state is put back in each cell: by hooks, and restarted."""
        model, aligned = self.stimuli.model, dict.fromkeys(self.options.spans, EACH)
        rows = replace(group, inputs=lambda: first_rows(group.inputs(), SELF_CHECKED))
        states, hidden = span_states(model, rows, self.sites, aligned)
        restart, expected = Restart(model, keep(model, rows), aligned), read(hidden)
        everyone = torch.arange(SELF_CHECKED)
        changes = np.zeros((2, len(self.cells)))
        for at, cell in enumerate(self.cells):
            patch = self._patch(cell, states, everyone, None)
            by_hooks, restarted = patched_by_hooks(model, rows, patch, read), restart.run([patch], read)[0]
            changes[:, at] = [float((answer - expected).abs().max()) for answer in (by_hooks, restarted)]
        return changes


def _last(patch: Patch) -> np.ndarray:
    """The state of the last site of a patch, [rows, tokens, width]; heads one after another."""
    state = patch.states[str(patch.cell.sites[-1])]
    return state.reshape(*state.shape[:2], -1).double().cpu().numpy()


def _workers() -> int:
    """Threads that run side by side, each with as many threads of torch as the run was prepared with."""
    return max(1, cores() // torch.get_num_threads())


def _times(rows: int, done: Done) -> Done:
    return lambda patches: done(patches * rows)


def _random(state: Tensor, seed: int, *names: str) -> Tensor:
    number = int(stream(seed, "random state", *names).integers(2**62))
    return same_norm(state, torch.Generator().manual_seed(number))
