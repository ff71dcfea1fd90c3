"""The layer probes of a run in ten lines that a person can read."""

import numpy as np
import pandas as pd


def lines(table: pd.DataFrame) -> str:
    """Best layer, onset, selectivity and transfer of the last captured step; chance AUROC is .5."""
    means = table[table["target"] == "mean"]
    step = means["step"].max()
    first = table.iloc[0]
    targets = table.loc[~table["target"].str.startswith(("mean", "seen")), "target"].nunique()
    found = [
        f"Layer probes of {first['run'] or 'a run'}: {targets} targets, {int(first['n'])} leaf concepts, "
        f"split by {first['split']}, step {step}, mean AUROC (chance .5)"
    ]
    for span in sorted(set(means["span"]), key=list(means["span"]).index):
        here = means[(means["span"] == span) & means["step"].isin([step, -1])]
        found += [
            text for modality in ("image", "text", "text→image") if (text := _line(here, span, modality))
        ]
    return "\n".join(found)


def contrast_lines(table: pd.DataFrame) -> str:
    """The largest difference of each place and modality between runs."""
    means = table[(table["target"] == "mean") & (table["step"] == table["step"].max())]
    found = [f"Mean AUROC, {table.iloc[0]['run']} (paired by leaf)"]
    for (span, modality, probe), rows in means.groupby(["span", "modality", "probe"], sort=True):
        best = rows.iloc[int(rows["value"].abs().argmax())]
        found.append(f"  {span:5} {modality:11} {probe}: {_number(best)} at {_place(best)}")
    return "\n".join(found)


def _line(rows: pd.DataFrame, span: str, modality: str) -> str:
    """One place and modality: the best layer beside its control, the onset, and for transfer the ceiling."""
    rows = rows[rows["modality"] == modality]
    scores = rows[(rows["measure"] == "auroc") & rows["value"].notna()]
    if scores.empty:
        return ""
    best = scores.iloc[int(scores["value"].argmax())]
    same = rows[rows["probe"] == best["probe"]]
    floor = same[(same["measure"] == "control_auroc") & (same["site"] == best["site"])]
    start = same[same["measure"] == "onset"]
    text = f"  {span:5} {modality:11} best {_number(best)} at {_place(best)}"
    if len(floor):
        chance = floor.iloc[0]["value"]
        text += f", control {chance:.3f}, selectivity {best['value'] - chance:.3f}"
    if len(start):
        text += f", onset {_onset(start.iloc[0])}"
    return text + (f" ({best['probe']})" if modality == "text→image" else "")


def _number(row: pd.Series) -> str:
    return f"{row['value']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"


def _place(row: pd.Series) -> str:
    if np.isnan(row["layer"]):
        return "the last norm"
    if row["layer"] >= 0 and not row["site"].endswith("hook_resid_post"):
        return row["site"]
    return {-2: "the encoder", -1: "the input"}.get(int(row["layer"]), f"layer {int(row['layer'])}")


def _onset(row: pd.Series) -> str:
    if np.isnan(row["value"]):
        return "none"
    limits = ["never" if np.isinf(row[side]) else f"{int(row[side])}" for side in ("lower", "upper")]
    return f"layer {int(row['value'])} [{limits[0]}, {limits[1]}]"
