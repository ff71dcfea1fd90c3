"""Where arrays live: rows taken and values brought home, for arrays of any library and device."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from jaxtyping import Float, Int

from probing.probes.fitted import Array


def put(values: Float[np.ndarray, "..."], where: str) -> Array:
    """The values as a NumPy array ("cpu") or as a torch tensor on a torch device ("cuda", "cuda:1").

    Raises:
        ValueError: torch sees no such device.
    """
    if where == "cpu":
        return values
    import torch

    if torch.device(where).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"asked for device {where!r}, but torch sees no CUDA device here; use cpu")
    return torch.from_numpy(np.ascontiguousarray(values)).to(where)


def host(values: Any) -> np.ndarray:
    """The values as a NumPy array, wherever they live."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def take_rows(features: Float[Array, "n d"], index: Int[np.ndarray, " m"]) -> Float[Array, "m d"]:
    """Some rows, in the order of the index."""
    xp = array_namespace(features)
    return xp.take(features, xp.asarray(index, device=device(features)), axis=0)
