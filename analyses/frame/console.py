"""The console command `taxoprobe`: makes runs, asks them questions, shows results and checks them, each under one name.

    taxoprobe --help
    taxoprobe train --preset study            as python -m taxogen train --preset study
    taxoprobe analyse layer-probes --run R    as python -m analyses.layer_probes --run R
    taxoprobe --print-completion bash > ~/.local/share/bash-completion/completions/taxoprobe

Reads and writes: what the command does under its other name; the exit code is the same.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.metadata
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import shtab

from analyses.frame import registry
from taxogen.__main__ import add_commands
from taxogen.runs.flags import Parser, columns, note, wrapped

ANALYSE = "analyse"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Make a run": ("demo", "config", "plan", "taxonomy", "prepare", "train", "evaluate", "sweep", "capture"),
    "Plan a study": ("power", "expected"),
    "Bring and take models": ("adopt", "export", "import", "push"),
    "Ask a question": (ANALYSE,),
    "Look at results": ("report", "study", "figures"),
    "Check": ("doctor",),
}
"""What a person wants to do → the commands for it."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of a command line; 2 and one line on stderr where its first words name no command."""
    words = list(sys.argv[1:] if argv is None else argv)
    match words:
        case [] | ["-h" | "--help", *_]:
            print(listing())
        case ["--version", *_]:
            print(importlib.metadata.version("taxoprobe"))
        case ["--print-completion", *shells]:
            return _print_completion(shells)
        case ["analyse"] | ["analyse", "-h" | "--help", *_]:
            print(question_listing(f"taxoprobe {ANALYSE} QUESTION", _dashed))
        case ["analyse", name, *rest] if (known := name.replace("-", "_")) in registry.questions():
            return _run(f"analyses.{known}", rest)
        case ["analyse", name, *_]:
            return _refuse(f"no question {name!r}", name, f"taxoprobe {ANALYSE}")
        case [name, *rest] if name in stages():
            return _run("taxogen.__main__", [name, *rest])
        case [name, *rest] if name in _packages():
            return _run(f"analyses.{name}", rest)
        case [name, *_]:
            return _refuse(f"no command {name!r}", name, "taxoprobe --help")
    return 0


def say(*texts: str) -> None:
    """Prints texts, each from a line of its own; in a terminal no line is wider than that."""
    if sys.stdout.isatty():
        texts = tuple(wrapped(text, columns()) for text in texts)
    for text in texts:
        print(text)


def listing() -> str:
    """Every command in one line, by what a person wants to do; no heavy library is loaded for it."""
    lines = ["usage: taxoprobe COMMAND …      taxoprobe COMMAND --help says more", ""]
    for title, names in GROUPS.items():
        lines += [title, *(_told(name, _about(name), 11) for name in names), ""]
    lines += [
        "Shell completion: taxoprobe --print-completion bash (zsh, tcsh …)",
        "Version: taxoprobe --version",
    ]
    return "\n".join(lines)


def _told(name: str, about: str, width: int) -> str:
    """A name and what it is, which stands to the right of the name in each of its lines."""
    return wrapped(f"  {name:<{width}}{about}", columns(), hang=width)


def question_listing(usage: str, name_of: Callable[[str], str] = str) -> str:
    """Every question in one line under a usage, `name_of` spelling its name."""
    questions = {name_of(name): question for name, question in registry.questions().items()}
    width = max(map(len, questions), default=0)
    lines = [_told(name, question, width + 2) for name, question in questions.items()]
    return "\n".join([f"usage: {usage} …      --help behind it says more", "", *lines])


def whole_parser() -> argparse.ArgumentParser:
    """A parser with the flags of every command and question: what completion scripts are made from."""
    root = argparse.ArgumentParser(prog="taxoprobe")
    root.add_argument("--version", action="store_true", help="print the version")
    commands = root.add_subparsers()
    add_commands(commands)
    for name in sorted(_packages()):
        own = import_module(f"analyses.{name}").parser()
        commands.add_parser(name, help=_about(name), parents=[own], add_help=False)
    questions = commands.add_parser(ANALYSE, help=_about(ANALYSE)).add_subparsers()
    for name, question in registry.questions().items():
        own = registry.load(name).parser()
        questions.add_parser(_dashed(name), help=question, parents=[own], add_help=False)
    return root


def _names() -> list[str]:
    return [name for names in GROUPS.values() for name in names]


def _packages() -> set[str]:
    """The commands that are packages of `analyses` and no questions."""
    return set(_names()) - set(stages()) - {ANALYSE}


@cache
def stages() -> dict[str, str]:
    """The commands of `python -m taxogen` → what each does."""
    commands = Parser().add_subparsers()
    add_commands(commands)
    return {name: parser.description or "" for name, parser in commands.choices.items()}


def _about(name: str) -> str:
    """What a command does, in one line; of a package, the first line of its file."""
    if name == ANALYSE:
        return f"one of {len(registry.questions())} questions to runs; taxoprobe {ANALYSE} lists them"
    if name in stages():
        return stages()[name]
    file = Path(__file__).parent.parent / name / "__init__.py"
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    about = text.partition("\n")[0].partition(": `")[0].rstrip(".")
    return about[:1].lower() + about[1:]


def _run(module: str, words: Sequence[str]) -> int:
    return int(import_module(module).main(list(words)) or 0)


def _refuse(said: str, name: str, listed_by: str) -> int:
    """Exit code 2, after one line that names the nearest command or question."""
    spelled = {question: f"{ANALYSE} {question}" for question in map(_dashed, registry.questions())}
    spelled |= {command: command for command in _names()}
    near = difflib.get_close_matches(_dashed(name), spelled, n=1)
    hint = f"did you mean `taxoprobe {spelled[near[0]]}`? " if near else ""
    note(f"taxoprobe: {said}; {hint}`{listed_by}` lists all")
    return 2


def _print_completion(shells: Sequence[str]) -> int:
    if len(shells) != 1 or shells[0] not in shtab.SUPPORTED_SHELLS:
        known = ", ".join(shtab.SUPPORTED_SHELLS)
        note(f"taxoprobe: --print-completion takes one of {known}; got {shells}")
        return 2
    parser = whole_parser()
    _complete_paths(parser)
    print(shtab.complete(parser, shells[0]))
    return 0


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Marks the flags that take a path, so that Tab offers folders or files for them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command)
        elif action.type is Path:
            vars(action)["complete"] = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE


def _dashed(name: str) -> str:
    return name.replace("_", "-")
