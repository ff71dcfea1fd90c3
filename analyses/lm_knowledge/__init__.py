"""What a language model knows of hypernyms in words alone, and whether its answers about pictures follow from that.

    python -m analyses.lm_knowledge [--lm NAME] [--init INIT] [--leaves FILE] [--readout completion|yes_no …] [--chat]
    python -m analyses.lm_knowledge --run R [--run R2 …]

Reads: the language model and a list of leaves (a table leaf, hypernym; or a JSON object of leaf → hypernyms; by default
the bundled one), or both as the runs have them, and then scores.h5 of each run.
Writes: lm_knowledge.csv, .parquet and figures (knowledge, hypernyms and, with runs, agreement) into --out (default: the
first run's analyses/lm_knowledge, or artifacts/lm_knowledge).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing, tables
from analyses.inputs.conditions import Condition, condition_of, conditions
from analyses.inputs.intervals import DEFAULT, Rule
from analyses.lm_knowledge import figures
from analyses.lm_knowledge.readouts import PROMPTS, READOUTS, Knowledge, LeafList, ask
from analyses.lm_knowledge.rows import agreement_rows, columns_in_order, knowledge_rows
from probing.stats import DRAWS
from probing.store import MismatchError
from taxogen.models import lms
from taxogen.questions import prompts
from taxogen.runs.run import Run

TARGETS = ("mean", "auroc")


def compute(
    known: Sequence[Knowledge], found: Mapping[int, Sequence[Condition]] | None = None, rule: Rule = DEFAULT
) -> pd.DataFrame:
    """The long table: what each language model knows by each read-out and, of its conditions, how far answers agree.

    Intervals of means resample hypernyms and leaves, of a hypernym leaves; `n` counts leaf concepts (of a height:
    hypernyms). `decision` says when an answer is Yes: for as many leaves as have the hypernym (prevalence), or above
    a read-out of zero. A hypernym's height is the longest way down to a leaf.

    Args:
        known: by language model, list and read-out.
        found: for places in `known` the conditions whose answers about pictures are compared with it.
        rule: how intervals are made.
    """
    rows = [row for one in known for row in knowledge_rows(one, rule)]
    for place, members in (found or {}).items():
        rows += [row for condition in members for row in agreement_rows(known[place], condition, rule)]
    return pd.DataFrame(columns_in_order(rows)).assign(analysis="lm_knowledge", seed=rule.seed)


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    return figures.draw(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Asks, computes, prints, draws and saves."""
    options = _parse(argv)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    readouts, templates = options.readout or list(READOUTS), options.prompt or []
    if options.run:
        runs = [Run.open(path) for path in options.run]
        known, found = of_runs(runs, readouts, templates, options.chat)
        out = options.out or runs[0].folder("analyses", "lm_knowledge")
    else:
        leaves = LeafList.read(options.leaves)
        lm = lms.load(options.lm, options.init, options.seed)
        known, found = [_ask(lm, leaves, readout, templates, options.chat) for readout in readouts], {}
        out = options.out or Path("artifacts/lm_knowledge")
    table = compute(known, found, Rule(draws=options.draws, seed=options.seed))
    tables.save(table, out, "lm_knowledge")
    for name, figure in draw(table).items():
        drawing.save(figure, out, name)
    print(summary(table), f"table and figures: {out}", sep="\n")


def of_runs(
    runs: Sequence[Run], readouts: Sequence[str], templates: Sequence[str] = (), chat: bool = False
) -> tuple[list[Knowledge], dict[int, list[Condition]]]:
    """The knowledge of the runs' language models about the runs' leaves, and which conditions go with which.

    Of random inits that of the first run's seed is asked.

    Raises:
        MismatchError: runs of one condition show different leaves.
    """
    places: dict[tuple, int] = {}
    known: list[Knowledge] = []
    found: dict[int, list[Condition]] = {}
    for condition in conditions(runs):
        members = [run for run in runs if condition_of(run, runs) == condition.name]
        if len({run.taxonomy for run in members}) > 1:
            raise MismatchError(
                f"the runs of {condition.name} show different leaves ({', '.join(run.name for run in members)}): "
                "what is known of one list cannot be compared with answers about another; give them apart"
            )
        config = members[0].config
        key = (config.model.lm, config.model.init, members[0].taxonomy)
        if key not in places:
            places[key] = len(known)
            lm = lms.load(config.model.lm, config.model.init, config.seed)  # pyright: ignore[reportArgumentType]
            leaves = LeafList.of(members[0].taxonomy, config.data.pictures)
            known += [_ask(lm, leaves, readout, templates, chat) for readout in readouts]
        for place in range(places[key], places[key] + len(readouts)):
            found.setdefault(place, []).append(condition)
    return known, found


def summary(table: pd.DataFrame) -> str:
    """The means, heights and agreements as lines a person can read."""
    lines = [f"{'':58}{'measure':18}{'value':>7}  95 % interval      n"]
    shown = table[~table["measure"].isin(["auroc", "macro_f1", "balanced_accuracy", "tpr", "tnr"])]
    for row in pd.concat([table[table["target"] == "mean"], shown]).drop_duplicates().itertuples():
        words = (row.lm, row.init, row.readout, row.prompt, row.condition, row.pictures, row.decision)
        name = " ".join(
            [str(word) for word in words if word] + [str(row.target)] * (row.target not in TARGETS)
        )
        lines.append(
            f"{name:57} {row.measure:18}{row.value:7.3f}  [{row.lower:.3f}, {row.upper:.3f}]{row.n:7d}"
        )
    return "\n".join(lines)


def _ask(lm: lms.LM, leaves: LeafList, readout: str, templates: Sequence[str], chat: bool) -> Knowledge:
    """Templates that were named go to the read-out that they belong to."""
    fitting = [name for name in templates if prompts.template(name).yes_no == (readout == "yes_no")]
    return ask(lm, leaves, readout, fitting, chat and readout == "yes_no")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.lm_knowledge", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--run", action="append", type=Path, metavar="DIR", help="gives model and leaves, too"
    )
    parser.add_argument("--lm", default=lms.EMBEDDED, help="name, path or hub name")
    parser.add_argument("--init", choices=lms.INITS, default="pretrained")
    parser.add_argument("--leaves", type=Path, metavar="FILE", help="a table (leaf, hypernym), or JSON")
    parser.add_argument("--readout", action="append", choices=sorted(READOUTS), help="default: both")
    parser.add_argument("--prompt", action="append", help=f"a template; default: {PROMPTS}")
    parser.add_argument("--chat", action="store_true", help="yes/no questions in the chat template")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.run and (options.leaves or options.lm != lms.EMBEDDED or options.init != "pretrained"):
        parser.error("--run gives the language model and the leaves; leave --lm, --init and --leaves out")
    return options
