"""More activations of a trained run, from its projector snapshots: `python -m analyses.capture --run R --step S …`.

Reads: the snapshots, manifests and config of the run.
Writes: captures/step-*/ and captures/text/ in the run, with the bytes that a capture while training would have.
"""

import argparse
from pathlib import Path

from taxogen import pipeline
from taxogen.run import Run
from taxogen.train import resolve_steps


def main(argv: list[str] | None = None) -> None:
    """Captures the asked steps and the text twins, unless they are there already."""
    parser = argparse.ArgumentParser(prog="python -m analyses.capture", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, metavar="DIR")
    parser.add_argument("--step", action="append", default=[], metavar="STEP", help="a number or last")
    options = parser.parse_args(argv)
    run = Run.open(options.run)
    steps = resolve_steps(options.step or ["last"], run.record["steps"])
    if missing := sorted(set(steps) - set(run.snapshots)):
        parser.error(f"{run.path} has no projector of step {missing[0]}; there are {list(run.snapshots)}")
    with run.alone():
        bench = pipeline.open_bench(run)
        for step in steps:
            pipeline.capture_step(bench, step)
        pipeline.capture_text(bench)
    print(f"{run.path}: captured at steps {', '.join(map(str, run.steps))}")


if __name__ == "__main__":
    main()
