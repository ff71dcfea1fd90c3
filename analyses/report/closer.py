"""The data of the closer look: every hypernym and leaf with its pictures, answers and curves, as JSON in the page."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.report.sprite import Sprite
from analyses.report.told import Told
from probing.stats.seeding import stream

PICTURES = 4_000
"""Test pictures of a condition, above which some are drawn by seed: each leaf's first before second ones."""
FAMILIES = 24
"""Kinds of curves of an analysis."""
_STEP = 1 / 200
"""Nats between read-outs that are stored as different numbers."""
_LIMIT = np.iinfo(np.int16).max
_UNDEFINED = np.iinfo(np.int16).min
_APART = ("run", "analysis", "step", "site", "layer", "target", "value", "lower", "upper", "n", "seed")
_FEWEST = 3  # layers of a curve

Curves = dict[str, dict[str, Any]]


def as_json(of: Sequence[Told], curves: Mapping[str, Curves], behaviour: pd.DataFrame, sheet: Sprite) -> str:
    """The data, as text that can stand in a script element.

    Args:
        of: conditions with their answers.
        curves: condition → the curves of its run, of `curves_of`.
        behaviour: the table of the analysis, for the AUROC of every hypernym.
        sheet: small pictures.
    """
    names = list(dict.fromkeys(name for told in of for name in shown(told)["picture"]))
    plain = {
        "step": _STEP,
        "undefined": _UNDEFINED,
        "sprite": {"columns": sheet.columns, "rows": sheet.rows},
        "pictures": names,
        "places": [sheet.places.get(name, -1) for name in names],
        "conditions": [
            _condition(told, names, curves.get(told.condition.name, {}), behaviour) for told in of
        ],
    }
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace(
        "<", "\\u003c"
    )


def shown(told: Told) -> pd.DataFrame:
    """The rows of the test pictures that are shown, by their place in the scores."""
    frame = told.answers.scores.image
    order = stream(told.run.config.seed, "closer").permutation(len(frame))
    drawn = frame.iloc[order]
    nth = drawn.groupby("leaf").cumcount()
    return drawn.loc[nth.sort_values(kind="stable").index].head(PICTURES)


def _condition(told: Told, names: Sequence[str], curves: Curves, behaviour: pd.DataFrame) -> dict[str, Any]:
    answers, rows = told.answers, shown(told)
    scores, taxonomy = answers.scores, answers.taxonomy
    place = {leaf: at for at, leaf in enumerate(taxonomy.leaves)}
    column = {name: at for at, name in enumerate(scores.hypernyms)}
    picture = {name: at for at, name in enumerate(names)}
    own = behaviour[behaviour["headline"].astype(bool) & (behaviour["condition"] == told.condition.name)]
    own = own[(own["measure"] == "auroc") & (own["modality"] == "image") & (own["contrast"] == "")]
    words = scores.text.assign(row=range(len(scores.text))).set_index("leaf")["row"]
    return {
        "name": told.condition.name.replace("_", " "),
        "run": told.run.name,
        "closed": told.run.config.data.task == "yes_no",
        "shuffled": told.run.config.data.shuffle != "none",
        "hypernyms": list(scores.hypernyms),
        "leaves": list(taxonomy.leaves),
        "has": [
            [column[name] for name in taxonomy.hypernyms_of(leaf) if name in column]
            for leaf in taxonomy.leaves
        ],
        "picture": [picture[name] for name in rows["picture"]],
        "leaf": [place[leaf] for leaf in rows["leaf"]],
        "shown": rows["shown_leaf"].tolist() if told.run.config.data.shuffle != "none" else [],
        "called": [place.get(str(told.called[at]), -1) for at in rows.index],
        "named": len(answers.naming) > 0,
        "choices": scores.leaf_choices,
        "images": _packed(scores.image_scores[rows.index.to_numpy()]),
        "words": _packed(scores.text_scores[[words[leaf] for leaf in taxonomy.leaves]]),
        "auroc": {
            str(row["target"]): [_number(row[name]) for name in ("value", "lower", "upper")] + [int(row["n"])]
            for row in own.to_dict("records")
        },
        "curves": curves,
    }


def curves_of(tables: Iterable[pd.DataFrame], targets: Iterable[str]) -> Curves:
    """Curves along the layers of the last step that tables have for each of some targets: kind → layers, and values.

    A kind is what distinguishes rows beside target and layer, in words; one whose rows are not distinct is left out.
    """
    wanted, curves = set(targets), {}
    for table in tables:
        if not {"target", "layer", "value", "lower", "upper", "measure"} <= set(table.columns):
            continue
        rows = table[table["target"].isin(wanted) & table["layer"].notna() & table["value"].notna()]
        if "step" in rows and len(rows):
            steps = pd.to_numeric(rows["step"], errors="coerce")
            rows = rows[(steps == steps.max()) | (steps < 0) | steps.isna()]
        labels = [
            name for name in rows if name not in _APART and not pd.api.types.is_numeric_dtype(rows[name])
        ]
        kinds = [
            (kind, group)
            for kind, group in rows.groupby(labels, sort=False, dropna=False)
            if not group.duplicated(["target", "layer"]).any() and group["layer"].nunique() >= _FEWEST
        ]
        varying = [at for at in range(len(labels)) if len({kind[at] for kind, _ in kinds}) > 1]
        for kind, group in kinds[:FAMILIES]:
            words = [str(kind[at]) for at in varying if str(kind[at]) not in ("", "nan")]
            name = " · ".join([str(group["analysis"].iloc[0]).replace("_", " "), *words])
            curves[name] = _curves(group, str(group["measure"].iloc[0]))
    return curves


def _curves(group: pd.DataFrame, measure: str) -> dict[str, Any]:
    layers = sorted(group["layer"].unique())
    of = {
        str(target): [
            [_number(value) for value in rows.set_index("layer")[name].reindex(layers)]
            for name in ("value", "lower", "upper")
        ]
        for target, rows in group.groupby("target", sort=True)
    }
    null = 0.5 if "auroc" in measure or "balanced" in measure else 0.0
    return {
        "measure": measure.replace("_", " "),
        "null": null,
        "layers": [float(one) for one in layers],
        "of": of,
    }


def _number(value: float) -> float | None:
    """A number with three places; None for NaN and what is not finite."""
    return round(float(value), 3) if np.isfinite(value) else None


def _packed(scores: np.ndarray) -> str:
    """Read-outs as 16-bit numbers, row by row, in base64."""
    whole = np.where(np.isnan(scores), _UNDEFINED, np.clip(np.round(scores / _STEP), -_LIMIT, _LIMIT))
    return b64encode(np.ascontiguousarray(whole.astype("<i2")).tobytes()).decode()
