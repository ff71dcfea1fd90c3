"""More activations of a trained run, from its projector snapshots: `python -m analyses.capture --run R --step S …`.

    python -m analyses.capture --run R --step 100 --step last
    python -m analyses.capture --run R --name heads --sites blocks.*.attn.hook_z,blocks.*.hook_mlp_out --spans cue,last

Reads: the snapshots, manifests and config of the run.
Writes: captures/step-*/ and captures/text/ in the run, with the bytes that a capture while training would have; with
--name captures-NAME/ in their place, which may hold other sites and spans. Damaged shards are made again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analyses.frame.analysis import REFUSALS, in_one_line
from analyses.frame.command_line import described_parser
from probing.hooks.layouts import layout_of
from probing.sites import PATTERN
from probing.store import MismatchError
from taxogen.models import ranks
from taxogen.runs import config
from taxogen.runs.bench import Bench, open_bench
from taxogen.runs.names import plain_name
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from taxogen.stages.train import resolve_steps

WANTED = ("sites", "spans", "dtype")


def main(argv: list[str] | None = None) -> None:
    """Captures the asked steps and the text twins, unless they are there already, and mends what is damaged."""
    command = parser()
    options = command.parse_args(argv)
    try:
        ranks.require_one(f"`{command.prog}`")
        run = wanted(Run.open(options.run), options)
        steps = resolve_steps(options.step or ["last"], run.record["steps"])
        if missing := sorted(set(steps) - set(run.snapshots)):
            raise KeyError(
                f"{run.path} has no projector of step {missing[0]}; there are {list(run.snapshots)}"
            )
        with run.alone():
            mended = capture(run, steps)
    except REFUSALS as refusal:
        command.exit(2, f"{command.prog}: {in_one_line(refusal)}\n")
    for shard, reason in mended.items():
        print(f"{shard} was made again: {reason}")
    print(f"{run.path / run.captures}: captured at steps {', '.join(map(str, run.steps))}")


def capture(run: Run, steps: Sequence[int]) -> dict[Path, str]:
    """Captures picture rows of the steps, and text rows; returns the shards that were damaged, and how."""
    bench, mended = open_bench(run), {}
    if any(PATTERN in site for site in run.config.capture.sites):
        bench.vlm.model.set_attn_implementation("eager")  # no other attention makes the pattern
    refuse_other(run, bench, [*steps, None])
    for step in [*steps, None]:
        if run.captured(step):
            folder = run.store_path(step, pipeline.modality(step))
            mended |= {folder / shard: why for shard, why in pipeline.mend_capture(bench, step).items()}
        elif step is None:
            pipeline.capture_text(bench)
        else:
            pipeline.capture_step(bench, step)
    return mended


def wanted(run: Run, options: argparse.Namespace) -> Run:
    """The run with the folder of captures and the capture settings that are asked for.

    Raises:
        ValueError: other settings than those of training were asked for without a name for the captures, or the name
            is a path.
    """
    if options.name:
        plain_name(options.name, "--name")
    asked = {f"capture.{key}": getattr(options, key) for key in WANTED if getattr(options, key)}
    if asked and not options.name:
        raise ValueError(
            f"{run.path / 'captures'} holds what its config names; give captures with other "
            f"{', '.join(key.removeprefix('capture.') for key in asked)} a name: --name NAME"
        )
    settings = dict(config.flatten(run.config.to_dict())) | asked
    return replace(run.with_captures(options.name), config=config.from_flat(settings))


def refuse_other(run: Run, bench: Bench, steps: Sequence[int | None]) -> None:
    """Raise a MismatchError where a whole capture holds other sites, spans or numbers than are asked for."""
    sites = tuple(map(str, layout_of(bench.vlm.model).select(run.config.capture.sites)))
    for step in steps:
        if not run.captured(step):
            continue
        store = run.store(step, pipeline.modality(step))
        asked = {
            "sites": sites,
            "spans": pipeline.span_pooling(run, pipeline.modality(step)),
            "dtype": run.config.capture.dtype,
        }
        found = {"sites": store.sites, "spans": store.pooling, "dtype": store.dtype}
        if differing := [name for name in asked if asked[name] != found[name]]:
            said = "; ".join(f"{name}: there {found[name]}, asked {asked[name]}" for name in differing)
            raise MismatchError(f"{store.path} holds another capture ({said}); give this one another --name")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = described_parser("python -m analyses.capture", __doc__ or "")
    parser.add_argument("--run", required=True, type=Path, metavar="DIR", help="the run directory")
    parser.add_argument(
        "--step", action="append", default=[], metavar="STEP", help="a number, or last (default: last)"
    )
    text = "of the captures, which lie in captures-NAME/; needed for other sites, spans or dtype"
    parser.add_argument("--name", default="", help=f"{text} (default: captures/ of training)")
    texts = {
        "sites": "such as blocks.*.hook_attn_out,blocks.0-11.attn.hook_z",
        "spans": "such as slot:all,cue,last: one row a token, or its mean (or :last)",
        "dtype": "float32, float16 or bfloat16",
    }
    for name in WANTED:
        parser.add_argument(f"--{name}", help=f"{texts[name]} (default: capture.{name} of the run)")
    return parser
