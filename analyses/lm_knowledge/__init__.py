"""What does the language model know in words alone, and do its answers about pictures follow from it?

    python -m analyses.lm_knowledge [--lm NAME] [--init INIT] [--leaves FILE] [--readout completion|yes_no …] [--chat]
    python -m analyses.lm_knowledge --run R [--run R2 …]

Reads: the language model and a list of leaves (a table leaf, hypernym; or a JSON object of leaf → hypernyms; by default
the bundled one), or both as the runs have them, and then scores.h5 of each run.
Writes: lm_knowledge.csv, .parquet and figures (knowledge, hypernyms and, with runs, agreement) into --out (default: the
first run's analyses/lm_knowledge, or artifacts/lm_knowledge).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyses.frame.analysis import Analysis, Result, Takes
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.parts import tracked
from analyses.frame.results import one_or_several
from analyses.inputs.intervals import Rule
from analyses.lm_knowledge.figures import draw
from analyses.lm_knowledge.readouts import LeafList, ask_fitting, of_runs
from analyses.lm_knowledge.rows import knowledge_table, summary
from taxogen.answers import READOUTS
from taxogen.models import lms
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """Which language model is asked about which leaves, and how.

    Attributes:
        lm: language model: name, folder, GGUF file or hub name
        init: its weights
        leaves: a table (leaf, hypernym), or JSON of leaf → hypernyms; by default the bundled list
        readouts: how hypernyms are read out, by default in every way
        prompts: templates, by default the first of each read-out
        chat: whether yes/no questions stand in the chat template
    """

    lm: str = option(lms.EMBEDDED)
    init: str = option("pretrained", choices=lms.INITS)
    leaves: Path | None = option(None, metavar="FILE")
    readouts: tuple[str, ...] = option((), flag="--readout", choices=tuple(sorted(READOUTS)), role=EXTENT)
    prompts: tuple[str, ...] = option((), flag="--prompt")
    chat: bool = option(False)


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses a language model or leaves beside runs, which have theirs."""
    if runs and (options.leaves or options.lm != lms.EMBEDDED or options.init != "pretrained"):
        raise ValueError("--run gives the language model and the leaves; leave --lm, --init and --leaves out")


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of the read-outs in words and, of runs, of their agreement with the answers about pictures."""
    readouts = options.readouts or tuple(READOUTS)
    rule = Rule(draws=options.draws, seed=options.seed)
    if runs:
        return Result(knowledge_table(*of_runs(runs, readouts, options.prompts, options.chat), rule))
    leaves, lm = LeafList.read(options.leaves), lms.load(options.lm, options.init, options.seed)  # pyright: ignore[reportArgumentType]
    asking = tracked(readouts, f"{lm.name} in words", "read-outs")
    known = [ask_fitting(lm, leaves, readout, options.prompts, options.chat) for readout in asking]
    return Result(knowledge_table(known, {}, rule))


ANALYSIS = Analysis(
    "lm_knowledge",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.lm_knowledge --run artifacts/runs/demo-pretrained",
    takes=Takes.RUNS_OR_NONE,
    of_stores="it asks a language model, which --lm names, or that of a run",
    reads=lambda _: ("scores.h5",),
    check=check,
)
main = ANALYSIS.main
