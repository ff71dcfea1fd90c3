"""Questions: the manifests of training and test items, made from split pictures and a taxonomy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from taxogen.questions import prompts as forms
from taxogen.questions.manifest import FIELDS, Manifest
from taxogen.questions.negatives import draw_hypernym_negatives, draw_leaf_negatives
from taxogen.world.taxonomy import Taxonomy

TASKS = ("leaf", "hypernym")
PROMPTS = forms.FORMATS["completion"].prompts
"""The templates that questions are put in unless others are named: completions."""


def prompts_of(
    task: str, names: Iterable[str] = (), fallback: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, tuple[str, ...]]:
    """The templates of leaf and of hypernym questions in a format: those named, else the fallback or the defaults.

    Raises:
        KeyError: unknown format or template.
        ValueError: a template is of another format.
    """
    if task not in forms.FORMATS:
        raise KeyError(f"data.task {task!r} was asked for; known: {', '.join(forms.FORMATS)}")
    named = [(forms.template(name), name) for name in names]
    if wrong := [name for form, name in named if form.format != task]:
        fitting = [name for name, form in forms.TEMPLATES.items() if form.format == task]
        raise ValueError(
            f"templates {wrong} do not go with data.task={task}; those that do: {', '.join(fitting)}"
        )
    return {
        kind: tuple(name for form, name in named if form.task == kind) or default
        for kind, default in (fallback or forms.FORMATS[task].prompts).items()
    }


def training_items(
    table: pd.DataFrame,
    taxonomy: Taxonomy,
    tasks: Iterable[str] = TASKS,
    prompts: Mapping[str, Iterable[str]] = PROMPTS,
    *,
    negatives: str = "random",
    seed: int = 0,
    split: str = "train",
) -> Manifest:
    """The training questions about the pictures of one split, before any ablation.

    A completion asks each picture for its leaf and for each of its hypernyms. A yes/no question asks the same
    with answer Yes, and adds negatives: "random", "hard" or "study" (see `taxogen.questions.negatives`).

    Args:
        table: picture, leaf (its name), split, and shown_leaf where names were shuffled.
        taxonomy: the hypernyms of each leaf.
        tasks: "leaf", "hypernym" or both.
        prompts: the names of the templates of each task; every picture is asked with each.
        negatives: the rule of the yes/no questions' negatives.
        seed: of the negatives.
        split: which pictures.

    Raises:
        KeyError: unknown task, template, column or leaf.
        ValueError: no picture is in that split.
    """
    pictures = _pictures(table, taxonomy, split)
    parts = []
    for task, name in _chosen(tasks, prompts):
        positives = _leaf_rows(pictures) if task == "leaf" else _hypernym_rows(pictures, taxonomy)
        if answers := forms.template(name).answers:
            yes, no = answers
            draw = draw_leaf_negatives if task == "leaf" else draw_hypernym_negatives
            kept, drawn = draw(positives, pictures, taxonomy, negatives, seed)
            positives = pd.concat([kept.assign(answer=yes), drawn.assign(answer=no)])
        parts.append(positives.assign(task=task, prompt=name))
    return _manifest(parts, "image", split, operation="training_items", negatives=negatives, seed=seed)


def evaluation_items(
    table: pd.DataFrame,
    taxonomy: Taxonomy,
    tasks: Iterable[str] = TASKS,
    prompts: Mapping[str, Iterable[str]] = PROMPTS,
    *,
    modalities: Iterable[str] = ("image", "text"),
    exhaustive: bool = False,
    split: str = "test",
) -> Manifest:
    """The test questions about the pictures of one split, and their text twins: one per leaf they are called.

    A hypernym completion is one open row per picture or leaf (no hypernym, no answer): all candidates are
    scored on that row. With `exhaustive` it is one row per candidate instead, answered by its name; a yes/no
    question about hypernyms always is, answered Yes or No.

    Raises:
        KeyError: unknown task, template, modality, column or leaf.
        ValueError: no picture is in that split.
    """
    pictures = _pictures(table, taxonomy, split)
    twins = pictures[["leaf"]].drop_duplicates().assign(picture="", shown_leaf="")
    rows = {"image": pictures, "text": twins}
    parts: dict[str, list[pd.DataFrame]] = {}
    for modality in modalities:
        if modality not in rows:
            raise KeyError(f"modality {modality!r} was asked for; known: image, text")
        for task, name in _chosen(tasks, prompts):
            part = _test_rows(rows[modality], taxonomy, task, forms.template(name).answers, exhaustive)
            parts.setdefault(modality, []).append(part.assign(task=task, prompt=name))
    frames = [part.assign(modality=modality) for modality, tables in parts.items() for part in tables]
    return _manifest(frames, None, split, operation="evaluation_items", exhaustive=exhaustive)


def _test_rows(
    rows: pd.DataFrame, taxonomy: Taxonomy, task: str, answers: tuple[str, ...], exhaustive: bool
) -> pd.DataFrame:
    if task == "leaf":
        leaf_rows = _leaf_rows(rows)
        return leaf_rows.assign(answer=answers[0]) if answers else leaf_rows
    if not answers and not exhaustive:
        return rows.assign(hypernym="", answer="", asked="")
    count = len(taxonomy.hypernyms)
    each = rows.loc[rows.index.repeat(count)].assign(
        hypernym=np.tile(taxonomy.hypernyms, len(rows)), asked=""
    )
    if answers:
        return each.assign(answer=np.where(taxonomy.labels(rows["leaf"].tolist()).ravel(), *answers))
    return each.assign(answer=each["hypernym"])


def _leaf_rows(pictures: pd.DataFrame) -> pd.DataFrame:
    return pictures.assign(hypernym="", answer=pictures["leaf"], asked="")


def _hypernym_rows(pictures: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    row, column = np.nonzero(taxonomy.labels(pictures["leaf"].tolist()))
    names = np.array(taxonomy.hypernyms, dtype=object)[column]
    return pictures.iloc[row].assign(hypernym=names, answer=names, asked="")


def _pictures(table: pd.DataFrame, taxonomy: Taxonomy, split: str) -> pd.DataFrame:
    if missing := sorted({"picture", "leaf", "split"} - set(table.columns)):
        raise KeyError(f"the table of pictures has no column {missing}; make it with split_pictures()")
    if strangers := sorted(set(table["leaf"]) - set(taxonomy.leaves)):
        raise KeyError(
            f"{len(strangers)} leaves have pictures but are not in the taxonomy: {strangers[:10]}; add them "
            "or drop their pictures"
        )
    chosen = table.loc[table["split"] == split].sort_values("picture", kind="stable")
    if not len(chosen):
        raise ValueError(f"no picture is in split {split!r}; it holds {sorted(set(table['split']))}")
    shown = chosen["shown_leaf"] if "shown_leaf" in chosen else chosen["leaf"]
    return pd.DataFrame(
        {"picture": chosen["picture"], "shown_leaf": shown, "leaf": chosen["leaf"]}
    ).reset_index(drop=True)


def _chosen(tasks: Iterable[str], prompts: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    chosen = []
    for task in tasks:
        if task not in TASKS:
            raise KeyError(f"task {task!r} was asked for; known: {', '.join(TASKS)}")
        for name in prompts.get(task, PROMPTS[task]):
            if forms.template(name).task != task:
                raise KeyError(f"prompt {name!r} asks for a {forms.template(name).task}, not for a {task}")
            chosen.append((task, name))
    return chosen


def _manifest(parts: list[pd.DataFrame], modality: str | None, split: str, **what: object) -> Manifest:
    frame = pd.concat(parts, ignore_index=True).assign(split=split)
    if modality is not None:
        frame = frame.assign(modality=modality)
    prompts = sorted(set(frame["prompt"]))
    return Manifest(
        frame.loc[:, list(FIELDS)], ({**what, "split": split, "prompts": prompts, "items": len(frame)},)
    )
