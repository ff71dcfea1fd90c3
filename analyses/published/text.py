"""The `published` analysis as text: the tables to read, and the faults of the printed values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analyses.frame.section import number_text
from analyses.frame.tables import estimate_text

Fault = dict[str, Any]
AMOUNTS = (
    *(("random", amount) for amount in (10, 30, 50, 70, 90)),
    *(("systematic", amount) for amount in (10, 20, 30, 40)),
    ("full", 100),
)
LMS = ("qwen3-0.6b", "qwen3-1.7b", "llama3.2-1b", "llama3.2-1b-instruct")
_NONE = dict.fromkeys(("value", "lower", "upper"), float("nan"))
_REFERENCE = "qwen3-1.7b_dinov2_{}_original"


class Numbers:
    """Values of a result table by section, key, target and measure."""

    def __init__(self, table: pd.DataFrame):
        index = ["section", "key", "target", "measure"]
        self._lines = table.set_index(index)[["value", "lower", "upper"]].to_dict("index")

    def value(self, section: str, key: str, target: str, measure: str) -> float:
        """The value at that place; NaN where the files for it are lacking."""
        return self._lines.get((section, key, target, measure), _NONE)["value"]

    def half_width(self, key: str, measure: str) -> float:
        """Half the width of the interval of a condition's mean."""
        line = self._lines.get(("conditions", key, "mean", measure), _NONE)
        return (line["upper"] - line["lower"]) / 2

    def text(self, section: str, key: str, target: str, measure: str) -> str:
        """Value and limits to three digits; a dash where there is none."""
        line = self._lines.get((section, key, target, measure))
        return "–" if line is None else estimate_text(line, ".3f")


def faults(table: pd.DataFrame) -> list[Fault]:
    """The faults of printed values: fault, case, printed value, recomputed value (`found`), and its meaning."""
    names = ("fault", "case", "printed", "found", "meaning")
    return [
        dict(zip(names, line, strict=True))
        for line in _faults(Numbers(table), table)
        if not any(number != number for number in line[2:4])
    ]


def _faults(numbers: Numbers, table: pd.DataFrame) -> Iterator[tuple[str, str, float, float, str]]:
    value = numbers.value
    fault = "a drawn leaf is removed from all its hypernyms at once"
    for amount in (10, 30, 50, 70, 90):
        share = value("conditions", _REFERENCE.format(f"random{amount}"), "mean", "share_of_questions")
        yield fault, f"random {amount} %", amount / 100, share, "share of questions removed"
    fault = "the mean is over all 53 hypernyms, held out or not"
    for lm in LMS:
        for amount in (10, 20, 30, 40):
            key = f"{lm}_dinov2_systematic{amount}_original"
            mean, listed = (value("conditions", key, part, "macro_f1") for part in ("mean", "listed"))
            yield fault, f"{lm}, {amount} hypernyms", mean, listed, "macro-F1 of the listed ones"
    fault = "a hypernym with one answer only counts as 1 when that is given"
    for amount in (10, 20, 30, 40):
        key = _REFERENCE.format(f"systematic{amount}")
        mean, both = (value("conditions", key, part, "macro_f1") for part in ("mean", "two_classes"))
        yield fault, f"qwen3-1.7b, {amount} hypernyms", mean, both, "macro-F1 of those with both answers"
    fault = "the across shuffle also costs leaf accuracy"
    for lm in LMS:
        keys = (f"{lm}_dinov2_full_{shuffle}" for shuffle in ("original", "across"))
        original, across = (value("as_printed", key, "leaves", "macro_f1") for key in keys)
        yield fault, lm, original, across, "macro-F1 on leaves after the shuffle"
    found = value("coherence_vs_f1", "qwen3-1.7b_seed7", "avg_cosine", "pearson")
    yield "the printed correlation is not the data's", "coherence and macro-F1", 0.43, found, "Pearson's r"
    fault = "the t-interval takes hypernym × seed for independent"
    for lm in LMS:
        key = f"{lm}_dinov2_full_original"
        study, honest = (numbers.half_width(key, name) for name in ("macro_f1", "macro_f1_crossed"))
        yield fault, f"{lm}, full", study, honest, "half-width with resampled hypernyms and seeds"
    known = (table["section"] == "within_shuffle_groups").any()
    named = float((table["section"] == "leaves_named_as_hypernyms").sum()) if known else float("nan")
    yield "leaf questions name held-out hypernyms", "full", 0.0, named, "leaves called like one, such as bird"


