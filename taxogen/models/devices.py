"""Devices: where models compute, by name; refused in one line where this machine does not have them."""

from __future__ import annotations

from collections.abc import Callable

import torch


def resolve(name: str = "auto") -> torch.device:
    """The device of a name; `auto` is the machine's accelerator where torch sees one, else the CPU.

    >>> resolve("cpu")
    device(type='cpu')

    Raises:
        ValueError: torch sees no such device; those that it sees are named.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return torch.device("cpu") if accelerator is None else torch.device(accelerator.type)
    device = torch.device(name)
    count = (
        torch.accelerator.device_count() if accelerator is not None and accelerator.type == device.type else 0
    )
    if device.type != "cpu" and (device.index or 0) >= count:
        kind = "" if accelerator is None else accelerator.type
        seen = [*(f"{kind}:{at}" for at in range(torch.accelerator.device_count() if kind else 0)), "cpu"]
        raise ValueError(
            f"model.device={name} was asked for; torch {torch.__version__} sees {', '.join(seen)} here: take one of "
            "these, or auto"
        )
    return device


def require_room(bytes_of: Callable[[], int], device: torch.device, what: str) -> None:
    """Nothing, when a device has room for this many bytes; those that do not say how much they have are not asked.

    Raises:
        ValueError: it has fewer; the message says by how much.
    """
    free = free_bytes(device)
    if free is not None and (needed := bytes_of()) > free:
        raise ValueError(
            f"{what} needs {needed / 1e9:.1f} GB on {device}, where {free / 1e9:.1f} GB are free: "
            f"{(needed - free) / 1e9:.1f} GB too few; take a smaller number type (model.dtype), another device "
            "(model.device) or a smaller model"
        )


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are left on a CUDA device; None elsewhere."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
