"""Scores 20,000 pictures × 53 hypernyms on synthetic features and prints the memory it took at the peak.

    python -m tests.taxogen.answers.scoring_job FOLDER [WIDTH] [DRAWS]

Reads nothing. Writes manifests, taxonomy and scores.h5 into FOLDER; prints the peak of resident memory in bytes.
"""

import resource
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analyses.behaviour.rows import behaviour_table
from analyses.inputs.conditions import conditions
from probing.store import files
from taxogen.answers import baselines
from taxogen.answers.scores import Scores
from taxogen.answers.yes_no import YesNo
from taxogen.questions import ablation, items
from taxogen.questions.prompts import FORMATS
from taxogen.runs.config import Config, DataConfig
from taxogen.runs.run import Run
from taxogen.world import splits
from taxogen.world.taxonomy import Taxonomy

PICTURES, LEAVES, HYPERNYMS = 20_000, 1_000, 53


def world() -> tuple[pd.DataFrame, Taxonomy]:
    """Pictures, split, and a taxonomy in which each leaf has two hypernyms."""
    leaves = [f"leaf{number:04d}" for number in range(LEAVES)]
    names = [f"hypernym{number:02d}" for number in range(HYPERNYMS)]
    edges = {(leaf, names[at % HYPERNYMS]) for at, leaf in enumerate(leaves)}
    edges |= {(leaf, names[(at + 1 + at // HYPERNYMS) % HYPERNYMS]) for at, leaf in enumerate(leaves)}
    rows = [(f"{leaf}/{n}.jpg", leaf, f"{leaf}{n}") for leaf in leaves for n in range(PICTURES // LEAVES)]
    table = pd.DataFrame(rows, columns=["picture", "leaf", "content_hash"])
    return splits.split_pictures(table), Taxonomy(tuple(sorted(edges)))


def main(folder: Path, width: int, draws: int) -> None:
    """Every picture is asked everything, as in a yes/no run that is scored on all its pictures."""
    table, taxonomy = world()
    prompts = FORMATS["yes_no"].prompts
    run = Run(folder, Config(data=DataConfig(task="yes_no", ablation="random", fraction=0.5)))
    train = ablation.ablate(
        items.training_items(table, taxonomy, prompts=prompts), taxonomy, "random", fraction=0.5
    )
    train.write(folder, "train")
    files.write_json(run.file("run.json"), {"provenance": [dict(step) for step in train.provenance]})
    taxonomy.write(run.file("taxonomy.csv"))
    everything = table.assign(split="test")
    items.evaluation_items(everything, taxonomy, ("hypernym",), prompts).write(folder, "test")
    rng = np.random.default_rng(0)
    labels = np.asarray(taxonomy.labels(table["leaf"].tolist()))
    text = pd.DataFrame({"leaf": taxonomy.leaves})
    image = table.assign(item_id=table["picture"], shown_leaf=table["leaf"])
    values = (labels + rng.normal(size=labels.shape)).astype(np.float32)
    words = rng.normal(size=(len(text), HYPERNYMS)).astype(np.float32)
    right = np.ones(len(table), bool)
    Scores(image, text, taxonomy.hypernyms, values, words, right, 20, about=YesNo.about).write(
        run.file("scores.h5"), {}
    )
    features = rng.normal(size=(PICTURES, width)).astype(np.float32)
    for probed in baselines.probe_scores(features, table, list(range(PICTURES)), taxonomy, seed=0):
        assert probed.shape == values.shape
    scored = behaviour_table(conditions([run]), draws=draws)
    assert (scored["target"] == "mean").sum() > 20
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(word) for word in (*sys.argv[2:], *("1280", "2000")[len(sys.argv) - 2 :])))
