"""Mutants: small faults put into the source one at a time, and whether the tests see them.

python -m tests.mutants --per-room 12 --seed 0
python -m tests.mutants --room probing/stats --room lens --per-room 30
python -m tests.mutants --again                  # the survivors of the last run, after tests were added
python -m tests.mutants --markdown               # the last run as the tables of docs/testing.md

Reads: the files that git tracks or would track, copied to a temporary folder; reasons.toml.
Writes: artifacts/mutants.json.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.mutants import report
from tests.mutants.rooms import Mutant, mutants, rooms, sample
from tests.mutants.runs import run

ROOT = Path(__file__).parent.parent.parent
Record = dict[str, Any]
MARKS = {
    "killed": "✓",
    "timeout": "✓ out of time",
    "survived": "SURVIVED",
    "invalid": "invalid",
    "untested": "untested",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    description, _, examples = (__doc__ or "").partition("\n\n")
    made = argparse.ArgumentParser(
        "python -m tests.mutants",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--room", action="append", default=[], help="a room, or the end of its name; default: all"
    )
    made.add_argument("--files", action="append", default=[], help="only files whose paths contain this")
    made.add_argument("--per-room", type=int, default=12, help="mutants drawn of each room")
    made.add_argument("--seed", type=int, default=0, help="of the draw")
    made.add_argument(
        "--own",
        action="store_true",
        help="run only the first tests of a room, those that mirror it: stricter",
    )
    made.add_argument("--workers", type=int, default=2, help="processes that test at the same time")
    made.add_argument(
        "--out", type=Path, default=ROOT / "artifacts" / "mutants.json", help="where records are kept"
    )
    made.add_argument("--list", action="store_true", help="print the drawn mutants and test none")
    made.add_argument("--again", action="store_true", help="test only the survivors of --out again")
    made.add_argument("--markdown", action="store_true", help="print --out as tables of a page and test none")
    made.add_argument(
        "--skeleton", action="store_true", help="print survivors of --out as lines for reasons.toml"
    )
    return made


def chosen_rooms(names: list[str]) -> list[str]:
    """The rooms that are named, or all.

    Raises:
        KeyError: no room has that name; the known are listed.
    """
    known = rooms(ROOT)
    for name in names:
        if not any(f"/{room}".endswith(f"/{name}") for room in known):
            raise KeyError(f"no room {name!r}; rooms are {', '.join(known)}")
    return [room for room in known if not names or any(f"/{room}".endswith(f"/{name}") for name in names)]


def main() -> int:
    """Runs the command; 1 where a test fails without any mutation."""
    options = parser().parse_args()
    why = report.reasons()
    earlier: list[Record] = json.loads(options.out.read_text()) if options.out.is_file() else []
    if options.markdown or options.skeleton:
        print((report.markdown if options.markdown else report.skeleton)(earlier, why))
        return 0
    lived = {one["key"] for one in report.survivors(earlier)}
    drawn = {
        room: _of_keys(room, lived)
        if options.again
        else sample(ROOT, room, options.per_room, options.seed, options.files)
        for room in chosen_rooms(options.room)
    }
    if options.list:
        for mutant in (one for every in drawn.values() for one in every):
            place = f"{mutant.file}:{mutant.mutation.line} {mutant.mutation.kind}"
            print(f"{place}: {mutant.before} → {mutant.after}")
        return 0
    again = {mutant.key for every in drawn.values() for mutant in every} if options.again else set()
    records = [one for one in earlier if options.again and one.get("key", "") not in {"", *again}]
    records += tested(drawn, options, records)
    print("", report.plain(records, why), sep="\n")
    return int(any(one["status"] == "unsound" for one in records))


def tested(
    drawn: Mapping[str, Sequence[Mutant]], options: argparse.Namespace, before: Sequence[Record]
) -> list[Record]:
    """The records of all drawn mutants; each is told, and kept on disk with those of before, as soon as it is known."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exit ends the workers as well
    rooms = {room: mutants for room, mutants in drawn.items() if mutants}
    total, done, records = sum(map(len, rooms.values())), 0, []
    for record in run(ROOT, rooms, options.workers, own=options.own):
        records.append(record)
        if record["status"] != "unsound":
            done += 1
            place, mark = f"{record['file']}:{record['line']}", MARKS.get(record["status"], record["status"])
            what = f"{place} {record['kind']} {mark} {record['seconds']} s {record['by']}"
            print(f"{done}/{total} {what}", flush=True)
        options.out.parent.mkdir(exist_ok=True)
        text = json.dumps([*before, *records], indent=1, ensure_ascii=False)
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return records


def _of_keys(room: str, keys: set[str]) -> list[Mutant]:
    every = {mutant.key: mutant for mutant in mutants(ROOT, room) if mutant.key in keys}
    return list(every.values())


if __name__ == "__main__":
    sys.exit(main())
