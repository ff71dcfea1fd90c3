"""The grid of patched runs of one trained model, part by part on disk: killed, it goes on with the next part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analyses.patching.pairs import Pair
from analyses.patching.runs import States, Subjects, first_rows, of_one_length
from probing.patching import (
    EACH,
    Answers,
    Cell,
    Patch,
    Restart,
    Rows,
    attribute,
    contrast,
    divergence,
    keep,
    patched_by_hooks,
    same_norm,
    span_states,
)
from probing.patching.outcomes import mean_log_prob
from probing.sites import Site
from probing.stats.seeding import stream
from probing.store import files
from taxogen.models.vlm import Row

DIRECTIONS = {
    "text-to-image": ("text", "image"),
    "image-to-text": ("image", "text"),
    "picture-to-picture": ("image", "image"),
    "text-to-text": ("text", "text"),
}
"""Direction → modality of the clean run and of the corrupted one; states go from clean to corrupted, unless noising."""

KINDS = ("clean", "sibling", "stranger", "random")
"""Where a patch's state comes from: the other run of the pair, or a placebo."""

SELF_CHECKED = (
    2  # runs into which their own state is put back in every cell, by hooks through the whole model
)
Parts = dict[str, np.ndarray]
Done = Callable[[int], object]


@dataclass(frozen=True)
class Options:
    """What is patched; the defaults are those of the report."""

    direction: str = "text-to-image"
    mode: str = "denoising"
    sites: tuple[str, ...] = ("blocks.*.hook_resid_post",)
    spans: tuple[str, ...] = ("slot", "cue", "last")
    slot: str = "mean"
    heads: bool = False
    window: int = 1
    cumulative: bool = False
    questions: tuple[str, ...] = ("hypernym", "leaf")
    kinds: tuple[str, ...] = KINDS
    integrated: int = 0
    chunk: int = 25
    seed: int = 0

    @property
    def modalities(self) -> tuple[str, str]:
        """Modality of the run that states come from, and of the run that is patched."""
        clean, corrupted = DIRECTIONS[self.direction]
        return (clean, corrupted) if self.mode == "denoising" else (corrupted, clean)


