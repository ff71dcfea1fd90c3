"""python -m taxogen config | plan | taxonomy | prepare | train | evaluate | adopt | export | import | push | sweep …

Reads: a TOML config, pictures, package or hub weights. Writes: a run directory (`--run`, default artifacts/runs/NAME).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from taxogen.exchange import commands as commands_of_exchange
from taxogen.models import ranks
from taxogen.runs import config, flags
from taxogen.runs.flags import RUNS
from taxogen.runs.presets import preset
from taxogen.stages.planning import command as commands_of_planning
from taxogen.stages.sweeping import command as commands_of_sweeps

if TYPE_CHECKING:  # each command imports what it needs: help and completion do not wait for torch
    from taxogen.runs.run import Run

log = logging.getLogger("taxogen")
SHARED = ("train", "evaluate")
"""Commands that several processes share under torchrun; the others are for one."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


def main(argv: list[str] | None = None) -> int:
    """The exit status of the command line: 0, or 2 after a refusal, whose one message says what to do."""
    first = _first()
    if not first:
        os.environ["TQDM_DISABLE"] = "1"
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, handlers=[_handler()])
    for library in ("httpx", "httpx2", "transformers", "matplotlib"):
        logging.getLogger(library).setLevel(logging.WARNING)
    options = parser().parse_args(argv)
    try:
        if options.command not in SHARED:
            ranks.require_one(f"`{options.command}`")
        return options.do(options) or 0
    except flags.REFUSALS as refusal:
        text = refusal.args[0] if isinstance(refusal, KeyError) and refusal.args else refusal
        if ranks.speaks():
            log.error("taxogen %s: %s", options.command, text)
        return 2
    except RuntimeError:
        if ranks.count() == 1 or ranks.speaks():
            raise
        return 2  # another process has refused, said why, and left this one


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(flags.Notes("%(message)s"))
    return handler


def _first() -> bool:
    """Whether this process tells how it goes: under torchrun the first alone does."""
    return os.environ.get("RANK", "0") == "0"


