"""Maps in words: their names, and the summary of how they point."""

from __future__ import annotations

import pandas as pd

from analyses.frame.tables import estimate_text

LABELS = {
    "attention": "attention, mean of heads",
    "head": "attention",
    "rollout": "attention, rolled out",
    "gradient": "gradient × input",
    "integrated": "integrated gradients",
    "cut": "patch unseen",
    "mean": "mean patch instead",
    "patch": "another leaf's patch",
    "probe": "hypernym probe",
}
"""Name of a map in the column `map` → in words."""
MODELS = ("run", "placebo", "run − placebo")
"""Entries of the column `model`."""
PATCHES = ("in place", "shuffled", "in place − shuffled")
"""Entries of the column `patches`."""
IN_WORDS = "95 % bootstrap over leaves"


def word(name: str, site: str, span: str = "") -> str:
    """A map in words, with its head or layer."""
    text = LABELS[name]
    if name in ("head", "probe"):
        layer, _, head = site.removeprefix("blocks.").partition("#")
        text += f", block {layer.partition('.')[0]}" + (f" head {head}" if head else "")
    return f"{text}, from the cue" if span == "cue" else text


def by_map(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Map, span and site of each map in some rows, in order."""
    return list(dict.fromkeys(zip(rows["map"], rows["span"], rows["site"])))


def summary(table: pd.DataFrame) -> str:
    """For each map, in a line, the share of it on the object, and what of that is beyond both nulls."""
    drawn = list(dict.fromkeys(table.loc[table["measure"] == "map", "leaf"]))
    lines = [f"Maps of pictures, {', '.join(table['run'].unique())}: {', '.join(drawn)}"]
    area = table[table["measure"] == "area"].iloc[0]
    if not area["n"]:
        lines.append("  no pointing: the object in the pictures is not known, for they have no transparency")
    else:
        lines.append(
            f"  share on the object, which has {estimate_text(area)} of the area, n = {area['n']} leaves:"
        )
        pointing = table[(table["measure"] == "pointing") & (table["map"] != "head")]
        lines += [f"    {_pointing(pointing, *name)}" for name in by_map(pointing)]
    gaps = table[(table["measure"] == "incomplete") & (table["model"] == "run")]
    lines += [
        f"  integrated gradients miss their sum by {gap['value']:.2g} nats" for gap in gaps.to_dict("records")
    ]
    return "\n".join(lines)


def _pointing(rows: pd.DataFrame, name: str, span: str, site: str) -> str:
    of_map = rows[(rows["map"] == name) & (rows["span"] == span) & (rows["site"] == site)]
    at = {(one["model"], one["patches"]): one for one in of_map.to_dict("records")}
    text = f"{word(name, site, span)}: {estimate_text(at[MODELS[0], PATCHES[0]])}"
    text += f", − shuffled {estimate_text(at[MODELS[0], PATCHES[2]], '+.2f')}"
    if (MODELS[2], PATCHES[0]) in at:
        text += f", − random init {estimate_text(at[MODELS[2], PATCHES[0]], '+.2f')}"
    return text
