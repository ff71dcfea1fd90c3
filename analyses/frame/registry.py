"""The registry of analyses: every folder of `analyses` whose module declares `ANALYSIS`; nothing lists them by hand."""

from __future__ import annotations

import ast
import difflib
import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import analyses

if TYPE_CHECKING:
    from analyses.frame.analysis import Analysis


def load(name: str) -> Analysis:
    """The analysis of that name, dashes or underscores.

    Raises:
        KeyError: there is none; the nearest known one is named.
    """
    known, name = questions(), name.replace("-", "_")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise KeyError(f"analysis {name!r} was asked for; {hint}known: {', '.join(known)}")
    return import_module(f"analyses.{name}").ANALYSIS


@cache
def questions() -> dict[str, str]:
    """Name → question of every analysis, sorted; read from the files, so that no library is loaded."""
    declared = {}
    for folder in map(Path, analyses.__path__):
        for module in pkgutil.iter_modules([str(folder)]):
            text = folder / module.name / "__init__.py"
            if module.ispkg and (tree := ast.parse(text.read_text(encoding="utf-8"))) and _declares(tree):
                declared[module.name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return dict(sorted(declared.items()))


def _declares(tree: ast.Module) -> bool:
    targets = [
        target
        for node in tree.body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
    ]
    return any(isinstance(target, ast.Name) and target.id == "ANALYSIS" for target in targets)
