"""Along which path does the answer leave the picture? Attention blocked, a window of layers at a time.

    python -m analyses.knockout --run RUN [--run RUN2 …] [--path …] [--window …] [--leaves …] [--step …]

Reads: projector snapshots, manifests and taxonomy of each run.
Writes: analyses/knockout/ in each run: knockout.parquet and .csv, a figure (png and svg), and a part for each window,
from which a second start goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import pandas as pd

from analyses.frame.analysis import Analysis, Result
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.parts import Parts
from analyses.frame.results import one_or_several
from analyses.frame.tables import CAUSES, Evidence
from analyses.inputs.effects import with_effects
from analyses.inputs.subject import TASKS, Question, Subject, draw_leaves, shown_pictures
from analyses.inputs.subject import check as check_run
from analyses.knockout.effects import knockout_effects
from analyses.knockout.figures import draw
from analyses.knockout.parts import PATHS, Window, check_paths, knocked_out, width_of, windows
from analyses.knockout.rows import knockout_table, summary
from probing.hooks.layouts import layout_of
from probing.stats import draw_weights
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """What is blocked, and how many pictures are asked.

    Attributes:
        step: of a saved projector, by default the last
        paths: from which span to which attention is blocked
        width: layers that are blocked at a time, by default 5, or half of them in a model of fewer than 10; windows
            follow each other, and one holds all layers
        leaves: leaf concepts that are drawn, one picture each; 0 for all
        placebos: draws of as many edges at random, the same in all windows; a p takes 19
    """

    step: int | None = option(None)
    paths: tuple[str, ...] = option(PATHS, flag="--path", choices=PATHS, role=EXTENT)
    width: int | None = option(None, flag="--window", role=EXTENT)
    leaves: int = option(48, role=EXTENT)
    placebos: int = option(19, role=EXTENT)


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be asked of a run, before anything is loaded.

    Raises:
        KeyError: an unknown path.
        ValueError: no placebo was asked for.
    """
    check_paths(options.paths)
    if options.placebos < 1:
        raise ValueError(
            f"{options.placebos} placebos were asked for; a path is compared with at least 1, and 19 give a p"
        )
    for run in runs:
        check_run(run, options.step)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of read-outs of a run with paths blocked; see `analyses.knockout.rows`.

    Raises:
        KeyError: an unknown path.
        ValueError: a window without a layer, or words that cannot be read by their first token.
    """
    (run,) = runs
    subject = Subject.of(run, options.step)
    model = subject.bench.vlm.model
    depth = len(layout_of(model).blocks)
    width = width_of(depth) if options.width is None else options.width
    if not 1 <= width <= depth:
        raise ValueError(f"windows of {width} layers were asked for; this model has {depth}")
    settings = {name: value for name, value in asdict(options).items() if name not in ("draws", "width")}
    settings |= {"placebos_of": "all edges, the same in every window", "step": subject.step}
    settings |= {**subject.wording, "makers": subject.makers}
    parts = Parts.of(run.folder("analyses", "knockout"), settings)

    @cache
    def questions() -> dict[str, Question]:
        shown = shown_pictures(run, draw_leaves(run, options.leaves, options.seed))
        return {task: subject.ask(task, shown) for task in TASKS}

    def make(part: str) -> pd.DataFrame:
        window = Window.parse(part)
        return knocked_out(model, questions(), window, options.paths, options.placebos, options.seed)

    names = [str(window) for window in windows(depth, width)]
    read_outs = parts.collect(names, make, f"knock-out, {run.name}")
    weights = draw_weights(read_outs["leaf"].nunique(), options.draws, options.seed)
    table = knockout_table(read_outs, weights, options.seed).assign(run=run.name, step=subject.step)
    return Result(table, with_effects(knockout_effects(read_outs, run.taxonomy), "knockout"))


ALONG_LAYERS = (
    Evidence(
        kind="knock-out", about=CAUSES, rows={"target": "hypernym", "measure": "margin_change"}, sign=-1
    ),
)

ANALYSIS = Analysis(
    "knockout",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.knockout --run artifacts/runs/demo-pretrained --leaves 40 --window 10",
    of_stores="it asks the model again, without some paths of attention",
    check=check,
    quick={"leaves": 12, "placebos": 4},
)
main = ANALYSIS.main
