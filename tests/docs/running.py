"""Pages that are run: their fenced blocks, in order, in one folder, as a reader would paste them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from analyses.frame import console
from taxogen.runs import config
from taxogen.runs.setting import flatten

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+)\n")
NUMBER = re.compile(r"(?<![\w.])[+−-]?\d*\.?\d+(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block, and what the page shows as its output: the block of language `text` right behind it."""

    language: str
    text: str
    output: str = ""

    @property
    def file(self) -> str:
        """The file that it is written to: named in a comment in its first line."""
        named = FILE.match(self.text)
        return named[1] if named else ""


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are run or written, in order."""
    found = [Block(match[1], match[2]) for match in FENCE.finditer(page.read_text(encoding="utf-8"))]
    following = [*found[1:], Block("", "")]
    return [
        Block(one.language, one.text, after.text if after.language == "text" else "")
        for one, after in zip(found, following, strict=True)
        if one.language != "text"
    ]


def run_page(page: Path, instead: dict[str, str]) -> Iterator[tuple[Block, str]]:
    """Each block that was run, with what it printed; files of these names get other contents than the page gives them.

    Raises:
        ValueError: a block is of a language that nothing runs.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(instead.get(block.file, block.text), encoding="utf-8")
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if block.language == "python":
                exec(compile(block.text, page.name, "exec"), names)
            elif block.language == "bash":
                for line in block.text.replace("\\\n", " ").splitlines():
                    command(line)
            else:
                raise ValueError(f"{page.name} has a block of {block.language!r}, which nothing runs")
        yield block, said.getvalue()


def command(line: str) -> None:
    """Does what a shell would do with a line that calls taxoprobe, or Python with a file or a module."""
    program, *words = shlex.split(line, comments=True)
    if program == "taxoprobe":
        if status := console.main(words):
            raise ChildProcessError(f"{line!r} ended with status {status}")
        return
    if program != "python":
        raise ValueError(f"{program!r} is not run by the tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words[words[0] == "-m" :])
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")


def as_toml(settings: Iterable[str]) -> str:
    """Settings such as `train.steps=4` as the contents of a TOML file."""
    default = dict(flatten(config.Config().to_dict()))
    flat = flatten(config.read(None, settings).to_dict())
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in flat if value != default[key])


def same(shown: str, said: str, tolerance: float = 0.0) -> list[str]:
    """Lines that a page shows and a program did not print, in this order; numbers may differ a little."""
    left = iter(said.splitlines())
    return [line for line in shown.splitlines() if not any(_alike(line, one, tolerance) for one in left)]


def _alike(shown: str, said: str, tolerance: float) -> bool:
    first, second = (" ".join(text.split()) for text in (shown, said))
    if NUMBER.sub("#", first) != NUMBER.sub("#", second):
        return False
    pairs = zip(NUMBER.findall(first), NUMBER.findall(second), strict=True)
    return all(abs(_value(one) - _value(other)) <= tolerance for one, other in pairs)


def _value(text: str) -> float:
    return float(text.replace("−", "-"))
