"""Figures of a geometry table: distance against the taxonomy, hierarchy, dimension, and maps of leaves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from analyses.frame import drawing
from analyses.frame.drawing import panels
from analyses.geometry.maps import MAPS, Thumbnails
from taxogen.world.taxonomy import Taxonomy

_RSA = {
    "taxonomic_rsa": "plain",
    "taxonomic_rsa_given_words": "given distances of word vectors",
    "taxonomic_rsa_given_encoder": "given the encoder's distances",
}
_CURVES: dict[str, tuple[dict[str, str], str, float | None]] = {
    "taxonomic_distance": (_RSA, "rank correlation with taxonomic distance", 0.0),
    "hierarchy": ({"hierarchy_ratio": "own over other hypernyms"}, "cosine, own over other", 1.0),
    "dimension": (
        {"intrinsic_dimension": "intrinsic (two nearest)", "participation_ratio": "participation ratio"},
        "dimension of leaf means",
        None,
    ),
}
_NAMED = 8  # hypernyms with a colour of their own


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name; of a table of several runs or of a map, that."""
    if "condition" in table:
        return {"runs": runs(table)}
    if "hypernym" in table:
        return maps(table)
    inside = table[table["layer"].notna()]
    with drawing.style():
        return {
            name: by_layer(inside, measures, label, null)
            for name, (measures, label, null) in _CURVES.items()
            if inside["measure"].isin(list(measures)).any()
        }


def map_rows(table: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """The rows of a table that are places on maps, with the `hypernym` that gives a leaf its colour; of most, none."""
    names = [name for pair in MAPS.values() for name in pair]
    shares = [f"{name}_share" for name in names]
    rows = table[table["layer"].notna() & table["measure"].isin([*names, *shares])]
    rows = rows[rows["modality"] == panels.shown_modality(rows)]
    leaves = list(dict.fromkeys(rows.loc[rows["measure"].isin(names), "target"]))
    return rows.assign(hypernym=rows["target"].map(_hypernym_of(taxonomy, leaves)).fillna(""))


def maps(table: pd.DataFrame, pictures: Thumbnails | None = None) -> dict[str, Figure]:
    """Maps of the leaves, coloured by `hypernym`: as dots, and as small pictures where there are some."""
    with drawing.style():
        dots = {"map": leaf_map(table)}
        return dots | ({"map_pictures": leaf_map(table, pictures)} if pictures else {})


def runs(table: pd.DataFrame) -> Figure:
    """Correlation of pictures' distances with taxonomic ones, given the encoder's, one curve a run; by `condition`."""
    rows = table[table["layer"].notna() & (table["modality"] == "image")]
    name = [name for name in _RSA if (rows["measure"] == name).any()][-1]
    return panels.runs({f"rank correlation, {_RSA[name]}": rows[rows["measure"] == name]}, "dashed, 0")


def by_layer(table: pd.DataFrame, measures: dict[str, str], ylabel: str, null: float | None) -> Figure:
    """Measures by layer, a panel a place; a curve each for pictures and for words."""
    rows = panels.of_last_step(table[table["measure"].isin(list(measures))])
    spans = panels.unique(rows["span"])
    figure, places = panels.side_by_side(len(spans), height=3.4 if len(spans) > 1 else 4.0)
    kinds = {"image": "pictures", "text": "words"}
    palette = drawing.colours([f"{label}, {kind}" for label in measures.values() for kind in kinds.values()])
    for axes, span in zip(places, spans):
        for measure, label in measures.items():
            for modality, kind in kinds.items():
                own = rows[(rows["span"] == span) & (rows["modality"] == modality)]
                own, name = own[own["measure"] == measure], f"{label}, {kind}"
                if len(own):
                    drawing.curve(axes, own, "layer", palette[name], name)
        panels.frame(axes, span, null)
    places[0].set_ylabel(ylabel)
    panels.legend(figure, places[0], 2)
    said = "none" if null is None else f"dashed, {null:g}"
    interval = "95 %, jackknife (of hierarchy: bootstrap) over leaves"
    drawing.footnote(figure, panels.leaves_caption(rows, said, interval))
    return figure


def leaf_map(table: pd.DataFrame, pictures: Thumbnails | None = None) -> Figure:
    """Leaves on the map of each layer that has one, coloured by `hypernym` (see `map_rows`).

    With `pictures`, which gives a small picture of a leaf, those stand in place of dots.
    """
    kind = next(kind for kind, names in MAPS.items() if (table["measure"] == names[0]).any())
    rows = panels.of_last_step(table[table["measure"].isin(MAPS[kind])])
    span = "slot" if (rows["span"] == "slot").any() else str(rows["span"].iloc[0])
    rows = rows[rows["span"] == span]
    groups = dict(zip(rows["target"], rows["hypernym"]))
    palette = drawing.colours([name for name in dict.fromkeys(groups.values()) if name])
    layers = np.unique(rows["layer"])
    size = 5.2 if pictures else 3.1
    figure = Figure(figsize=(size * len(layers), size + 0.6), layout="constrained")
    for axes, layer in zip(figure.subplots(1, len(layers), squeeze=False)[0], layers):
        wide = rows[rows["layer"] == layer].pivot(index="target", columns="measure", values="value")
        _scatter(axes, wide[list(MAPS[kind])].set_axis(["x", "y"], axis=1), groups, palette, pictures)
        axes.set_title(f"{span}, " + (f"block {layer:g}" if layer >= 0 else "before the first block"))
        axes.set(xlabel=_axis_label(table, MAPS[kind][0], span, layer))
        axes.set(ylabel=_axis_label(table, MAPS[kind][1], span, layer))
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=9 if pictures else 5)
    null = "none; two of many components" if kind == "pca" else "none; t-SNE keeps neighbours, not distances"
    drawing.footnote(figure, drawing.caption(int(rows["n"].max()), "leaf concepts", "none", null))
    return figure


