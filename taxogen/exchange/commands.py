"""`taxoprobe export`, `import`, `push`: runs as checkpoints of other libraries, theirs as runs, and runs on the hub."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

log = logging.getLogger("taxogen")


def add(commands: argparse._SubParsersAction) -> None:
    """Adds these commands to the subcommands of a parser."""
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
    about = "put projector, settings, tables, figures and a card of a run into a repository of the Hugging Face hub"
    push = commands.add_parser("push", help=about, description=about)
    push.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run directory")
    push.add_argument(
        "--repo", required=True, metavar="USER/NAME", help="on the hub; made where it is not there"
    )
    push.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="also the page that taxoprobe report wrote into this folder",
    )
    push.add_argument("--step", type=int, metavar="N", help="of a saved projector (default: the last)")
    seen = push.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", help="only you see it (the default)")
    seen.add_argument("--public", action="store_true", help="everybody sees it")
    push.add_argument("--dry-run", action="store_true", help="list files and sizes, and send nothing")
    push.set_defaults(do=_push)


def _export(options: argparse.Namespace) -> None:
    from taxogen.exchange.llava import export_llava
    from taxogen.runs.run import Run

    exported = export_llava(Run.open(options.run), options.out, options.step)
    for template, text in exported.prompts.items():
        log.info("%s: %s", template, "cannot be written as one text" if text is None else repr(text))
    sys.stdout.write(
        f"{exported.folder} is written, its logits differ from the run's by {exported.difference:.1e} of the largest; "
        f"next: taxoprobe adopt --vlm {exported.folder}\n"
    )


def _import(options: argparse.Namespace) -> None:
    from taxogen.exchange.prismatic import import_prismatic
    from taxogen.runs.run import Run

    path = import_prismatic(options.prismatic, Run.open(options.run))
    sys.stdout.write(f"{path} is written; next: taxoprobe evaluate --run {options.run}\n")


def _push(options: argparse.Namespace) -> None:
    from taxogen.exchange.push import gather, push
    from taxogen.runs.run import Run

    run = Run.open(options.run)
    upload = gather(run, options.repo, options.report, options.step)
    total = sum(upload.sizes.values())
    if options.dry_run:
        lines = [f"{size / 1e6:10.3f} MB  {name}" for name, size in upload.sizes.items()]
        seen = "public" if options.public else "private"
        lines.append(
            f"{total / 1e6:10.3f} MB  {len(lines)} files, to {options.repo} ({seen}); nothing was sent"
        )
        sys.stdout.write("\n".join(lines) + "\n")
        return
    address = push(upload, options.repo, f"Run {run.name} ({run.config.hash})", options.public)
    sys.stdout.write(f"pushed {len(upload.files)} files ({total / 1e6:.1f} MB) to {address}\n")
