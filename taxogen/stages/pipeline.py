"""The stages of a run, each of which reads the files of the one before: prepare, train (and capture), evaluate."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch

from probing.capture import CaptureBatch, Pooling, capture
from probing.capture.health import rebuild
from probing.store import MismatchError, records
from taxogen.answers import baselines
from taxogen.answers import evaluate as scoring
from taxogen.models import ranks
from taxogen.models.threads import threads
from taxogen.questions.manifest import Manifest
from taxogen.questions.prompts import Modality, span_name
from taxogen.runs.bench import Bench, open_bench
from taxogen.runs.prepare import refuse_choices, refuse_late
from taxogen.runs.run import Run
from taxogen.stages import tracking
from taxogen.stages.capture_batches import capture_batches
from taxogen.stages.sweeping.main_scores import main_scores
from taxogen.stages.train import load_projector, resolve_steps, save_projector, total_steps, train

log = logging.getLogger(__name__)


def train_run(run: Run, bench: Bench | None = None) -> None:
    """Trains to the end, capturing at the steps that the config names; does nothing where all that is done.

    Raises:
        MismatchError: the frozen language model's weights changed while the projector was trained.
    """
    if ranks.by_first(lambda: run.config_saved and trained_and_captured(run)):
        return
    if run.complete:
        unsaved = set(resolve_steps(run.config.capture.at, run.record["steps"])) - set(run.snapshots)
        if unsaved:
            raise ValueError(
                f"capture.at names step {min(unsaved)}; training of {run.path} has ended, and the projector was saved "
                f"at {list(run.snapshots)}: name some of these, or train another run with --out"
            )
    tracking.require(run.config.train.track)
    bench = ranks.in_turn(lambda: open_bench(run)) if bench is None else bench
    ranks.by_first(run.save_config)
    with threads(run.world["threads"]):
        (_adopt if run.config.model.vlm else _train)(run, bench)


def _train(run: Run, bench: Bench) -> None:
    rows = bench.rows(bench.world.manifests["train"])
    matched = bench.world.asked if run.config.train.match_steps else len(rows)
    steps = total_steps(run.config.train, matched)
    at = _captured_at(run, steps)
    saved = sorted({*at, *resolve_steps(run.config.train.snapshots, steps), steps})
    if not run.complete:
        before, started = run.world["lm"]["weight_hash"], time.time()
        hooks = {step: partial(capture_step, bench) if step in at else _nothing for step in saved}
        train(run, bench.vlm, rows, bench.features, hooks, steps)
        after = bench.vlm.lm.weight_hash()
        if before != after:
            raise MismatchError(
                f"the weights of {bench.vlm.lm.name} changed while {run.path} was trained "
                f"({before[:12]} → {after[:12]}); they must be frozen: remove the run and report this"
            )
        ended = time.time()
        when = {"began": records.utc(_began(run, started)), "ended": records.utc(ended)}
        record = _record(bench, steps, len(rows), after) | {"seconds": round(ended - started, 1), **when}
        ranks.by_first(lambda: run.finish(record))
    for step in at:
        capture_step(bench, step)
    capture_text(bench)


def _began(run: Run, started: float) -> float:
    """When training began, perhaps in an earlier start that left snapshots."""
    left = [run.snapshot(step) for step in run.snapshots if step]
    return min([started, *(path.stat().st_mtime for path in left)])


def _captured_at(run: Run, steps: int) -> tuple[int, ...]:
    """The steps at which a training of `steps` is captured; refuses one that never comes."""
    refuse_late(run.config, steps)
    return resolve_steps(run.config.capture.at, steps)


def _adopt(run: Run, bench: Bench) -> None:
    """Makes a run of a released model complete at step 0, with an empty snapshot, and captures it."""
    if not run.complete:
        made_from = {"world": run.world["digest"], "step": 0}
        ranks.by_first(partial(save_projector, bench.vlm.projector, run.snapshot(0), made_from))
        record = _record(bench, 0, 0, bench.vlm.lm.weight_hash())
        ranks.by_first(lambda: run.finish(record))
    _captured_at(run, 0)
    capture_step(bench, 0)
    capture_text(bench)


def trained_and_captured(run: Run) -> bool:
    """Whether training and every capture that the config names have come to their end."""
    if not run.complete:
        return False
    at = resolve_steps(run.config.capture.at, run.record["steps"])
    return all(run.captured(step) for step in (*at, None))


def evaluate_run(run: Run, bench: Bench | None = None) -> scoring.Scores:
    """Scores the trained model and its baselines, writes `scores.h5` and `baselines.h5`, and returns the scores."""
    run.makers()  # refuses a run without its projector
    refuse_choices(run.config, len(run.taxonomy.leaves))
    scored = ranks.by_first(lambda: scoring.fits(run))
    if not (scored and ranks.by_first(lambda: run.config_saved and baselines.fits(run))):
        bench = bench or ranks.in_turn(lambda: open_bench(run))
        load_projector(bench.vlm.projector, run.require_snapshot(run.record["steps"]))
        ranks.by_first(run.save_config)
        with threads(run.world["threads"]):
            readout = scoring.readout_of(run, bench)
            if not scored:
                scores = scoring.evaluate(readout)
                ranks.by_first(lambda: scores.write(run.file("scores.h5"), run.makers()))
                tracking.track_scores(run, main_scores)
            baselines.baselines(run, bench, readout)
    return scoring.Scores.read(run)


def capture_step(bench: Bench, step: int, manifest: str = "capture") -> None:
    """Captures the picture rows with the projector as it was after `step` steps."""
    if not bench.run.captured(step):
        with _projector_of(bench, step):
            _capture(bench, bench.run.manifest(manifest).where(modality="image"), step)


def capture_text(bench: Bench, manifest: str = "capture") -> None:
    """Captures the text twins: the same prompts with the leaf's name where the picture stands."""
    if not bench.run.captured(None):
        _capture(bench, bench.run.manifest(manifest).where(modality="text"), None)