def _axis_label(table: pd.DataFrame, name: str, span: str, layer: float) -> str:
    """Name of a coordinate and, of a principal component, its share of variance."""
    kept = (table["measure"] == f"{name}_share") & (table["span"] == span) & (table["layer"] == layer)
    share = table.loc[kept, "value"]
    return (
        f"{name.upper()}, {share.iloc[0]:.0%} of variance" if len(share) else name.replace("tsne", "t-SNE ")
    )


def _scatter(
    axes: Axes,
    wide: pd.DataFrame,
    groups: dict[str, str],
    palette: dict[str, str],
    pictures: Thumbnails | None,
) -> None:
    """One map; `wide` has the columns x and y and a row for each leaf."""
    for name, colour in {"": "0.8", **palette}.items():
        mine = wide.loc[[leaf for leaf in wide.index if groups[leaf] == name]]
        if mine.empty:
            continue
        look = {"color": colour, "markersize": 3, "label": name or "others"}
        axes.plot(mine["x"], mine["y"], drawing.marker(colour), **look)
    if pictures is not None:
        for leaf, x, y in zip(wide.index, wide["x"].to_numpy(), wide["y"].to_numpy()):
            box = OffsetImage(np.asarray(pictures(str(leaf))), zoom=0.28)
            frame = {"edgecolor": palette.get(groups[leaf], "0.8"), "linewidth": 0.9}
            axes.add_artist(AnnotationBbox(box, (float(x), float(y)), pad=0.05, bboxprops=frame))
    axes.set_xticks([])
    axes.set_yticks([])


def _hypernym_of(taxonomy: Taxonomy, leaves: Sequence[str]) -> dict[str, str]:
    """Leaf → the largest hypernym of middling size it is under, of the few that get a colour; "" for none.

    Middling are 3 leaves to a fifth of all; where no hypernym is, 2 leaves to half of all.
    """
    sizes = taxonomy.labels(leaves).sum(axis=0)
    bounds = [(3, max(3, len(leaves) // 5)), (2, len(leaves) // 2)]
    middling = [np.flatnonzero((sizes >= least) & (sizes <= most)) for least, most in bounds]
    chosen = next(filter(len, middling), middling[0])
    order = chosen[np.argsort(-sizes[chosen], kind="stable")]
    named = [taxonomy.hypernyms[k] for k in order[:_NAMED]]
    return {
        leaf: next((name for name in named if name in taxonomy.hypernyms_of(leaf)), "") for leaf in leaves
    }