@dataclass(frozen=True)
class Grid:
    """Cells × kinds × pairs of one model.

    Attributes:
        subjects: the prompts it is run on.
        cells: what patches replace.
        options: what is patched.
        pairs: between which leaves.
        folder: where parts are kept.
    """

    subjects: Subjects
    cells: Sequence[Cell]
    options: Options
    pairs: Sequence[Pair]
    folder: Path

    @cached_property
    def sites(self) -> list[Site]:
        """Every site of a cell, in forward order."""
        return sorted({site for cell in self.cells for site in cell.sites}, key=lambda site: site.order)

    def part(
        self, name: str, question: str, first: int, work: Callable[[str, Sequence[Pair]], Parts]
    ) -> Parts:
        """The numbers of some pairs, from disk or worked out and put there."""
        pairs, bench = self.pairs[first : first + self.options.chunk], self.subjects.bench
        given = [
            asdict(replace(self.options, questions=(question,))),
            [(cell.site, cell.span, cell.head) for cell in self.cells],
            [vars(pair) for pair in pairs],
            self.subjects.pictures,
            [bench.run.config.hash, bench.run.record["manifest_hash"], str(bench.vlm.dtype)],
        ]
        key = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / f"{name}-{question}-{first:04d}-{key}.npz"
        if not path.exists():
            made = work(question, pairs)
            files.write_whole(path, lambda part: _savez(part, made))
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}

    def patched(self, question: str, pairs: Sequence[Pair], done: Done) -> Parts:
        """Outcomes [kinds, cells, pairs] of patched runs, and of the runs that they lie between."""
        given = {kind: self._giving(pairs, kind) for kind in self.options.kinds if kind != "random"}
        leaves = sorted({leaf for found in given.values() for leaf in found})
        sources, targets = self._rows(question, leaves, pairs)
        states, answers = self.subjects.states(question, sources, self.sites)
        read, model = self.subjects.read(question), self.subjects.bench.vlm.model
        before = np.zeros((len(pairs), len(self.subjects.candidates(question))), np.float32)
        logits = np.zeros((len(self.options.kinds), len(self.cells), *before.shape), np.float32)
        for places in of_one_length(targets):
            kept = keep(model, self.subjects.group([targets[i] for i in places]))
            before[places] = read(kept.hidden[:, -1]).numpy()
            restart = Restart(model, kept, dict(self.subjects.alignments))
            for k, kind in enumerate(self.options.kinds):
                index = torch.tensor([leaves.index(given.get(kind, given["clean"])[i]) for i in places])
                names = (
                    [(question, pairs[i].clean, pairs[i].corrupted) for i in places]
                    if kind == "random"
                    else None
                )
                patches = [self._patch(cell, states, index, names) for cell in self.cells]
                found = restart.run(patches, read, done=_times(len(places), done))
                logits[k][:, places] = found.numpy()
        after = answers[[leaves.index(leaf) for leaf in given["clean"]]]
        found = self._outcomes(question, pairs, logits, before, after)
        if pairs[0] == self.pairs[0]:
            found["own"] = self._own(self.subjects.group(targets[:1] * SELF_CHECKED), read)
        return found

    def attributed(self, question: str, pairs: Sequence[Pair]) -> Parts:
        """Attributions [cells, pairs] of the log-odds."""
        giving = self._giving(pairs, "clean")
        leaves = sorted(set(giving))
        sources, targets = self._rows(question, leaves, pairs)
        states, _ = self.subjects.states(question, sources, self.sites)
        read, result = self.subjects.read(question), np.zeros((len(self.cells), len(pairs)))
        for places in of_one_length(targets):
            index = torch.tensor([leaves.index(giving[i]) for i in places])
            up, down = map(torch.from_numpy, self._masks(question, [pairs[i] for i in places])[:2])
            result[:, places] = attribute(
                self.subjects.bench.vlm.model,
                self.subjects.group([targets[i] for i in places]),
                self.cells,
                {key: value[index] for key, value in states.items()},
                lambda hidden, up=up, down=down: contrast(read(hidden), up, down),
                alignments=self.subjects.alignments,
                steps=self.options.integrated,
            ).numpy()
        return {"attribution": result}

    def _giving(self, pairs: Sequence[Pair], kind: str) -> list[str]:
        """The leaf that each pair's state comes from."""
        noising = kind == "clean" and self.options.mode == "noising"
        return [getattr(pair, "corrupted" if noising else kind) for pair in pairs]

    def _rows(
        self, question: str, leaves: Sequence[str], pairs: Sequence[Pair]
    ) -> tuple[list[Row], list[Row]]:
        """The rows that states come from, one for each leaf, and those that are patched, one for each pair."""
        source, target = self.options.modalities
        taken = [(leaf, source) for leaf in leaves]
        patched = [
            (pair.corrupted if self.options.mode == "denoising" else pair.clean, target) for pair in pairs
        ]
        rows = self.subjects.rows(question, [*taken, *patched])
        return [rows[subject] for subject in taken], [rows[subject] for subject in patched]

    def _patch(
        self, cell: Cell, states: States, index: Tensor, names: Sequence[tuple[str, ...]] | None
    ) -> Patch:
        """A cell's patch with the states at `index`, or with random ones as long, seeded by names of the pairs."""

        def state(site: Site) -> Tensor:
            found = states[str(site), cell.span][index]
            found = found if cell.head is None else found[:, :, cell.head]
            if names is None:
                return found
            here = (str(site), cell.span, str(cell.head))
            rows = zip(found, names, strict=True)
            return torch.stack([_random(row, self.options.seed, *pair, *here) for row, pair in rows])

        return Patch(cell, {str(site): state(site) for site in cell.sites})

    def _own(self, group: Rows, read: Answers) -> np.ndarray:
        """Largest change of any answer when a run's own state is put back in each cell: by hooks, and restarted."""
        model, own = self.subjects.bench.vlm.model, dict.fromkeys(self.options.spans, EACH)
        rows = replace(group, inputs=lambda: first_rows(group.inputs(), SELF_CHECKED))
        states, hidden = span_states(model, rows, self.sites, own)
        restart, expected, everyone = (
            Restart(model, keep(model, rows), own),
            read(hidden),
            torch.arange(SELF_CHECKED),
        )
        found = np.zeros((2, len(self.cells)))
        for at, cell in enumerate(self.cells):
            patch = self._patch(cell, states, everyone, None)
            by_hooks, restarted = patched_by_hooks(model, rows, patch, read), restart.run([patch], read)[0]
            found[:, at] = [float((answer - expected).abs().max()) for answer in (by_hooks, restarted)]
        return found

    def _masks(self, question: str, pairs: Sequence[Pair]) -> list[np.ndarray]:
        """Which candidates the state answers, which the patched run; for hypernyms, which both and which neither."""
        names, order = (
            self.subjects.candidates(question),
            slice(None, None, 1 if self.options.mode == "denoising" else -1),
        )
        sides = (("clean", "corrupted") if question == "leaf" else ("up", "down"))[order]
        masks = [
            np.array([[name == getattr(pair, side) for name in names] for pair in pairs]) for side in sides
        ]
        if question == "leaf":
            return masks
        taxonomy = self.subjects.bench.run.taxonomy
        columns = [taxonomy.hypernyms.index(name) for name in names]
        clean, corrupted = (
            np.asarray(taxonomy.labels([getattr(pair, side) for pair in pairs]))[:, columns]
            for side in ("clean", "corrupted")
        )
        return [*masks, clean & corrupted, ~clean & ~corrupted]

    def _outcomes(
        self, question: str, pairs: Sequence[Pair], logits: np.ndarray, before: np.ndarray, after: np.ndarray
    ) -> Parts:
        """What is kept of the logits: log-odds, divergence, and changes of single candidates' log-probabilities."""
        masks = self._masks(question, pairs)
        found = {
            "log_odds": contrast(logits, *masks[:2]),
            "base": contrast(before, *masks[:2]),
            "donor": contrast(after, *masks[:2]),
            "kl": divergence(before, logits),
        }
        for name, mask in zip(("up", "down", "shared", "other"), masks):
            found[name] = mean_log_prob(logits, mask) - mean_log_prob(before, mask)
        return {name: np.asarray(value, np.float32) for name, value in found.items()}


def _times(rows: int, done: Done) -> Done:
    return lambda patches: done(patches * rows)


def _random(state: Tensor, seed: int, *names: str) -> Tensor:
    number = int(stream(seed, "random state", *names).integers(2**62))
    return same_norm(state, torch.Generator().manual_seed(number))


def _savez(part: Path, arrays: Parts) -> None:
    with part.open("wb") as out:
        np.savez_compressed(out, **arrays)  # pyright: ignore[reportArgumentType]
