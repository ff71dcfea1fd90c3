"""python -m taxogen config | taxonomy | prepare | train | evaluate | sweep | doctor

Reads: a TOML config, pictures, package or hub weights. Writes: a run directory (`--run`, default artifacts/runs/NAME).
"""

import argparse
import logging
import sys
from pathlib import Path

from probing.hooks.verify import verify
from taxogen.runs import bench, config
from taxogen.runs.presets import PRESETS, preset
from taxogen.runs.run import Run
from taxogen.stages import pipeline

log = logging.getLogger("taxogen")
RUNS = Path("artifacts/runs")


def main(argv: list[str] | None = None) -> int:
    """The exit status of the command line: 0, or 2 after a refusal, whose one message says what to do."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for library in ("httpx", "transformers", "matplotlib"):
        logging.getLogger(library).setLevel(logging.WARNING)
    options = _parser().parse_args(argv)
    try:
        return options.do(options) or 0
    except (ValueError, KeyError, OSError, FloatingPointError, ModuleNotFoundError) as refusal:
        text = refusal.args[0] if isinstance(refusal, KeyError) and refusal.args else refusal
        log.error("taxogen %s: %s", options.command, text)
        return 2


def open_run(options: argparse.Namespace) -> Run:
    """The run that the options name: one that is there, its own config changed by --set, or one made for the config."""
    there = options.run and (options.run / "config.json").exists()
    if there and not options.config and not options.preset:
        run = Run.open(options.run)
        if not options.settings:
            return run
        base = dict(config.flatten(run.config.to_dict()))
        return Run.create(options.run, config.read(None, options.settings, base))
    wanted = config.read(options.config, options.settings, preset(options.preset or "default"))
    path = options.run or RUNS / wanted.name
    if options.command == "evaluate" and not (path / "config.json").exists():
        return Run.open(path)  # refuses, and names the command that trains
    return Run.create(path, wanted)


def _prepare(options: argparse.Namespace) -> None:
    run = open_run(options)
    with run.alone():
        made, features = bench.prepare_run(run)
    counts = {name: len(manifest) for name, manifest in made.manifests.items()}
    log.info(
        "%s: %d pictures of %d leaves, features %s",
        run.path,
        len(made.table),
        len(made.taxonomy.leaves),
        tuple(features.shape),
    )
    log.info("items: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))


def _train(options: argparse.Namespace) -> None:
    if options.capture_at:
        options.settings = [*options.settings, f"capture.at={options.capture_at}"]
    for name in ("sites", "spans"):
        if getattr(options, name):
            options.settings = [*options.settings, f"capture.{name}={getattr(options, name)}"]
    run = open_run(options)
    with run.alone():
        pipeline.train_run(run)
    log.info("%s is trained; captured at steps %s", run.path, ", ".join(map(str, run.steps)))
    log.info("next: python -m taxogen evaluate --run %s", run.path)


def _evaluate(options: argparse.Namespace) -> None:
    run = open_run(options)
    with run.alone():
        scores = pipeline.evaluate_run(run)
    log.info("%s: %d pictures × %d hypernyms scored", run.path, *scores.image_scores.shape)
    log.info("next: python -m analyses.behaviour --run %s", run.path)


def _config(options: argparse.Namespace) -> None:
    sys.stdout.write(
        config.to_toml(config.read(options.config, options.settings, preset(options.preset or "default")))
    )


def _sweep(options: argparse.Namespace) -> int:
    from taxogen.stages import sweep

    base = config.settings(options.config, options.settings, preset(options.preset or "default"))
    table = sweep.sweep(sweep.grid(base, options.vary), options.run or RUNS, cluster=options.ray)
    log.info("table: %s", (options.run or RUNS) / sweep.TABLE)
    return int((table["state"] != "done").any())


def _doctor(options: argparse.Namespace) -> int:
    report = verify(bench.open_lm(Run.open(options.run)).model)
    sys.stdout.write(f"{report}\n")
    return 0 if report.holds else 1


def _taxonomy(options: argparse.Namespace) -> None:
    from taxogen.world.wordnet import build_table

    build_table(options.leaves, options.out, options.hypernyms)
    log.info("wrote %s", options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m taxogen", description="Make, train and score runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, do, about in (
        ("prepare", _prepare, "check the input, write manifests, compute features"),
        ("train", _train, "prepare, then train the projector; goes on where it was stopped"),
        ("evaluate", _evaluate, "score every hypernym for every test picture"),
        ("config", _config, "print the config as TOML"),
        ("sweep", _sweep, "train and score a run for each combination of settings"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument(
            "--config", type=Path, metavar="FILE", help="a TOML file; the defaults where none is given"
        )
        command.add_argument("--preset", choices=sorted(PRESETS), help="settings to start from")
        command.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
        command.set_defaults(do=do)
        if name != "config":
            holds = f"the run directory; default {RUNS}/NAME"
            holds = f"holds the runs; default {RUNS}" if name == "sweep" else holds
            command.add_argument("--run", "--out", type=Path, metavar="DIR", help=holds)
        if name == "sweep":
            command.add_argument("--vary", action="append", default=[], metavar="KEY=A,B")
            command.add_argument("--ray", action="store_true", help="give the runs to Ray (extra `cluster`)")
        if name == "train":
            command.add_argument("--capture-at", metavar="STEPS", help="such as 0,50,200,last")
            command.add_argument("--sites", help="such as hook_embed,blocks.*.hook_resid_post")
            command.add_argument("--spans", help="such as slot,cue,last")
    doctor = commands.add_parser("doctor", help="say whether the run's language model is captured faithfully")
    doctor.add_argument("--run", type=Path, required=True, metavar="DIR")
    doctor.set_defaults(do=_doctor)
    taxonomy = commands.add_parser("taxonomy", help="build a taxonomy table from WordNet")
    taxonomy.add_argument("--leaves", type=Path, required=True, metavar="FILE", help="CSV: leaf, synset")
    taxonomy.add_argument(
        "--hypernyms", type=Path, metavar="FILE", help="CSV: hypernym, synset; default: all above the leaves"
    )
    taxonomy.add_argument("--out", type=Path, required=True, metavar="FILE")
    taxonomy.set_defaults(do=_taxonomy)
    return parser


if __name__ == "__main__":
    sys.exit(main())
