"""What a mutation run came to: counts by room, the survivors, and the reasons of those that are let live."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REASONS = Path(__file__).parent / "reasons.toml"
Record = Mapping[str, Any]


def reasons(path: Path = REASONS) -> dict[str, tuple[str, str]]:
    """A survivor's key → `equivalent` or `accepted`, and the reason, as they are kept by hand.

    Raises:
        ValueError: a survivor stands under both.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if twice := set(tables.get("equivalent", {})) & set(tables.get("accepted", {})):
        raise ValueError(
            f"{path.name} has {min(twice)!r} under [equivalent] and under [accepted]; leave it in one"
        )
    return {key: (kind, why) for kind, lines in tables.items() for key, why in lines.items()}


def of_mutants(records: Sequence[Record]) -> list[Record]:
    """The records of mutants, by room, file and line."""
    mutants = [one for one in records if one["status"] != "unsound"]
    return sorted(mutants, key=lambda one: (one["room"], one["file"], one["line"], one["key"]))


def survivors(records: Sequence[Record]) -> list[Record]:
    """The records of mutants that no test saw."""
    return [one for one in of_mutants(records) if one["status"] == "survived"]


def table(records: Sequence[Record], why: Mapping[str, tuple[str, str]]) -> list[tuple[str, ...]]:
    """Lines of text cells: a room each and all together.

    Killed counts those that ran out of time; the share is of all but the invalid and the equivalent.
    """
    mutants = of_mutants(records)
    lines = [
        (
            "room",
            "mutants",
            "killed",
            "out of time",
            "survived",
            "equivalent",
            "invalid",
            "untested",
            "killed %",
        )
    ]
    for room in (*dict.fromkeys(one["room"] for one in mutants), "all"):
        here = [one for one in mutants if room in (one["room"], "all")]
        count = Counter(one["status"] for one in here)
        same = sum(why.get(one["key"], ("",))[0] == "equivalent" for one in survivors(here))
        killed, lived = count["killed"] + count["timeout"], count["survived"] - same
        share = f"{100 * killed / (killed + lived):.0f}" if killed + lived else "–"
        cells = (len(here), killed, count["timeout"], lived, same, count["invalid"], count["untested"])
        lines.append((room, *map(str, cells), share))
    return lines


def plain(records: Sequence[Record], why: Mapping[str, tuple[str, str]]) -> str:
    """The counts, who killed, the survivors without a reason, and tests that fail without any mutation."""
    rows = table(records, why)
    widths = [max(map(len, column)) for column in zip(*rows)]
    text = ["  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))) for row in rows]
    by = Counter(one["stage"] for one in of_mutants(records) if one["status"] in ("killed", "timeout"))
    text += ["", "killed by " + ", ".join(f"{stage} {n}" for stage, n in by.most_common())]
    for one in survivors(records):
        if one["key"] not in why:
            text += ["", f"survived: {one['file']}:{one['line']} {one['function']} ({one['kind']})"]
            text += [f"    {one['before']}", f"  → {one['after']}"]
    for one in records:
        if one["status"] == "unsound":
            text += [
                "",
                f"left out in {one['room']}, they fail without a mutation: {', '.join(one['failures'])}",
            ]
    return "\n".join(text)


def markdown(records: Sequence[Record], why: Mapping[str, tuple[str, str]]) -> str:
    """The counts and the survivors with their reasons, as the tables of a page."""
    head, *rows = table(records, why)
    text = [_line(head), _line(["---"] + ["--:"] * (len(head) - 1)), *map(_line, rows), ""]
    text += [_line(("survivor", "change", "why")), _line(["---"] * 3)]
    for one in survivors(records):
        kind, reason = why.get(one["key"], ("", ""))
        change = f"`{_cell(one['before'])}` → `{_cell(one['after'])}`"
        place = f"`{one['file']}` {one['function']}"
        text.append(_line((place, change, f"{kind}: {reason}" if kind else "")))
    return "\n".join(text)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(code: str) -> str:
    return code.replace("|", "\\|").replace("`", "'")


def skeleton(records: Sequence[Record], why: Mapping[str, tuple[str, str]]) -> str:
    """Lines for `reasons.toml` of the survivors that have no reason yet."""
    keys = [one["key"] for one in survivors(records) if one["key"] not in why]
    return "\n".join(f'{json.dumps(key, ensure_ascii=False)} = ""' for key in keys)
