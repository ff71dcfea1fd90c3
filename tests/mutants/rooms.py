"""Rooms of the source, the seeded sample of mutants of each, and the tests that could see a fault there."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutants.mutation import Mutation
from tests.mutants.operators import mutations

SINGLE = ("probing/stats", "probing/edits", "taxogen/answers")
BY_FOLDER = "analyses"
CONTRACT, FROZEN = "tests/test_contract.py", "tests/test_frozen.py"
OTHER_NAMES = {"erasure": ("steering",)}
"""A room → further names of frozen tables that it writes."""
LEFT_OUT = ("tests/taxogen/answers/test_memory.py", "tests/mutants/", "tests/test_architecture.py")
"""Tests that state the cost, or the shape of the tree, and not what is computed."""


@dataclass(frozen=True)
class Mutant:
    """A mutation of one file of a room, with the changed lines before and after."""

    room: str
    file: str
    mutation: Mutation
    before: str
    after: str

    @property
    def key(self) -> str:
        """What a reason is filed under: file, function and change; lines may move."""
        return f"{self.file}:{self.mutation.function}: {self.before} → {self.after}"

    @property
    def module(self) -> str:
        """Dotted name of the mutated module."""
        return dotted(self.file)

    def record(self) -> dict[str, object]:
        """The mutant as plain values."""
        own = asdict(self.mutation)
        return {
            "room": self.room,
            "file": self.file,
            **{name: own[name] for name in ("line", "function", "kind")},
            "before": self.before,
            "after": self.after,
            "key": self.key,
        }


@dataclass(frozen=True)
class Stage:
    """One pytest run of those that a mutant has to survive: its name and the arguments."""

    name: str
    arguments: tuple[str, ...]


def dotted(file: str) -> str:
    """The module in a file."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def rooms(root: Path) -> list[str]:
    """Every room under the root: each folder of `analyses`, and three of the instruments and of the models."""
    folders = sorted(path.parent for path in (root / BY_FOLDER).glob("*/__init__.py"))
    return [*(folder.relative_to(root).as_posix() for folder in folders), *SINGLE]


def mutants(root: Path, room: str, files: Iterable[str] = ()) -> list[Mutant]:
    """Every mutant of a room, or of those of its files whose names contain one of the given parts."""
    parts, every = tuple(files), []
    for path in sorted((root / room).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if path.name != "__main__.py" and (not parts or any(part in name for part in parts)):
            source = path.read_text(encoding="utf-8")
            every += [Mutant(room, name, one, *one.shown(source)) for one in mutations(source)]
    return every


def sample(root: Path, room: str, size: int, seed: int, files: Iterable[str] = ()) -> list[Mutant]:
    """Some mutants of a room, drawn evenly from all, no two of the same line; the same for the same seed and source."""
    every = mutants(root, room, files)
    random.Random(f"{seed}/{room}").shuffle(every)
    drawn: dict[tuple[str, int], Mutant] = {}
    for mutant in every:
        place = (mutant.file, mutant.mutation.line)
        if len(drawn) == size:
            break
        if place not in drawn and mutant.mutation.changes((root / mutant.file).read_text(encoding="utf-8")):
            drawn[place] = mutant
    return sorted(drawn.values(), key=lambda mutant: (mutant.file, mutant.mutation.line))


def stages(root: Path, room: str) -> list[Stage]:
    """The pytest runs that a mutant of this room goes through, until one fails.

    First the tests that mirror the room, then all others that import from it, then the contract and the frozen tables,
    of this question alone where the room is one.
    """
    own, importing = [], []
    for path in sorted((root / "tests").rglob("test_*.py")):
        name = path.relative_to(root).as_posix()
        if name in (CONTRACT, FROZEN) or name.startswith(LEFT_OUT):
            continue
        beside = path.parent == root / "tests" / Path(room).parent
        mirrors = beside and f"{path.stem}_".startswith(f"test_{Path(room).name}_")
        if mirrors or name.startswith(f"tests/{room}/"):
            own.append(name)
        elif imports_from(path, room.replace("/", ".")):
            importing.append(name)
    question = room.startswith(f"{BY_FOLDER}/") and not room.endswith(("/frame", "/inputs"))
    names = (Path(room).name, *OTHER_NAMES.get(Path(room).name, ())) if question else ()
    spelled = [spelling for name in names for spelling in dict.fromkeys((name, name.replace("_", "-")))]
    chosen = ("-k", " or ".join(spelled)) if names else ()
    all_stages = [Stage("own tests", tuple(own)), Stage("other tests", tuple(importing))]
    for name, file in (("contract", CONTRACT), ("frozen", FROZEN)):
        all_stages.append(Stage(name, (file, *chosen) if (root / file).is_file() else ()))
    return [stage for stage in all_stages if stage.arguments]


def imports_from(path: Path, package: str) -> bool:
    """Whether a module imports a package, or something in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        if any(f"{name}.".startswith(f"{package}.") for name in names):
            return True
    return False
