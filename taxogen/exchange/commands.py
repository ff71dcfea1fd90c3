"""`taxoprobe export` and `taxoprobe import`: runs as checkpoints of other libraries, and theirs as runs."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

log = logging.getLogger("taxogen")


def add(commands: argparse._SubParsersAction) -> None:
    """Adds both commands to the subcommands of a parser."""
    about = "write a run as a checkpoint that transformers opens"
    export = commands.add_parser("export", help=about, description=about)
    export.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run directory")
    export.add_argument(
        "--to",
        choices=("llava",),
        default="llava",
        help="the kind of checkpoint: LlavaForConditionalGeneration",
    )
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    export.add_argument("--step", type=int, metavar="N", help="of a saved projector (default: the last)")
    export.set_defaults(do=_export)
    about = "take the projector of a prismatic-vlms checkpoint into a run that is prepared"
    taken = commands.add_parser("import", help=about, description=about)
    taken.add_argument(
        "--prismatic", type=Path, required=True, metavar="DIR", help="the folder of the checkpoint"
    )
    taken.add_argument("--run", type=Path, required=True, metavar="DIR", help="prepared, not trained")
    taken.set_defaults(do=_import)


def _export(options: argparse.Namespace) -> None:
    from taxogen.exchange.llava import export_llava
    from taxogen.runs.run import Run

    exported = export_llava(Run.open(options.run), options.out, options.step)
    log.info(
        "wrote %s; its logits differ from the run's by %.1e of the largest",
        exported.folder,
        exported.difference,
    )
    for template, text in exported.prompts.items():
        log.info("%s: %s", template, "cannot be written as one text" if text is None else repr(text))


def _import(options: argparse.Namespace) -> None:
    from taxogen.exchange.prismatic import import_prismatic
    from taxogen.runs.run import Run

    path = import_prismatic(options.prismatic, Run.open(options.run))
    log.info("wrote %s", path)
    log.info("next: python -m taxogen evaluate --run %s", options.run)