def command() -> int:
    """The exit status of `main`; Ctrl-C is one line, and a sign that the terminal's code page lacks a question mark."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        return main()
    except KeyboardInterrupt:
        if ranks.speaks():
            log.error("taxogen: stopped by Ctrl-C; the same command goes on from what is stored")
        return INTERRUPTED


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Run]:
    """A block that alone works on the run that the options name, or with the other processes under torchrun.

    That is one that is there, its own config changed by --set, or one made for the config.
    """
    from probing.store import cache
    from taxogen.runs.run import Run

    def wanted() -> config.Config:
        if own:
            base = dict(config.flatten(Run.open(options.run).config.to_dict()))
            return config.read(None, options.settings, base)
        return config.read(options.config, options.settings, preset(options.preset or "default"))

    there = options.run and (options.run / "config.json").exists()
    own = there and not options.config and not options.preset
    path = options.run or RUNS / wanted().name
    if options.command == "evaluate":
        Run.open(path)  # refuses, and names the command that trains, where there is none
    ranks.join(wanted().model.device)
    ranks.in_turn(lambda: Run.create(path, wanted()))  # refuses without waiting
    with ExitStack() as stack:
        ranks.by_first(lambda: stack.enter_context(cache.locked(path / "run")))
        # As it is now: another process may have changed it meanwhile.
        yield ranks.in_turn(lambda: Run.create(path, wanted()))
        ranks.leave()


def _prepare(options: argparse.Namespace) -> None:
    from taxogen.runs import bench

    with opened(options) as run:
        made = bench.open_bench(run, adopt=True)
        run.save_config()
    counts = {name: len(manifest) for name, manifest in made.world.manifests.items()}
    log.info("items: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))
    _say(
        f"{run.path} is prepared, {len(made.world.table)} pictures of {len(made.world.taxonomy.leaves)} leaves, "
        f"features {tuple(made.features.shape)}; next: taxoprobe train --run {run.path}"
    )


def _train(options: argparse.Namespace) -> None:
    from taxogen.stages import pipeline

    if options.capture_at:
        options.settings = [*options.settings, f"capture.at={options.capture_at}"]
    for name in ("sites", "spans"):
        if getattr(options, name):
            options.settings = [*options.settings, f"capture.{name}={getattr(options, name)}"]
    with opened(options) as run:
        pipeline.train_run(run)
    steps = ", ".join(map(str, run.steps))
    _say(f"{run.path} is trained, captured at steps {steps}; next: taxoprobe evaluate --run {run.path}")


def _adopt(options: argparse.Namespace) -> None:
    from taxogen.stages import pipeline

    if options.lm:
        _adopt_words(options)
        return
    chosen = {"model.vlm": options.vlm, "data.pictures": options.pictures, "data.taxonomy": options.taxonomy}
    chosen |= {"data.templates": ",".join(options.template), "data.chat": "true" if options.chat else ""}
    chosen |= {"capture.sites": options.sites, "name": options.run.name if options.run else ""}
    options.settings = [*(f"{key}={value}" for key, value in chosen.items() if value), *options.settings]
    with opened(options) as run:
        pipeline.train_run(run)
        scores = pipeline.evaluate_run(run)
    pictures, hypernyms = scores.image_scores.shape
    _say(
        f"{run.path} is captured, {pictures} pictures × {hypernyms} hypernyms scored; "
        f"next: taxoprobe analyse layer-probes --run {run.path}"
    )


def _adopt_words(options: argparse.Namespace) -> None:
    from taxogen.runs.prepare import taxonomy_of
    from taxogen.stages.words import capture_words

    given = {"--pictures": options.pictures, "--set": options.settings, "--template": options.template[1:]}
    if idle := [flag for flag, value in given.items() if value]:
        raise ValueError(
            f"{idle[0]} was given with --lm, which reads the leaves' names in one template; leave it out"
        )
    taxonomy = taxonomy_of(config.DataConfig(taxonomy=options.taxonomy or ""))
    wanted = config.read(None, [f"capture.sites={options.sites}"] if options.sites else ()).capture.sites
    template = options.template[0] if options.template else "kind"
    folder = (options.run or RUNS / "words") / "words"
    store = capture_words(options.lm, taxonomy, folder, template=template, chat=options.chat, sites=wanted)
    taxonomy.write(folder.parent / "taxonomy.csv")
    _say(
        f"{folder} is captured, {len(store)} leaves at {len(store.sites)} sites; "
        f"next: taxoprobe analyse layer-probes --text {folder} --taxonomy {folder.parent / 'taxonomy.csv'}"
    )


def _evaluate(options: argparse.Namespace) -> None:
    from taxogen.stages import pipeline

    with opened(options) as run:
        scores = pipeline.evaluate_run(run)
    pictures, hypernyms = scores.image_scores.shape
    _say(
        f"{run.path} is evaluated, {pictures} pictures × {hypernyms} hypernyms scored; "
        f"next: taxoprobe analyse behaviour --run {run.path}"
    )


def _say(text: str) -> None:
    """Writes what a command came to, in one line."""
    if _first():
        sys.stdout.write(f"{text}\n")


def _config(options: argparse.Namespace) -> None:
    from taxogen.runs.config.reference import to_toml

    wanted = config.read(options.config, options.settings, preset(options.preset or "default"))
    sys.stdout.write(to_toml(wanted))


def _doctor(options: argparse.Namespace) -> int:
    from taxogen.runs.run import Run
    from taxogen.stages import doctor

    report = doctor.examine(Run.open(options.run))
    sys.stdout.write(f"{report}\n")
    return 0 if report.holds else 1


def _taxonomy(options: argparse.Namespace) -> None:
    from taxogen.world.wordnet import build_table

    built = build_table(options.leaves, options.out, options.hypernyms)
    _say(
        f"{options.out} is written, {len(built.leaves)} leaves under {len(built.hypernyms)} hypernyms; "
        f"next: taxoprobe prepare --set data.taxonomy={options.out} --set data.pictures=FOLDER"
    )


def parser() -> argparse.ArgumentParser:
    """The parser of `python -m taxogen`."""
    parser = flags.Parser(prog="python -m taxogen", description="Make, train and score runs.")
    add_commands(parser.add_subparsers(dest="command", required=True))
    return parser


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds every command of taxogen to the subcommands of a parser."""
    for name, do, about in (
        ("prepare", _prepare, "check the input, write manifests, compute features"),
        ("train", _train, "prepare, then train the projector; goes on where it was stopped"),
        ("evaluate", _evaluate, "score every hypernym for every test picture"),
        ("config", _config, "print every setting with its value, meaning, unit and choices, as TOML"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(do=do)
        _add_settings(command, name)
    about = "say what a run, or a whole plan, will take on some cards, before anything is loaded"
    commands_of_planning.add(commands.add_parser("plan", help=about, description=about))
    about = "make the runs of a plan file, or of each combination of settings"
    sweep = commands.add_parser("sweep", help=about, description=about)
    _add_settings(sweep, "sweep")
    commands_of_sweeps.add(sweep)
    about = "capture a released model without training: a run with pictures, or a store of words"
    adopt = commands.add_parser("adopt", help=about, description=about)
    _add_adopted(adopt)
    adopt.set_defaults(do=_adopt, config=None, preset=None)
    commands_of_exchange.add(commands)
    about = "say what of a run is as it was written, and whether its language model is captured faithfully"
    doctor = commands.add_parser("doctor", help=about, description=about)
    doctor.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run directory")
    doctor.set_defaults(do=_doctor)
    about = "build a taxonomy table from WordNet"
    taxonomy = commands.add_parser("taxonomy", help=about, description=about)
    taxonomy.add_argument("--leaves", type=Path, required=True, metavar="FILE", help="CSV: leaf, synset")
    taxonomy.add_argument(
        "--hypernyms", type=Path, metavar="FILE", help="CSV: hypernym, synset (default: all above the leaves)"
    )
    taxonomy.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    taxonomy.set_defaults(do=_taxonomy)


def _add_settings(command: argparse.ArgumentParser, name: str) -> None:
    """The flags that choose settings, and those of single commands beside them."""
    flags.add_settings(command)
    if name not in ("config", "sweep"):
        holds = f"the run directory (default: {RUNS}/NAME)"
        command.add_argument("--run", "--out", type=Path, metavar="DIR", help=holds)
    if name == "train":
        command.add_argument(
            "--capture-at",
            metavar="STEPS",
            help="steps at which activations are captured, such as 0,50,200,last (default: capture.at)",
        )
        command.add_argument(
            "--sites",
            help="what is captured, such as hook_embed,blocks.*.hook_resid_post (default: capture.sites)",
        )
        command.add_argument("--spans", help="where, such as slot,cue,last (default: capture.spans)")


def _add_adopted(command: argparse.ArgumentParser) -> None:
    model = command.add_mutually_exclusive_group(required=True)
    model.add_argument("--vlm", metavar="NAME", help="hub name or folder of a vision-language model")
    model.add_argument(
        "--lm",
        metavar="NAME",
        help="of a language model: a store of the leaves' names, for questions about words",
    )
    command.add_argument(
        "--pictures",
        metavar="DIR",
        help="a folder with a folder for each leaf (default: the bundled pictograms)",
    )
    command.add_argument(
        "--taxonomy", metavar="FILE", help="CSV: leaf, hypernym (default: that of the pictograms)"
    )
    command.add_argument(
        "--template", action="append", default=[], metavar="NAME",
        help="how questions are put, such as kind (default: kind)",
    )  # fmt: skip
    command.add_argument("--chat", action="store_true", help="put questions in the model's chat template")
    command.add_argument(
        "--sites",
        help="what is captured, such as hook_embed,blocks.*.hook_resid_post (default: capture.sites)",
    )
    command.add_argument(
        "--run", "--out", type=Path, metavar="DIR", help=f"the run directory (default: {RUNS}/NAME)"
    )
    flags.add_set(command)


if __name__ == "__main__":
    sys.exit(command())
