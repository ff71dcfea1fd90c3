"""The short tables in data/: made from the study's released files, and unfolded into a folder that is read like them.

    python -m tests.reference.short_tables FOLDER

Reads the released files in FOLDER. Writes tests/reference/data/.
"""

import itertools
import json
import sys
from pathlib import Path

import pandas as pd

from analyses.inputs.published.released import Released
from taxogen.world import shuffle

DATA = Path(__file__).parent / "data"
SEEDS = (7, 42, 218)
RUNS = tuple(f"align-dinov2+{name}-{seed}" for name in ("500m-things", "1b-things", "1b-things+hyp-abl10cat")
             for seed in SEEDS)  # fmt: skip
LLAMA_RUNS = tuple(f"align-dinov2+1b-llama-things-{seed}" for seed in SEEDS)
TESTS = ("test_hyp", "test_hyp_ablated_10cat")
QUESTIONS = "per_question_qwen3-1.7b_nov2025"
LMS = ("qwen3-0.6b", "qwen3-1.7b")


def short_tables(released: Path) -> dict[str, pd.DataFrame]:
    """Every short table by name: a few runs, counts of answers, numbers of each hypernym, sets of hypernyms."""
    data = Released(released)
    wide = pd.concat([data.table(name).set_index("run_name") for name in
                      ("macro_f1_heldout.csv", "macro_f1_heldout_llama.csv")])  # fmt: skip
    majority = data.table("majority_macro_f1.csv").set_index("run_name").loc[list(TESTS)]
    majority = majority.rename_axis("ds").reset_index().melt("ds", var_name="hypernym", value_name="majority")
    tests = data.table("test_counts.csv").merge(majority, on=["ds", "hypernym"])
    coherence = data.table("visual_coherence.csv")
    known = data.table("coherence_backbone.csv").drop_duplicates(["model", "hypernym"])
    lists = data.mapping("systematic_lists.json")
    return {
        "runs": wide.loc[[*RUNS, *LLAMA_RUNS]].T.rename_axis("hypernym").reset_index(),
        "tests": tests[["ds", "hypernym", "P", "neg", "majority"]],
        "coherence": coherence[["shuffle_type", "category", "avg_cosine"]],
        "known": known[["model", "hypernym", "category", "backbone_acc", "backbone_f1"]],
        "picture_answers": _picture_answers(data),
        "text_answers": _text_answers(data),
        "hypernym_sets": _hypernym_sets(data),
        "systematic": pd.DataFrame(
            [{"amount": amount, "hypernym": name} for amount, names in lists.items() for name in names]
        ),
    }


def _picture_answers(data: Released) -> pd.DataFrame:
    """How often each answer was given to the questions about each hypernym."""
    table = data.table(f"{QUESTIONS}.csv.gz")
    keys = ["hypernym", "answer", "predicted_answer"]
    return table.groupby(keys).size().rename("count").reset_index()


def _text_answers(data: Released) -> pd.DataFrame:
    """The same of the selected questions in words, the answers of both language models together."""
    table = data.table("lm_yes_no.csv.gz").query("selected")
    for lm in LMS:
        table[lm] = (table[f"{lm}_rank_yes"] < table[f"{lm}_rank_no"]).map({True: "Yes", False: "No"})
    return table.groupby(["pos_hypernym", "label", *LMS]).size().rename("count").reset_index()


def _hypernym_sets(data: Released) -> pd.DataFrame:
    """How many leaves have exactly these hypernyms; a leaf that shares its hypernyms with no group has its name."""
    taxonomy = data.taxonomy()
    orphans = set(shuffle.orphans(taxonomy))
    rows = [
        (" + ".join(sorted(names)), len(leaves), " + ".join(orphans & set(leaves)))
        for names, leaves in shuffle.exact_groups(taxonomy).items()
    ]
    return pd.DataFrame(sorted(rows), columns=["hypernyms", "leaves", "orphan"])


def unfold(folder: Path) -> None:
    """Writes the short tables as files of the release: each question a row, each leaf under its hypernyms."""
    tables = {path.stem: pd.read_csv(path, keep_default_na=False) for path in DATA.glob("*.csv")}
    (folder / "expected.json").write_text((DATA / "expected.json").read_text(encoding="utf-8"))
    runs = tables["runs"].set_index("hypernym").T.rename_axis("run_name")
    runs.loc[list(RUNS)].to_csv(folder / "macro_f1_heldout.csv")
    runs.loc[list(LLAMA_RUNS)].to_csv(folder / "macro_f1_heldout_llama.csv")
    tests = tables["tests"].assign(N=tables["tests"]["P"] + tables["tests"]["neg"])
    tests.drop(columns="majority").to_csv(folder / "test_counts.csv", index=False)
    majority = tests.pivot(index="ds", columns="hypernym", values="majority").rename_axis("run_name")
    majority.to_csv(folder / "majority_macro_f1.csv")
    tables["coherence"].to_csv(folder / "visual_coherence.csv", index=False)
    tables["known"].to_csv(folder / "coherence_backbone.csv", index=False)
    pictures = _each(tables["picture_answers"])
    pictures.rename(columns={"row": "concept"}).to_csv(folder / f"{QUESTIONS}.csv.gz", index=False)
    text = _each(tables["text_answers"]).rename(columns={"row": "hyponym"})
    for lm in LMS:
        yes = text.pop(lm) == "Yes"
        text = text.assign(
            **{f"{lm}_rank_yes": 2 - yes, f"{lm}_rank_no": 1 + yes, f"{lm}_p_yes": yes.astype(float)}
        )
    text.assign(selected=True, phrasing_id=1).to_csv(folder / "lm_yes_no.csv.gz", index=False)
    numbers, leaves = itertools.count(), {}
    for line in tables["hypernym_sets"].itertuples():
        names = [str(line.orphan) or f"leaf {next(numbers):04}" for _ in range(int(str(line.leaves)))]
        leaves |= dict.fromkeys(names, str(line.hypernyms).split(" + "))
    (folder / "things_leaf_hypernyms.json").write_text(json.dumps(leaves))
    lists = tables["systematic"].astype(str).groupby("amount")["hypernym"].agg(list).to_dict()
    (folder / "systematic_lists.json").write_text(json.dumps(lists))


def _each(counts: pd.DataFrame) -> pd.DataFrame:
    """A row for each counted question; fifty names of leaves go round."""
    table = counts.loc[counts.index.repeat(counts["count"])].drop(columns="count").reset_index(drop=True)
    return table.assign(row=[f"leaf {at % 50:02}" for at in range(len(table))])


if __name__ == "__main__":
    for name, table in short_tables(Path(sys.argv[1])).items():
        table.to_csv(DATA / f"{name}.csv", index=False)
    (DATA / "expected.json").write_text((Path(sys.argv[1]) / "expected.json").read_text(encoding="utf-8"))
