"""How runs were made, in tables: what a reader needs to make them again, and what the checklist of a paper asks."""

from __future__ import annotations

import platform
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import pandas as pd
from safetensors import safe_open

from analyses.frame.section import Block, Grid
from analyses.inputs.intervals import limits_text
from analyses.report.design import RELEASED, TRAINED, Design
from analyses.report.sentences import about_hypernyms, bundled, limits, listed, what_it_is, what_right_shows
from probing.stats import DRAWS
from probing.store import records
from taxogen.models import weights
from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.world import pictures

_SHORT = 12


def conditions(of: Sequence[Design]) -> Grid:
    """Each condition: what it is, how many runs it has, what training said, and what a right answer shows."""
    first = {design.condition: design for design in reversed(of)}
    names = list(dict.fromkeys(design.condition for design in of))
    rows = [
        [
            name,
            what_it_is(first[name]),
            _count(of, name),
            about_hypernyms(first[name]),
            what_right_shows(first[name], of),
        ]
        for name in names
    ]
    header = [
        "condition",
        "what it is",
        "runs",
        "what training said of hypernyms",
        "what a right answer shows",
    ]
    return Grid(header, rows, "The conditions.")


def made(of: Sequence[Design], seconds: Mapping[str, float]) -> list[Block]:
    """The tables of how runs were made: the runs first, all others folded."""
    blocks: list[Block] = [_runs(of), _models(of), _pictures(of), _hashes(of), _software(of), _settings(of)]
    if credits := _credits(of):
        blocks.append(credits)
    if seconds:
        about = f"Seconds of each stage ({sum(seconds.values()):.0f} s in all, some side by side)."
        blocks.append(
            Grid(["stage", "s"], [[name, f"{value:.1f}"] for name, value in seconds.items()], about, True)
        )
    return blocks


def checklist(of: Sequence[Design], page: str) -> Grid:
    """What the checklist of a paper asks, answered for these runs."""
    trained = [design for design in of if design.origin == TRAINED]
    seconds = sum(float(design.run.record.get("seconds") or 0) for design in trained)
    runs = (
        f"{_counted(len(trained), 'training')} took {_counted(round(seconds / 60), 'minute')} in all"
        if trained
        else "nothing was trained"
    )
    seeds = Counter(design.condition for design in of).values()
    threads = sorted({design.run.record["threads"] for design in of})
    leaves = max(len(design.run.taxonomy.leaves) for design in of)
    data = of[0].run.config.data
    rows = [
        ["limitations", " ".join(limits(of, leaves))],
        ["training", " ".join(dict.fromkeys(map(about_hypernyms, of)))],
        [
            "splits",
            f"rule {listed(design.run.config.data.split for design in of)}; every draw has its seed, "
            f"{listed(str(design.run.config.seed) for design in of)}; "
            f"test pictures: {data.pictures if not bundled(of[0]) else 'bundled pictograms'}",
        ],
        [
            "intervals",
            f"{limits_text(seeds)}, {DRAWS} draws, where answers are scored; under each figure stands what its "
            "limits are over, its null, n, and which correction there is for many layers, places or hypernyms",
        ],
        [
            "compute",
            f"{runs}, on {listed(map(str, threads))} thread{'s' * (threads != [1])}; the page was written on "
            f"{_machine()}",
        ],
        [
            "reproduction",
            "the settings below that are not the default, and `taxoprobe train --run DIR --set …`; hashes below say "
            "whether pictures, questions, models and projectors are the same",
        ],
        ["licences", "of pictures, encoder and language model: in the tables below"],
        ["this page", page],
    ]
    return Grid(["asked", "answer"], rows, "For the checklist of a paper.", folded=True)


def _count(of: Sequence[Design], condition: str) -> str:
    return str(sum(design.condition == condition for design in of))


def _runs(of: Sequence[Design]) -> Grid:
    rows = []
    for design in of:
        run, record = design.run, design.run.record
        trained = design.origin == TRAINED
        rows.append(
            [
                run.name,
                design.condition,
                str(run.config.seed),
                f"{record['steps']} × {run.config.train.batch}" if trained else "–",
                str(record["training_items"]) if trained else "–",
                ", ".join(map(str, run.steps)) or "–",
                f"{record['seconds']:.0f}" if trained and record.get("seconds") else "–",
                str(record["threads"]),
                str(record["dtype"]),
            ]
        )
    header = [
        "run",
        "condition",
        "seed",
        "steps × batch",
        "questions",
        "captured at",
        "s",
        "threads",
        "computed in",
    ]
    return Grid(
        header, rows, "Every run: its training, how long it took in seconds, and on how many threads."
    )


