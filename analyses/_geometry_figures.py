"""Figures of a geometry table: distance against the taxonomy, hierarchy, dimension, and maps of leaves."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL.Image import Image

from analyses import _figures
from taxogen.taxonomy import Taxonomy

_RSA = {"taxonomic_rsa": "plain", "taxonomic_rsa_given_encoder": "given the encoder's distances"}
_MAPPED = 3  # layers shown as maps
Thumbnails = Callable[[str], Image]
_NAMED = 8  # hypernyms with a colour of their own


def draw(table: pd.DataFrame, taxonomy: Taxonomy | None) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    inside = table[table["layer"].notna()]
    with _figures.style():
        made = {
            "taxonomic_distance": by_layer(inside, _RSA, "rank correlation with taxonomic distance", 0.0),
            "hierarchy": by_layer(
                inside, {"hierarchy_ratio": "own over other hypernyms"}, "cosine, own over other", 1.0
            ),
            "dimension": by_layer(
                inside,
                {
                    "intrinsic_dimension": "intrinsic (two nearest)",
                    "participation_ratio": "participation ratio",
                },
                "dimension of leaf means",
                None,
            ),
        }
        if taxonomy is not None:
            made["map"] = leaf_map(inside, taxonomy)
    return made


def by_layer(table: pd.DataFrame, measures: dict[str, str], ylabel: str, null: float | None) -> Figure:
    """Measures by layer, a panel a place; words as a thin line in the colour of the pictures' measure."""
    rows = _last(table[table["measure"].isin(list(measures))])
    spans = list(dict.fromkeys(rows["span"]))
    figure = Figure(figsize=(2.9 * len(spans) + 0.6, 3.4), layout="constrained")
    panels = list(figure.subplots(1, len(spans), squeeze=False, sharey=True)[0])
    palette = _figures.colours(
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
                    _figures.curve(axes, here, "layer", palette[name], name)
        if null is not None:
            axes.axhline(null, **_figures.CHANCE)
        axes.set_title(span)
        axes.set_xlabel("layer")
    panels[0].set_ylabel(ylabel)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    said = "none" if null is None else f"dashed, {null:g}"
    interval = "95 %, where drawn; p of correlations is in the table"
    _figures.footnote(figure, _figures.caption(int(rows["n"].max()), "leaf concepts", interval, said))
    return figure


def leaf_map(
    table: pd.DataFrame,
    taxonomy: Taxonomy,
    pictures: Thumbnails | None = None,
) -> Figure:
    """Leaves on the first two principal components at a first, middle and last layer, coloured by hypernym.

    With `pictures`, which gives a small picture of a leaf, those stand in place of dots.
    """
    rows = _last(table[(table["modality"] == "image") & table["measure"].isin(["pc1", "pc2"])])
    span = "slot" if (rows["span"] == "slot").any() else str(rows["span"].iloc[0])
    rows = rows[rows["span"] == span]
    layers = np.unique(rows["layer"])
    chosen = layers[np.unique(np.linspace(0, len(layers) - 1, _MAPPED).round().astype(int))]
    groups = _hypernym_of(taxonomy, list(dict.fromkeys(rows["target"])))
    palette = _figures.colours([name for name in dict.fromkeys(groups.values()) if name])
    figure = Figure(figsize=(3.1 * len(chosen), 3.7), layout="constrained")
    for axes, layer in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen):
        wide = rows[rows["layer"] == layer].pivot(index="target", columns="measure", values="value")
        _scatter(axes, wide, groups, palette, pictures)
        axes.set_title(f"{span}, layer {layer:g}")
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=5)
    note = _figures.caption(int(rows["n"].max()), "leaf concepts", "none", "none; two of many components")
    _figures.footnote(figure, note)
    return figure


def _scatter(
    axes: Axes, wide: pd.DataFrame, groups: dict[str, str], palette: dict[str, str], pictures
) -> None:
    for name, colour in {"": "0.8", **palette}.items():
        mine = [leaf for leaf in wide.index if groups[leaf] == name]
        size = {"markersize": 1 if pictures else 3, "label": name or None}
        axes.plot(wide.loc[mine, "pc1"], wide.loc[mine, "pc2"], "o", color=colour, **size)
    if pictures is not None:
        for leaf, x, y in zip(wide.index, wide["pc1"].to_numpy(), wide["pc2"].to_numpy()):
            box = OffsetImage(np.asarray(pictures(str(leaf)).resize((24, 24))), zoom=0.5)
            frame = {"edgecolor": palette.get(groups[leaf], "0.8"), "linewidth": 0.6}
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
