"""Settings in words: a config as TOML that explains itself, and docs/settings.md, which has every setting in a table.

python -m taxogen.runs.config.reference > docs/settings.md
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from taxogen.runs.config import Config, catalogue
from taxogen.runs.config.groups import GROUPS
from taxogen.runs.flags import columns
from taxogen.runs.setting import Setting

_HEAD = """# Settings

Written by `python -m taxogen.runs.config.reference`; `taxoprobe config` prints the same as TOML, with the values of a
file or a preset. A setting is changed by `--set KEY=VALUE` (lists with commas: `--set capture.at=0,last`), or by a TOML
file: `--config FILE`. What counts only beside another setting is refused without it, before anything starts.
"""


def to_toml(config: Config) -> str:
    """The config as TOML text: every setting with its value, and before it, as a comment, its meaning."""

    def lines(key: str, one: Setting) -> Iterator[str]:
        yield from textwrap.wrap(
            one.explained, columns(), initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
        )
        yield f"{key.rpartition('.')[2]} = {_toml(attrgetter(key)(config))}"

    return _grouped(lines, lambda group: ["", f"[{group}]"])


def page() -> str:
    """The text of docs/settings.md."""

    def row(key: str, one: Setting) -> Iterator[str]:
        accepts = one.accepts.replace("|", "\\|")
        yield f"| `{key}` | `{_toml(one.default)}` | {one.about} | {accepts} |"

    head = ["| setting | default | meaning and unit | takes |", "|---|---|---|---|"]

    def heading(group: str) -> list[str]:
        about = " ".join((GROUPS[group].__doc__ or "").partition("Attributes:")[0].split())
        return ["", f"## {group}", "", about, "", *head]

    return "\n".join([_HEAD, *head, _grouped(row, heading)])


def _grouped(lines: Callable[[str, Setting], Iterator[str]], heading: Callable[[str], list[str]]) -> str:
    """Lines of each setting, and before the first of each group its heading."""
    text, before = [], ""
    for key, one in catalogue().items():
        group = key.rpartition(".")[0]
        text += heading(group) if group != before else []
        text += lines(key, one)
        before = group
    return "\n".join(text) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(page())
