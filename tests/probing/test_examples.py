"""The examples in the docstrings of `probing` run, and every public function and class shows one."""

import doctest
import importlib
import inspect
import pkgutil
import warnings

import pytest

import probing

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = sorted(module.name for module in pkgutil.walk_packages(probing.__path__, "probing."))
ROOMS = ("hooks", "capture", "store", "stats", "similarity", "probes", "patching", "lens")
"""Rooms whose `__all__` is public; of the modules below every function is."""
OPEN = (
    "sites",
    "spans",
    "edits.erasure",
    "edits.knockout",
    "edits.steering",
    "categories.cohesion",
    "categories.geometry",
    "categories.leaf_sums",
    "categories.massive",
)
MEASURES = tuple(
    f"similarity.{name}" for name in ("cca", "cka", "neighbors", "predictivity", "procrustes", "rsa")
)


def shows(thing) -> bool:
    """Whether a docstring of its own has an example."""
    return ">>>" in (inspect.getdoc(thing) or "")


@pytest.mark.parametrize("name", ["probing", *MODULES])
def test_examples_run(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        failed, _ = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert not failed


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_has_an_example(room):
    module = importlib.import_module(f"probing.{room}")
    things = {name: getattr(module, name) for name in module.__all__}
    wanted = {
        name
        for name, thing in things.items()
        if inspect.isfunction(thing)
        or (
            inspect.isclass(thing)
            and not issubclass(thing, BaseException)
            and not getattr(thing, "_is_protocol", 0)
        )
    }
    assert wanted
    assert {name for name in wanted if not shows(things[name])} == set()


@pytest.mark.parametrize("name", OPEN)
def test_every_public_function_of_a_module_has_an_example(name):
    module = importlib.import_module(f"probing.{name}")
    own = {
        key: thing
        for key, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not key.startswith("_")
    }
    assert own
    assert {key for key, thing in own.items() if not shows(thing)} == set()


@pytest.mark.parametrize("name", MEASURES)
def test_every_module_of_measures_has_an_example(name):
    module = importlib.import_module(f"probing.{name}")
    assert any(test.examples for test in doctest.DocTestFinder().find(module))