def mend_capture(bench: Bench, step: int | None) -> dict[str, str]:
    """Shard → its fault, for the bad shards of a capture (None: of the text twins), which are made again."""
    kind = modality(step)
    manifest = bench.run.manifest("capture").where(modality=kind)
    with _projector_of(bench, step), threads(bench.run.world["threads"]):
        path = bench.run.store_path(step, kind)
        return rebuild(path, bench.vlm.model, _batches(bench, manifest, kind))


@contextmanager
def _projector_of(bench: Bench, step: int | None) -> Iterator[None]:
    """A block in which the projector is that after `step` steps; afterwards it is the one it was before."""
    before = {name: value.clone() for name, value in bench.vlm.projector.state_dict().items()}
    if step is not None:
        load_projector(bench.vlm.projector, bench.run.require_snapshot(step))
    try:
        yield
    finally:
        bench.vlm.projector.load_state_dict(before)


def _capture(bench: Bench, manifest: Manifest, step: int | None) -> None:
    run, vlm, wanted = bench.run, bench.vlm, bench.run.config.capture
    at = f"--name {run.captures.removeprefix('captures-')} " if run.captures != "captures" else ""
    at += "" if step is None else f"--step {step} "
    attributes = {
        "run": run.name,
        "run_hash": run.config.hash,
        "manifest_hash": manifest.hash,
        "prompt_format": ", ".join(sorted({str(item.prompt) for item in manifest.items})),
        "encoder": "" if step is None else run.config.model.vlm or run.config.model.encoder,
        "projector": "" if step is None else run.makers(step)["projector"],
        "step": -1 if step is None else step,
        "lm": vlm.lm.name,
        "lm_revision": vlm.lm.revision,
        "lm_init": vlm.lm.init,
        "command": f"python -m analyses.capture {at}--run FOLDER OF {run.name}",
    }
    kind = modality(step)
    with threads(run.world["threads"]):
        capture(
            vlm.model,
            _batches(bench, manifest, kind),
            run.store_path(step, kind),
            sites=wanted.sites,
            pooling=span_pooling(run, kind),
            dtype=wanted.dtype,
            attributes=attributes,
        )


def modality(step: int | None) -> Modality:
    """Which rows belong to a step: picture rows, or to none: text rows."""
    return "text" if step is None else "image"


def span_pooling(run: Run, kind: Modality) -> dict[str, Pooling]:
    """Span → how it is pooled; `slot` is the picture's tokens, or the leaf's name that stands in their place."""
    named = (span.partition(":") for span in run.config.capture.spans)
    return {span_name(name, kind): cast(Pooling, pooling or "mean") for name, _, pooling in named}


def _batches(bench: Bench, manifest: Manifest, kind: Modality) -> list[CaptureBatch]:
    spans = list(span_pooling(bench.run, kind))
    table = manifest.frame.astype(str)
    return capture_batches(bench.vlm, bench.features, bench.rows(manifest), spans, table)


def _nothing(step: int) -> None:
    """The action at a step that is saved but not captured: none."""


def _record(bench: Bench, steps: int, rows: int, weight_hash: str) -> dict[str, object]:
    libraries = ("torch", "transformers", "numpy", "h5py", "taxoprobe")
    return {
        "steps": steps,
        "training_items": rows,
        "config_hash": bench.run.config.hash,
        "manifest_hash": {name: manifest.hash for name, manifest in bench.world.manifests.items()},
        "lm": {"name": bench.vlm.lm.name, "revision": bench.vlm.lm.revision, "weight_hash": weight_hash},
        "dtype": str(bench.vlm.dtype).removeprefix("torch."),
        "provenance": [dict(step) for step in bench.world.manifests["train"].provenance],
        "versions": {name: importlib.metadata.version(name) for name in libraries}
        | {"python": platform.python_version()},
        "threads": torch.get_num_threads(),
    }
