"""A geometry table in about ten lines."""

from __future__ import annotations

import pandas as pd

from analyses.frame.tables import estimate_text

RSA = ("taxonomic_rsa", "taxonomic_rsa_given_encoder", "taxonomic_rsa_given_words")


def summary(table: pd.DataFrame) -> str:
    """Where distances follow the taxonomy most, and whether the hierarchy is orthogonal at the last layer."""
    lines = [f"Geometry of leaves, {', '.join(table['run'].unique())}:"]
    for (span, modality), rows in table[table["layer"].notna()].groupby(["span", "modality"], sort=False):
        rows = rows[rows["step"] == rows["step"].max()]
        for name in RSA:
            values = rows[rows["measure"] == name].to_dict("records")
            if values:
                best = max(values, key=lambda row: row["value"])
                p = rows.loc[rows["measure"] == f"{name}_p_corrected", "value"]
                lines.append(
                    f"  {span:6} {modality:6} {name}: best {estimate_text(best)} "
                    f"at {best['site']}, n = {best['n']}; "
                    f"above its null at {(p < 0.05).sum()} of {len(p)} sites"
                )
        ratio = rows[rows["measure"] == "hierarchy_ratio"].nlargest(1, "layer").to_dict("records")[0]
        lines.append(
            f"  {span:6} {modality:6} hierarchy ratio at {ratio['site']}: {estimate_text(ratio)} "
            f"(1 is orthogonal)"
        )
    return "\n".join(lines)
