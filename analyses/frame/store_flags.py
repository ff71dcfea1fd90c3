"""The flags that name stores and a taxonomy in place of runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from analyses.frame.stores import LEAF, Stores

_FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    "--images": (
        "activation store of picture rows, in place of a run, one for each step",
        {"action": "append", "type": Path, "metavar": "STORE"},
    ),
    "--text": ("activation store of rows of words, in place of a run", {"type": Path, "metavar": "STORE"}),
    "--taxonomy": (
        "of the leaves in these stores: a CSV file with the columns leaf, hypernym (default: none)",
        {"type": Path, "metavar": "TABLE"},
    ),
    "--leaf-column": (
        f"of these stores, which names the leaf of a row (default: {LEAF})",
        {"metavar": "NAME"},
    ),
}


def add_store_flags(parser: argparse.ArgumentParser, shown: bool) -> None:
    """Adds the flags; hidden where a question takes no stores, and a reason is better than an unknown flag."""
    for flag, (text, settings) in _FLAGS.items():
        parser.add_argument(flag, help=text if shown else argparse.SUPPRESS, **settings)


def store_flags_in(given: argparse.Namespace) -> list[str]:
    """The flags about stores that a command line gives."""
    return [flag for flag in _FLAGS if getattr(given, flag.lstrip("-").replace("-", "_"), None) is not None]


def stores_from(given: argparse.Namespace) -> Stores:
    """The stores that a command line names.

    Raises:
        ValueError: runs were named as well, or no store, or no taxonomy; and as `Stores.open`.
    """
    first = store_flags_in(given)[0]
    if named := [flag for flag in ("run", "sweep") if getattr(given, flag, None)]:
        raise ValueError(
            f"--{named[0]} and {first} were both given; a run has stores and a taxonomy of its own: drop one of the two"
        )
    if given.images is None and given.text is None:
        raise ValueError(f"{first} was given without a store; give --images STORE, --text STORE, or both")
    if given.taxonomy is None:
        raise ValueError(
            "stores were given without --taxonomy TABLE: a CSV file with the columns leaf, hypernym over their leaves"
        )
    return Stores.open(
        given.images or (), given.text, taxonomy=given.taxonomy, leaf=given.leaf_column or LEAF
    )
