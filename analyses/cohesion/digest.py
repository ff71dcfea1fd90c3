"""A cohesion table in about ten lines."""

from __future__ import annotations

import pandas as pd

from analyses.frame.drawing import panels
from analyses.frame.tables import estimate_text
from analyses.inputs import leaf_rows
from analyses.inputs.categories import MEAN
from analyses.inputs.encoder import ENCODER


def summary(table: pd.DataFrame) -> str:
    """Where cohesion is strongest in each modality, massive activations, and the relation with scores."""
    treatment = panels.treatment_of(table[table["site"] != ENCODER])
    rows = table[(table["treatment"] == treatment) & (table["target"] == MEAN)]
    lines = [f"Cohesion of hypernyms, {', '.join(table['run'].unique())} (within − between, mean cosine):"]
    for (span, modality), place in rows.groupby(["span", "modality"], sort=False):
        place = place[(place["step"] == place["step"].max()) & (place["site"] != ENCODER)]
        values = place[place["measure"] == "cohesion"].to_dict("records")
        p = place.loc[place["measure"] == "cohesion_p_corrected", "value"].to_numpy()
        if not values:
            continue
        best = max(values, key=lambda row: row["value"])
        lines.append(
            f"  {span:6} {modality:10} strongest at {best['site']}: {estimate_text(best, '.3f')}, "
            f"n = {best['n']} leaves; above its null at {(p < 0.05).sum()} of {len(p)} sites"
        )
    return "\n".join([*lines, *_massive_lines(table), *_relation_lines(table, treatment)])


def _massive_lines(table: pd.DataFrame) -> list[str]:
    """Massive dimensions and rows of pictures, as far as they were looked for: in raw rows."""
    pictures = table[table["modality"] == "image"]
    massive = pictures[pictures["measure"] == "massive_ratio"].to_dict("records")
    if not (pictures["measure"] == "massive_rows").any():
        return _treatment_lines(pictures)
    lines = ["  no massive dimension in picture rows"]
    if massive:
        top = max(massive, key=lambda row: row["value"])
        owned = pictures.loc[pictures["measure"] == "massive_variance_share", "value"].max()
        lines = [
            f"  massive dimensions in picture rows: {len({row['target'] for row in massive})}, the largest "
            f"{top['target']} at {top['site']} ({top['value']:.0f} times the median dimension), up to {owned:.0%} "
            "of the variance"
        ]
    counts = pictures[pictures["measure"] == "massive_rows"].to_dict("records")
    most = max(counts, key=lambda row: row["value"], default=None)
    if most and most["value"]:
        longest = pictures.loc[pictures["measure"] == "massive_row_ratio", "value"].max()
        lines.append(
            f"  massive picture rows: up to {most['value']:.0f} of {most['n']} ({most['site']}, {most['span']}), "
            f"the longest {longest:.0f} times the median row"
        )
    return [*lines, *_treatment_lines(pictures)]


def _treatment_lines(pictures: pd.DataFrame) -> list[str]:
    """Where another treatment gives another cohesion of pictures than the default one."""
    means = (pictures["measure"] == "cohesion") & (pictures["target"] == MEAN) & pictures["layer"].notna()
    return leaf_rows.disagreements(pictures[means], ("raw", "unit rows"))


def _relation_lines(table: pd.DataFrame, treatment: str) -> list[str]:
    """The rank correlation with scores at the encoder, and where it is strongest at the last step."""
    related = table[(table["measure"] == "correlation_with_score") & (table["modality"] == "image")]
    encoder, inside = (related[(related["site"] == ENCODER) == is_encoder] for is_encoder in (True, False))
    inside = inside[(inside["step"] == inside["step"].max()) & (inside["treatment"] == treatment)]
    shown = pd.concat([encoder, inside.nlargest(1, "value")])
    return [
        f"  hypernyms: cohesion at {one['site']} ({one['span']}) against score, rank correlation "
        f"{estimate_text(one)}, n = {one['n']}"
        for one in shown.to_dict("records")
    ]
