"""Tracking: the curve of a training while it grows, in TensorBoard, Weights & Biases or Trackio, through Accelerate.

Nothing that a run computes or is compared by depends on it: what is tracked is also in `training.csv` and `scores.h5`.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from taxogen.models import ranks
from taxogen.runs.run import Run
from taxogen.runs.setting import flatten

log = logging.getLogger("taxogen")
Track = Callable[[Mapping[str, float], int], None]
PROJECT = "taxoprobe"
FOLDER = "tracking"
"""In a run's directory, of what TensorBoard reads."""


def require(name: str) -> None:
    """Refuses a tracker that is not installed.

    Raises:
        ModuleNotFoundError: it is not; the message names the extra.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(
            f"train.track={name} was asked for, and {name} is not installed: pip install 'taxoprobe[{name}]', or "
            "train.track=none",
            name=name,
        )


@contextmanager
def tracking(run: Run, first: int) -> Iterator[Track]:
    """A block with a function that tracks numbers by name at a step of training.

    A run that is tracked a second time goes on where it was. A tracker that fails meanwhile is left alone, and the run
    goes on.

    Args:
        run: whose `train.track` names the tracker.
        first: the first step that will be tracked; earlier ones stay as they are.

    Raises:
        ValueError: the tracker cannot start, such as one that wants a login.
    """
    name = run.config.train.track
    if name == "none" or ranks.number() > 0:
        yield lambda values, step: None
        return
    try:
        tracker = _tracker(run, first)
        tracker.start()
    except Exception as error:  # trackers raise errors of any kind
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"train.track={name} was asked for, and it cannot start ({reason}); set it up, or train.track=none"
        ) from error
    failed: list[Exception] = []

    def track(values: Mapping[str, float], step: int) -> None:
        try:
            if not failed:
                tracker.log(dict(values), step=step)
        except Exception as error:  # trackers raise errors of any kind, and none is worth a run
            failed.append(error)
            log.warning("train.track=%s failed and is left alone from step %d on: %s", name, step, error)

    try:
        yield track
    finally:
        with suppress(Exception):
            tracker.finish()


def track_scores(run: Run, scores_of: Callable[[Run], Mapping[str, float]]) -> None:
    """Tracks the scores of an evaluation behind the last step of training; a tracker that cannot is a warning."""
    if run.config.train.track == "none":
        return
    behind = run.record["steps"] + 1
    try:
        with tracking(run, behind) as track:
            track({f"evaluate/{name}": value for name, value in scores_of(run).items()}, behind)
    except ValueError as refusal:
        log.warning("the scores are not tracked: %s", refusal)


def _tracker(run: Run, first: int) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if ranks.count() == 1:
        PartialState(cpu=True)  # trackers ask it who is first; it chooses no device and joins no group
    make = LOGGER_TYPE_TO_CLASS[run.config.train.track]
    if make.name == "tensorboard":
        return make(FOLDER, logging_dir=run.path, purge_step=first)
    settings = dict(flatten(run.config.to_dict()))
    told = partial(make, PROJECT, name=run.name, config=settings, resume="allow")
    if make.name == "wandb":
        return told(id=f"{run.name[:80]}-{run.world['digest'][:12]}", dir=str(run.path))
    return told()
