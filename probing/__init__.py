"""Instruments: hooks, activation store, probes, similarity, patching and statistics for any model.

The shortest way in: `record` and `edit` a forward pass, `capture` many into an `ActivationStore`, look up similarity
`MEASURES` and `PROBES` by name, and get an `Estimate`. Each is loaded when it is first asked for, so that
`import probing` is quick. `from probing import capture` gives the function; the names beside it are in the package of
that name (`from probing.capture import CaptureBatch`).

>>> import probing
>>> sorted(probing.PROBES)
['logistic', 'mass_mean', 'ridge']
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probing.capture import capture
    from probing.hooks import edit, record
    from probing.probes import PROBES
    from probing.similarity import MEASURES
    from probing.stats import Estimate
    from probing.store import ActivationStore

__all__ = ["MEASURES", "PROBES", "ActivationStore", "Estimate", "capture", "edit", "record"]

_HOME = {
    "MEASURES": "similarity",
    "PROBES": "probes",
    "ActivationStore": "store",
    "Estimate": "stats",
    "capture": "capture",
    "edit": "hooks",
    "record": "hooks",
}


class _Surface(ModuleType):
    """A package whose public names are loaded on first use."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{self.__name__}.{_HOME[name]}"), name)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the package probing.capture would hide the function of that name.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_HOME})


sys.modules[__name__].__class__ = _Surface
