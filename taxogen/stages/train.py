"""One training loop: only the projector learns; killed at any moment, it goes on as if it had not been.

Processes that torchrun started (`taxogen.models.ranks`) share each step's rows; the first of them writes.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from probing.store import MismatchError, records
from probing.store.records import DamagedError
from taxogen.models import ranks
from taxogen.models.features import PictureFeatures
from taxogen.models.projectors import Projector
from taxogen.models.rows import Row, common_prefix
from taxogen.models.vlm import Vlm
from taxogen.runs.config import TrainConfig
from taxogen.runs.run import Run
from taxogen.stages.tracking import tracking

log = logging.getLogger("taxogen")
Snapshot = Callable[[int], None]


def total_steps(train: TrainConfig, rows: int) -> int:
    """The number of optimiser steps of a config for this number of training rows."""
    return train.steps if train.steps > 0 else max(1, math.ceil(train.epochs * rows / train.batch))


def resolve_steps(names: Sequence[str], steps: int) -> tuple[int, ...]:
    """Step numbers from names such as `0`, `50`, `last`; sorted, without repeats, none after the last.

    Raises:
        ValueError: a name is neither a number nor `last`.
    """
    bad = [name for name in names if name != "last" and not name.isdigit()]
    if bad:
        raise ValueError(f"training steps are numbers or 'last', found {', '.join(map(repr, bad))}")
    return tuple(sorted({min(steps, steps if name == "last" else int(name)) for name in names}))


def learning_rate(train: TrainConfig, step: int, steps: int) -> float:
    """The rate of optimiser step `step` (from 0): linear warm-up, then a cosine to zero."""
    warm = max(1, round(train.warmup * steps))
    if step < warm:
        return train.lr * (step + 1) / warm
    return train.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def batch_indices(subjects: Sequence[int] | np.ndarray, batch: int, step: int, seed: int) -> list[int]:
    """The rows of optimiser step `step`: a fresh seeded permutation each epoch, running on over its end.

    Args:
        subjects: for each row the number of its subject, from 0; rows of one subject stay together.
        batch: how many rows a step takes.
        step: from 0.
        seed: of the permutations.
    """
    numbers = np.asarray(subjects)
    start, chosen, rows = step * batch, [], len(numbers)
    while len(chosen) < batch:
        epoch, offset = divmod(start + len(chosen), rows)
        place = np.argsort(np.random.default_rng([seed, epoch]).permutation(1 + numbers.max()))
        order = np.argsort(place[numbers], kind="stable")
        chosen += order[offset : offset + batch - len(chosen)].tolist()
    return chosen


def subjects(rows: Sequence[Row], order: str) -> list[int]:
    """For each row the number of what is shuffled as one: its picture (a text row's words), or the row itself.

    Args:
        rows: all training rows.
        order: `pictures` or `items` (`train.order`).
    """
    if order == "items":
        return list(range(len(rows)))
    numbers: dict[tuple[int, tuple[int, ...]], int] = {}
    keys = ((row.picture, () if row.picture >= 0 else row.before_cue.ids) for row in rows)
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def train(
    run: Run,
    vlm: Vlm,
    rows: Sequence[Row],
    features: PictureFeatures,
    at_step: dict[int, Snapshot],
    steps: int,
) -> None:
    """Trains the projector to the end, or on from the last checkpoint.

    Args:
        run: where snapshots, checkpoints and `training.csv` (loss in nats per answer token) go.
        vlm: the frozen model and the projector that is changed.
        rows: tokenised training items with their answers.
        features: of all pictures; a row's `picture` is an index into it.
        at_step: by number of steps (0: before the first) the function to call once the snapshot is on disk.
        steps: how many optimiser steps there are (`total_steps`).

    Raises:
        FloatingPointError: the loss is not finite; the step and the learning rate are named.
        ValueError: the tracker cannot start.
    """
    config = run.config.train
    optimiser = torch.optim.AdamW(vlm.projector.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    losses = ranks.in_turn(lambda: _restore(run, vlm.projector, optimiser))
    made_from = {"world": run.world["digest"]}
    prefix, saved = common_prefix(rows), time.monotonic()
    together = np.array(subjects(rows, config.order))
    bar_of = partial(tqdm, total=steps, desc=f"train {run.name}", unit="step", mininterval=1)
    with tracking(run, len(losses) + 1) as track, bar_of(initial=len(losses)) as bar:
        for step in range(len(losses), steps + 1):
            if step in at_step:
                snapshot, makers = run.snapshot(step), {**made_from, "step": step}
                ranks.by_first(partial(save_projector, vlm.projector, snapshot, makers))
                at_step[step](step)
            if step == steps:
                break
            vlm.use_prefix(prefix)  # a capture in between has used its own
            batch = [rows[i] for i in batch_indices(together, config.batch, step, run.config.seed)]
            rate = learning_rate(config, step, steps)
            losses.append(_step(vlm, optimiser, batch, features, config, rate, step))
            track({"train/loss": losses[-1], "train/lr": rate}, step + 1)
            bar.set_postfix_str(f"loss {losses[-1]:.3f} nats", refresh=False)
            bar.update()
            if ranks.number() == 0 and time.monotonic() - saved > config.checkpoint_seconds:
                _checkpoint(run, vlm.projector, optimiser, losses)
                saved = time.monotonic()
    rates = [learning_rate(config, step, steps) for step in range(steps)]
    curve = pd.DataFrame({"step": range(1, steps + 1), "loss": losses, "lr": rates})

    def finish() -> None:
        records.write(run.file("training.csv"), lambda part: curve.to_csv(part, index=False), made_from)
        run.file("checkpoint.pt").unlink(missing_ok=True)

    ranks.by_first(finish)


def _step(
    vlm: Vlm,
    optimiser: torch.optim.Optimizer,
    batch: list[Row],
    features: PictureFeatures,
    config: TrainConfig,
    lr: float,
    step: int,
) -> float:
    """One optimiser step; returns the loss before it."""
    for group in optimiser.param_groups:
        group["lr"] = lr
    own = [batch[at] for at in shares(subjects(batch, "pictures"), ranks.count())[ranks.number()]]
    loss = torch.zeros((), device=vlm.device)
    if own:
        loss = vlm.answer_loss(own, features) * (_answer_tokens(own) / _answer_tokens(batch))
    value = ranks.total(loss.detach()).item()
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the loss is {value} at step {step} with learning rate {lr:.2g}; "
            "set a smaller train.lr, or model.dtype=float32"
        )
    if own:
        loss.backward()
    for weights in vlm.projector.parameters():
        weights.grad = ranks.total(torch.zeros_like(weights) if weights.grad is None else weights.grad)
    torch.nn.utils.clip_grad_norm_(vlm.projector.parameters(), config.clip)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return value


def shares(subjects: Sequence[int], processes: int) -> list[list[int]]:
    """The rows of a step that each process computes, as even as can be where the rows of a subject stay together.

    >>> shares([0, 0, 0, 1, 2, 1], 2)
    [[0, 1, 2], [3, 4, 5]]
    """
    rows_of: dict[int, list[int]] = {}
    for row, subject in enumerate(subjects):
        rows_of.setdefault(subject, []).append(row)
    shared: list[list[int]] = [[] for _ in range(processes)]
    for rows in sorted(rows_of.values(), key=len, reverse=True):
        min(shared, key=len).extend(rows)
    return [sorted(rows) for rows in shared]


def _answer_tokens(rows: Sequence[Row]) -> int:
    return sum(len(row.ids) - row.answer for row in rows)


def save_projector(projector: Projector, path: Path, made_from: Mapping[str, object]) -> None:
    """Writes a projector's weights, whole or not at all."""
    state = {name: value.detach().cpu().contiguous() for name, value in projector.state_dict().items()}
    records.write(path, lambda part: save_file(state, part), made_from)


def load_projector(projector: Projector, path: Path) -> None:
    """Reads a projector's weights from a snapshot.

    Raises:
        DamagedError: it is not as it was written.
    """
    records.made_from(path, "restore it from a copy, or train the run again with --out")
    projector.load_state_dict(load_file(path))


def _checkpoint(
    run: Run, projector: Projector, optimiser: torch.optim.Optimizer, losses: list[float]
) -> None:
    state = {"projector": projector.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses}
    made_from = {"world": run.world["digest"], "step": len(losses)}
    records.write(run.file("checkpoint.pt"), lambda part: torch.save(state, part), made_from)


def _restore(run: Run, projector: Projector, optimiser: torch.optim.Optimizer) -> list[float]:
    """The losses so far, with projector and optimiser set to that moment; empty where no checkpoint is good.

    Raises:
        MismatchError: the checkpoint is of another world than the run.
    """
    path = run.file("checkpoint.pt")
    if not path.exists():
        return []
    try:
        made_from = records.made_from(path)
    except DamagedError as fault:
        log.warning("%s: training begins anew", fault)
        return []
    if made_from is not None and made_from["world"] != run.world["digest"]:
        raise MismatchError(f"{path} is of another run than {run.path}; remove it, and training begins anew")
    state = torch.load(path, map_location="cpu", weights_only=True)
    projector.load_state_dict(state["projector"])
    optimiser.load_state_dict(state["optimiser"])
    return state["losses"]