def _models(of: Sequence[Design]) -> Grid:
    rows: list[tuple[str, ...]] = []
    for design in of:
        run, model = design.run, design.run.config.model
        lm = run.record["lm"]
        if design.origin == RELEASED:
            rows.append(
                (
                    "released model",
                    design.lm,
                    lm["revision"],
                    "as released",
                    weights.licence(design.lm),
                    _cut(lm["weight_hash"]),
                )
            )
            continue
        encoder: Mapping[str, Any] = run.world["encoder"] if run.closed else {}
        about = str(encoder.get("preprocessing", ""))
        revision = str(encoder.get("revision", ""))
        rows.append(
            ("image encoder", model.encoder, revision, "frozen", weights.licence(model.encoder), about)
        )
        before = "the same hash before and after training, " if design.origin == TRAINED else ""
        hashed = f"{before}{_cut(lm['weight_hash'])}; {model.init}"
        rows.append(
            ("language model", lm["name"], lm["revision"], "frozen", weights.licence(model.lm), hashed)
        )
        learned = "learned" if design.origin == TRAINED else "from elsewhere"
        about = f"{parameters(run):,} weights, {model.image_tokens} picture tokens"
        rows.append(("projector", model.projector, "", learned, "", about))
    header = ["part", "name", "revision", "weights", "licence", "about"]
    return Grid(header, _unique(rows), "Models.", folded=True)


def parameters(run: Run) -> int:
    """The number of weights of a run's last projector."""
    with safe_open(run.require_snapshot(run.record["steps"]), framework="np") as stored:
        return sum(prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118


def _pictures(of: Sequence[Design]) -> Grid:
    rows: list[tuple[str, ...]] = []
    for design in of:
        if not design.run.closed:
            continue
        table = pd.read_csv(design.run.part_of_world("pictures.csv"), dtype=str, keep_default_na=False)
        name = design.run.config.data.pictures
        for (source, licence), own in table.groupby(["source", "licence"]):
            split = own["split"].value_counts()
            counts = ", ".join(
                f"{split[part]} {part}" for part in ("train", "validation", "test") if part in split
            )
            known = str(licence) or "not recorded: see where they come from"
            rows.append((name, str(source), known, str(len(own)), counts))
    header = ["pictures", "source", "licence", "number", "split"]
    return Grid(header, _unique(rows), "Pictures by source, and their licences.", folded=True)


def _credits(of: Sequence[Design]) -> Grid | None:
    """Who made the bundled pictures, where there are any."""
    if not any(map(bundled, of)):
        return None
    rows = pictures.credits()[["source", "licence", "credit"]].to_numpy(str).tolist()
    return Grid(["source", "licence", "credit"], rows, "Credits of the pictures.", folded=True)


def _hashes(of: Sequence[Design]) -> Grid:
    rows = []
    for design in of:
        run = design.run
        makers = run.makers()
        manifests = run.record["manifest_hash"]
        scores = run.file("scores.h5")
        rows.append(
            [
                run.name,
                makers["run"],
                _cut(makers["world"]),
                _cut(makers["projector"]),
                *(_cut(str(manifests.get(name, "–"))) for name in ("train", "test")),
                _cut(records.sha256(scores)) if scores.is_file() else "–",
            ]
        )
    header = ["run", "config", "world", "projector", "train questions", "test questions", "scores"]
    about = f"Hashes (SHA-256, the first {_SHORT} digits): equal ones are equal bytes."
    return Grid(header, rows, about, folded=True)


def _software(of: Sequence[Design]) -> Grid:
    versions = {design.run.name: design.run.record["versions"] for design in of}
    names = list(dict.fromkeys(name for known in versions.values() for name in known))
    rows = _unique(tuple(str(known.get(name, "–")) for name in names) for known in versions.values())
    return Grid(
        names, rows, "Versions with which the runs were made, a row for each set of them.", folded=True
    )


def _settings(of: Sequence[Design]) -> Grid:
    rows = [[design.run.name, changed(design.run)] for design in of]
    about = "Settings that are not the default, as --set takes them; all others are in docs/settings.md."
    return Grid(["run", "settings"], rows, about, folded=True)


def changed(run: Run) -> str:
    """The settings of a run that are not the default, as words of a command line."""
    default = dict(config.flatten(config.Config().to_dict()))
    own = {
        key: value
        for key, value in config.flatten(run.config.to_dict())
        if value != default[key] and key != "name"
    }
    return shlex.join(f"{key}={_text(value)}" for key, value in own.items()) or "none"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _cut(digest: str) -> str:
    return digest[:_SHORT]


def _unique(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    return [list(row) for row in dict.fromkeys(map(tuple, rows))]
