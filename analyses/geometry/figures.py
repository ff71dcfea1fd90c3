"""Figures of a geometry table: distance against the taxonomy, hierarchy, dimension, and maps of leaves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from analyses.frame import drawing
from analyses.geometry.maps import MAPS, Thumbnails
from taxogen.world.taxonomy import Taxonomy

_RSA = {"taxonomic_rsa": "plain", "taxonomic_rsa_given_encoder": "given the encoder's distances"}
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


def draw(
    table: pd.DataFrame, taxonomy: Taxonomy | None, pictures: Thumbnails | None = None
) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    inside = table[table["layer"].notna()]
    with drawing.style():
        made = {
            name: by_layer(inside, measures, label, null)
            for name, (measures, label, null) in _CURVES.items()
            if table["measure"].isin(list(measures)).any()
        }
        if taxonomy is not None:
            made["map"] = leaf_map(inside, taxonomy)
            if pictures is not None:
                made["map_pictures"] = leaf_map(inside, taxonomy, pictures)
    return made


def runs(table: pd.DataFrame) -> Figure:
    """Correlation of pictures' distances with taxonomic ones, given the encoder's, one curve a run; by `condition`."""
    with drawing.style():
        kept = table["layer"].notna() & (table["modality"] == "image")
        measures = table["measure"]
        name = next(iter(reversed([name for name in _RSA if (measures == name).any()])))
        rows = pd.concat(
            [_last(one) for _, one in table[kept & (measures == name)].groupby("run", sort=False)]
        )
        spans, palette = list(dict.fromkeys(rows["span"])), drawing.colours(list(rows["condition"]))
        figure, panels = _panels(spans)
        for axes, span in zip(panels, spans):
            drawing.conditions(axes, rows[rows["span"] == span], "layer", palette)
            axes.axhline(0, **drawing.CHANCE)
        panels[0].set_ylabel(f"rank correlation, {_RSA[name]}")
        columns = 3 if len(panels) > 1 else 2
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=columns)
        interval = "95 % bootstrap over leaves"
        drawing.footnote(
            figure, drawing.caption(int(rows["n"].max()), "leaf concepts", interval, "dashed, 0")
        )
    return figure


def by_layer(table: pd.DataFrame, measures: dict[str, str], ylabel: str, null: float | None) -> Figure:
    """Measures by layer, a panel a place; words as a thin line in the colour of the pictures' measure."""
    rows = _last(table[table["measure"].isin(list(measures))])
    spans = list(dict.fromkeys(rows["span"]))
    figure, panels = _panels(spans)
    palette = drawing.colours(
        [f"{label}, {kind}" for label in measures.values() for kind in ("pictures", "words")]
    )
    for axes, span in zip(panels, spans):
        for measure, label in measures.items():
            for modality, kind in (("image", "pictures"), ("text", "words")):
                here = rows[
                    (rows["span"] == span) & (rows["modality"] == modality) & (rows["measure"] == measure)
                ]
                name = f"{label}, {kind}"
                if len(here):
                    drawing.curve(axes, here, "layer", palette[name], name)
        if null is not None:
            axes.axhline(null, **drawing.CHANCE)
    panels[0].set_ylabel(ylabel)
    columns = 2 if len(panels) > 1 else 1
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=columns)
    said = "none" if null is None else f"dashed, {null:g}"
    interval = "95 %, bootstrap (of dimensions: jackknife) over leaves"
    drawing.footnote(figure, drawing.caption(int(rows["n"].max()), "leaf concepts", interval, said))
    return figure


def leaf_map(table: pd.DataFrame, taxonomy: Taxonomy, pictures: Thumbnails | None = None) -> Figure:
    """Leaves on the map of each layer that has one, coloured by hypernym.

    With `pictures`, which gives a small picture of a leaf, those stand in place of dots.
    """
    kind = next(kind for kind, names in MAPS.items() if (table["measure"] == names[0]).any())
    rows = _last(table[(table["modality"] == "image") & table["measure"].isin(MAPS[kind])])
    span = "slot" if (rows["span"] == "slot").any() else str(rows["span"].iloc[0])
    rows = rows[rows["span"] == span]
    groups = _hypernym_of(taxonomy, list(dict.fromkeys(rows["target"])))
    palette = drawing.colours([name for name in dict.fromkeys(groups.values()) if name])
    layers = np.unique(rows["layer"])
    size = 5.2 if pictures else 3.1
    figure = Figure(figsize=(size * len(layers), size + 0.6), layout="constrained")
    for axes, layer in zip(figure.subplots(1, len(layers), squeeze=False)[0], layers):
        wide = rows[rows["layer"] == layer].pivot(index="target", columns="measure", values="value")
        _scatter(axes, wide[list(MAPS[kind])].set_axis(["x", "y"], axis=1), groups, palette, pictures)
        axes.set_title(f"{span}, " + (f"layer {layer:g}" if layer >= 0 else "before the first layer"))
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
    share = table.loc[kept & (table["modality"] == "image"), "value"]
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
        axes.plot(mine["x"], mine["y"], "o", color=colour, markersize=3, label=name or "others")
    if pictures is not None:
        for leaf, x, y in zip(wide.index, wide["x"].to_numpy(), wide["y"].to_numpy()):
            box = OffsetImage(np.asarray(pictures(str(leaf))), zoom=0.28)
            frame = {"edgecolor": palette.get(groups[leaf], "0.8"), "linewidth": 0.9}
            axes.add_artist(AnnotationBbox(box, (float(x), float(y)), pad=0.05, bboxprops=frame))
    axes.set_xticks([])
    axes.set_yticks([])


def _hypernym_of(taxonomy: Taxonomy, leaves: Sequence[str]) -> dict[str, str]:
    """Leaf → the largest hypernym of middling size it is under, of the few that get a colour; "" for none."""
    sizes = taxonomy.labels(leaves).sum(axis=0)
    named = [
        taxonomy.hypernyms[k]
        for k in np.argsort(-sizes, kind="stable")
        if 3 <= sizes[k] <= max(3, len(leaves) // 5)
    ][:_NAMED]
    return {
        leaf: next((name for name in named if name in taxonomy.hypernyms_of(leaf)), "") for leaf in leaves
    }


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last step, and those of no step."""
    return rows[(rows["step"] == rows["step"].max()) | (rows["step"] < 0)]


def _panels(spans: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A panel for each place, side by side with one vertical scale."""
    figure = Figure(figsize=(2.9 * len(spans) + 0.6, 3.4 if len(spans) > 1 else 4.0), layout="constrained")
    panels = list(figure.subplots(1, len(spans), squeeze=False, sharey=True)[0])
    for axes, span in zip(panels, spans):
        axes.set_title(span)
        axes.set_xlabel("layer")
    return figure, panels