def summary(table: pd.DataFrame) -> str:
    """The conditions and the faults of the printed values, as Markdown."""
    text = to_markdown(table, faults(table))
    return text.split("## Other tables")[0] + text[text.index("## Faults") :]


def to_markdown(table: pd.DataFrame, found: list[Fault]) -> str:
    """The tables to read: conditions, single questions, LMs alone, coherence, height, rules, faults."""
    numbers = Numbers(table)
    parts = [
        "# The published study, re-computed",
        "Macro-F1 is scikit-learn's: a hypernym with one answer only counts as 1 when that is given. Intervals "
        "of conditions are the study's t-intervals over hypernym × seed (n = 159); crossed: published.json.",
        "## Macro-F1 on held-out hypernyms",
        _conditions(numbers, table),
        "## Other tables",
        _lines(numbers, table),
        "## Faults",
        _grid(
            ["fault", "case", "printed", "found", "what was found"],
            [
                [
                    line["fault"],
                    line["case"],
                    f"{line['printed']:.3f}",
                    number_text(line["found"], 3),
                    line["meaning"],
                ]
                for line in found
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _conditions(numbers: Numbers, table: pd.DataFrame) -> str:
    """A line per model and shuffle, a column per ablation with the share of questions that it removes."""
    columns = [kind if kind == "full" else f"{kind}{amount}" for kind, amount in AMOUNTS]
    found = [
        numbers.value("conditions", _REFERENCE.format(name), "mean", "share_of_questions") for name in columns
    ]
    shares = ["–" if share != share else f"{share:.1%}" for share in found]
    chosen = table[table["section"] == "conditions"]
    models = chosen[["lm", "encoder", "init", "shuffle"]].drop_duplicates().to_dict("records")
    lines = [["share of questions removed", *shares]]
    for measure, said in (("macro_f1", ""), ("majority_macro_f1", ", majority answer")):
        for model in models if measure == "macro_f1" else models[:3]:
            ending = "_random-init" if model["init"] == "random" else ""
            keys = [f"{model['lm']}_{model['encoder']}_{name}_{model['shuffle']}{ending}" for name in columns]
            name = f"{model['lm']}, {model['encoder']}, {model['shuffle']}{ending.replace('_', ', ')}"
            name = f"{model['shuffle']}{said}" if said else name
            lines.append([name, *(numbers.text("conditions", key, "mean", measure) for key in keys)])
    return _grid(["model", *columns], lines)


def _lines(numbers: Numbers, table: pd.DataFrame) -> str:
    """A line per number of the smaller tables."""
    wanted = [
        ("per_question", ("pooled", "mean"), ("accuracy", "macro_f1", "tpr", "tnr", "majority_macro_f1")),
        ("lm_yes_no", ("pooled", "mean"), ("auroc", "accuracy", "macro_f1", "tpr", "tnr")),
        ("coherence_vs_f1", ("avg_cosine", "backbone_f1"), ("pearson", "spearman")),
        ("visual_coherence", ("mean",), ("avg_cosine",)),
        ("height", ("height1", "height2", "height3"), ("macro_f1",)),
    ]
    lines = []
    for section, targets, measures in wanted:
        for key in dict.fromkeys(table.loc[table["section"] == section, "key"]):
            for target in targets:
                cells = [f"{name} {numbers.text(section, key, target, name)}" for name in measures]
                lines.append([section, key, target, "; ".join(cells)])
    return _grid(["table", "case", "target", "values"], [line for line in lines if "[" in line[-1]])


def _grid(head: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))
