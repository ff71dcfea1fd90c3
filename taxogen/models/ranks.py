"""Ranks: the processes that torchrun started to share the work on one run; without it there is one, this one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:  # one process alone loads neither
    from accelerate import PartialState
    from torch import Tensor

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long a process waits for the others, which may be reading pictures; torchrun ends it where one of them fails."""
GRACE = 20.0
"""Seconds that the other processes leave the first one to say what it refuses."""
_group: PartialState | None = None


def started() -> int:
    """How many processes were started together, as torchrun says in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_one(command: str) -> None:
    """Raises ValueError where several processes were started for a command that is for one."""
    if started() > 1:
        raise ValueError(
            f"{started()} processes were started (WORLD_SIZE), but {command} is for one: start it without torchrun; "
            "several share `train` and `evaluate`"
        )


def join(device: str) -> None:
    """Makes the processes that were started together a group, in which each has a device of its own.

    Args:
        device: as `model.device` has it.

    Raises:
        ValueError: this machine has fewer such devices than processes, or the name says which one.
    """
    global _group
    if started() == 1 or _group is not None:
        return
    import torch
    from accelerate import PartialState

    from taxogen.models import devices

    place = devices.resolve(device)
    if place.type != "cpu":
        there, wanted = torch.accelerator.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", started()))
        if place.index is not None or there < wanted:
            raise ValueError(
                f"model.device={device} was asked for by {wanted} processes on this machine, each of which needs a "
                f"device of its own; torch sees {there}: take cpu, or auto with at most {there} (--nproc-per-node)"
            )
    # Objects travel between processors, tensors between the devices that they are on.
    backend = {"backend": "cuda:nccl,cpu:gloo"} if place.type == "cuda" else {}
    _group = PartialState(cpu=place.type == "cpu", timeout=PATIENCE, **backend)


def leave() -> None:
    """Waits until every process is done, and ends the group."""
    global _group
    if _group is not None:
        _group.wait_for_everyone()
        _group.destroy_process_group()
        _group = None


def count() -> int:
    """How many processes share the work."""
    return 1 if _group is None else _group.num_processes


def number() -> int:
    """The number of this process, from 0; the first writes."""
    return 0 if _group is None else _group.process_index


def by_first(do: Callable[[], T]) -> T:
    """The result of something that only the first process does, in all of them once it is done; or what it raised."""
    if count() == 1:
        return do()
    from accelerate.utils import broadcast_object_list

    outcome = _attempt(do) if number() == 0 else [None, None]
    result, failure = cast(list[Any], broadcast_object_list(outcome))
    if failure is not None:
        raise failure
    return result


def in_turn(do: Callable[[], T]) -> T:
    """The result of something that the first process does, and then each of the others; what one raises, all do."""
    if count() == 1:
        return do()
    result: Any = None
    for turn in (True, False):
        failure: Any = None
        if turn == (number() == 0):
            result, failure = _attempt(do)
        if failures := [one for one in exchange(failure) if one is not None]:
            raise failures[0]
    return result


def exchange(own: T) -> list[T]:
    """The objects of all processes, in their order, in each of them."""
    if count() == 1:
        return [own]
    from accelerate.utils import gather_object

    return gather_object([own])


def total(own: Tensor) -> Tensor:
    """The sum of the tensors of all processes."""
    if count() == 1:
        return own
    from accelerate.utils import reduce

    return cast("Tensor", reduce(own, "sum"))


def dealt(parts: Sequence[T]) -> Sequence[T]:
    """The parts of some work that this process does: one out of as many as there are processes."""
    return parts[number() :: count()]


def speaks() -> bool:
    """Whether this process tells of a refusal: the first that refuses does so for all, while the others wait.

    torchrun ends every process as soon as one has ended, were it before the first has said a word.
    """
    if _group is None:
        first, without_first = os.environ.get("RANK", "0") == "0", True
    else:
        from torch.distributed.distributed_c10d import _get_default_store

        first, without_first = _get_default_store().add("refusals", 1) == 1, False
    if first:
        return True
    time.sleep(GRACE)  # torchrun ends this where the first has refused
    return without_first


def _attempt(do: Callable[[], T]) -> list[T | Exception | None]:
    """The result and what was raised instead, one of them None."""
    try:
        return [do(), None]
    except Exception as failure:
        return [None, failure]
