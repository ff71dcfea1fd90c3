"""The data files that the published study released, as tables with one naming of models and conditions.

Source: github.com/sally-xu-42/cross-modal-taxonomic-gen, commit aefd30e and its history, MIT licence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from taxogen.world.taxonomy import Taxonomy

LMS = {
    "500m": "qwen3-0.6b",
    "1b": "qwen3-1.7b",
    "1b-llama": "llama3.2-1b",
    "1b-llama-chat": "llama3.2-1b-instruct",
}
SHUFFLES = {"": "original", "shuffled": "across", "local-shuffled": "within"}
COHERENCE_SHUFFLES = {"original": "original", "shuffled": "across", "local_shuffled": "within"}
CONDITION_SHUFFLES = {"Original": "original", "Across-category": "across", "Within-category": "within"}
CONDITION = ("lm", "encoder", "init", "ablation", "amount", "shuffle")
SURFACE = {"musical instrument": "musical", "school supply item": "school supply"}
"""Names in the coherence files → names in the score files."""

HEIGHTS = {
    **dict.fromkeys(("hardware item", "home decor item", "item of clothing"), 3),
    **dict.fromkeys(("animal", "clothing accessory", "food", "furniture", "outerwear", "plant"), 2),
    **dict.fromkeys(("tool", "toy", "vehicle"), 2),
}
"""Hypernyms above other hypernyms in THINGSplus, by the study's grouping; every other one has height 1.

Source: the grouping behind the study's figure by depth (results/main-results/macro-f1s/qwen3-depthwise.csv).
"""

_PAGE = "docs/published.md says which file of which repository it is"
_RUN = re.compile(
    r"align-(?P<encoder>dinov2|siglip)\+(?P<lm>500m|1b-llama-chat|1b-llama|1b)-things"
    r"(?:\+hyp-abl(?P<amount>\d+)(?P<cat>cat)?)?(?:-(?P<shuffle>local-shuffled|shuffled))?"
    r"-(?P<seed>\d+)(?P<random>-random)?"
)


@dataclass(frozen=True)
class Released:
    """The folder of released files; every table is read when asked for."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / "macro_f1_heldout.csv").is_file():
            raise FileNotFoundError(
                f"{self.folder} holds no macro_f1_heldout.csv; give the folder of released files with --data "
                f"({_PAGE})"
            )

    def has(self, *names: str) -> bool:
        """Whether all these files are there."""
        return all((self.folder / name).is_file() for name in names)

    def table(self, name: str) -> pd.DataFrame:
        """A CSV file as it is."""
        return pd.read_csv(self._file(name))

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON file as it is."""
        return json.loads(self._file(name).read_text(encoding="utf-8"))

    def _file(self, name: str) -> Path:
        if not (self.folder / name).is_file():
            raise FileNotFoundError(f"{self.folder} holds no {name}, which this analysis reads ({_PAGE})")
        return self.folder / name

    def question_files(self) -> tuple[str, ...]:
        """The names of the files with single questions, sorted."""
        return tuple(sorted(path.name for path in self.folder.glob("per_question_*.csv.gz")))

    def taxonomy(self) -> Taxonomy:
        """The THINGS leaves under their hypernyms; a leaf called like a hypernym is written "bird (leaf)"."""
        return taxonomy_of(self.mapping("things_leaf_hypernyms.json"))

    def held_out(self) -> pd.DataFrame:
        """Macro-F1 on held-out hypernyms: run_name, the columns of CONDITION, seed, hypernym, macro_f1."""
        wide = pd.concat([self.table("macro_f1_heldout.csv"), self.table("macro_f1_heldout_llama.csv")])
        runs = pd.DataFrame([{"run_name": name, **parse_run(name)} for name in wide["run_name"]])
        long = wide.melt(id_vars="run_name", var_name="hypernym", value_name="macro_f1")
        return runs.merge(long, on="run_name", validate="one_to_many")

    def published(self) -> pd.DataFrame:
        """The published conditions under the names used here, `experiment` and all figures included."""
        table = self.table("published_conditions.csv")
        return table.assign(
            lm=table["lm"].str.lower(),
            encoder=table["encoder"].str.lower(),
            init=np.where(table["random"], "random", "pretrained"),
            ablation=table["ablation_type"].str.lower(),
            amount=table["ablation_amt"],
            shuffle=[CONDITION_SHUFFLES[name] for name in table["shuffle"]],
        )

    def coherence(self) -> pd.DataFrame:
        """Visual coherence in the names of the score files: shuffle, hypernym, avg_cosine."""
        table = self.table("visual_coherence.csv")
        return table.assign(
            shuffle=[COHERENCE_SHUFFLES[name] for name in table["shuffle_type"]],
            hypernym=table["category"].replace(SURFACE),
        )

    def lm_names(self) -> dict[str, str]:
        """Hypernym names of the text questions → names of the score files."""
        table = self.table("coherence_backbone.csv")
        return {
            str(said): str(SURFACE.get(name, name))
            for said, name in zip(table["hypernym"], table["category"], strict=True)
        }


def taxonomy_of(leaves: Mapping[str, Sequence[str]]) -> Taxonomy:
    """The taxonomy of a mapping of leaf to hypernyms; a leaf called like a hypernym is written "bird (leaf)"."""
    hypernyms = {name for names in leaves.values() for name in names}
    nodes = {leaf: f"{leaf} (leaf)" if leaf in hypernyms else leaf for leaf in leaves}
    return Taxonomy(tuple((nodes[leaf], name) for leaf, names in leaves.items() for name in names))


def parse_run(name: str) -> dict[str, Any]:
    """The condition and seed that a published run name stands for.

    Raises:
        ValueError: the name is not built like a published one.
    """
    found = _RUN.fullmatch(name)
    if not found:
        raise ValueError(
            f"run name {name!r} is not of the form "
            "align-ENCODER+LM-things[+hyp-ablN[cat]][-SHUFFLE]-SEED[-random]"
        )
    ablation = "full" if found["amount"] is None else "systematic" if found["cat"] else "random"
    return {
        "lm": LMS[found["lm"]],
        "encoder": found["encoder"],
        "init": "random" if found["random"] else "pretrained",
        "ablation": ablation,
        "amount": int(found["amount"] or 100),
        "shuffle": SHUFFLES[found["shuffle"] or ""],
        "seed": int(found["seed"]),
    }


def condition_key(about: dict[str, Any]) -> str:
    """The name of a condition: qwen3-1.7b_dinov2_full_original, …_random30_within, …_random-init."""
    amount = "" if about["ablation"] == "full" else str(about["amount"])
    parts = [about["lm"], about["encoder"], f"{about['ablation']}{amount}", about["shuffle"]]
    return "_".join([*parts, *(["random-init"] if about["init"] == "random" else [])])


def counts_file(ablation: str, amount: int, shuffle: str) -> str:
    """The name of the held-out test file of a condition, as in test_counts.csv and majority_macro_f1.csv."""
    part = {"full": "", "random": f"_ablated_{amount}pct", "systematic": f"_ablated_{amount}cat"}[ablation]
    return f"test_hyp{part}" + {"original": "", "across": "_shuffled", "within": "_local_shuffled"}[shuffle]
