"""The same activations through the field's libraries: recorders that `probing.capture.capture` takes as a model."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from probing.capture import HookRecorder, Recorder
from probing.hooks.layouts import layout_of
from probing.hooks.structure import relative_error, sample_tokens
from probing.sites import PATTERN, Site

#: The largest relative difference from our hooks that a library may show in float32.
AGREEMENT = 1e-4


def require(package: str, minimum: tuple[int, int]) -> None:
    """Refuse to go on without a package of at least some version.

    Raises:
        ModuleNotFoundError: it is not installed, or is older.
    """
    needed = ".".join(map(str, minimum))
    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = "none"
    if installed == "none" or tuple(int(part) for part in installed.split(".")[:2]) < minimum:
        raise ModuleNotFoundError(
            f"this backend needs {package} >= {needed}, found {installed}: pip install 'taxoprobe[interp]'"
        )


def require_agreement(recorder: Recorder) -> None:
    """Refuse a library that records something else than our hooks on a few random tokens.

    Raises:
        ValueError: a site differs by more than `AGREEMENT`; the largest difference is named.
    """
    sites = [site for site in layout_of(recorder.model).sites if site.point != PATTERN]
    inputs = {"input_ids": sample_tokens(recorder.model), "use_cache": False}
    expected = HookRecorder(recorder.model).run(inputs, sites, _copy)
    theirs = recorder.run(inputs, sites, _copy)
    errors = {name: relative_error(theirs[name], value) for name, value in expected.items()}
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= AGREEMENT:
        raise ValueError(
            f"{type(recorder).__name__} and our hooks differ by {errors[worst]:.1e} (relative) at {worst}, "
            f"more than {AGREEMENT:.0e}"
        )


def _copy(_: Site, value: Tensor) -> Tensor:
    return value.detach().to(copy=True, memory_format=torch.contiguous_format)
