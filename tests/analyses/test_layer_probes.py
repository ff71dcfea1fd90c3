"""Layer probes find the planted layer in stores made by hand; directions, parts, heads and code lengths too."""

from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from analyses import layer_probes
from analyses.frame.parts import Parts
from analyses.frame.tables import layer_of
from analyses.inputs.leaf_rows import places, span_pairs
from analyses.inputs.probe_curves import ENCODER_LAYER
from analyses.layer_probes import layers
from analyses.layer_probes.at_span import kept_in
from analyses.layer_probes.design import design
from analyses.layer_probes.layers import every_site, probe_layers, probe_spans
from analyses.layer_probes.options import Options
from analyses.layer_probes.rows import probe_table, summary
from analyses.layer_probes.table import COLUMNS
from tests.analyses.leaf_stores import LEAVES, ONSET, SITES, TAXONOMY, WIDTH, MemoryStore, planted

QUICK = Options(draws=100, folds=4, penalties=(10.0, 1000.0), workers=1)


@pytest.fixture(scope="module")
def stores():
    return planted()


@pytest.fixture(scope="module")
def probed(stores):
    image, text = stores
    early, _ = planted(strength=0.0)
    encoder = {name: np.random.default_rng(0).normal(size=(1, 7)) for name in image.columns["picture"]}
    options = replace(QUICK, held_out=("bird",), transforms=("raw", "centred", "procrustes"))
    return probe_layers({0: early, 9: image}, text, TAXONOMY, options, encoder)


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


def test_the_planted_layer_is_the_onset_of_pictures_and_text_is_there_from_the_first(probed):
    onsets = pick(probed.table, measure="onset", target="mean", span="last", probe="ridge").set_index(
        ["step", "modality"]
    )
    assert onsets.loc[(9, "image"), "value"] == ONSET
    assert np.isnan(onsets.loc[(0, "image"), "value"])
    assert onsets.loc[(-1, "text"), "value"] == -1
    assert onsets.loc[(9, "text→image"), "value"] == ONSET


@pytest.mark.parametrize("modality", ["image", "text→image"])
def test_probes_are_above_their_control_where_planted_and_not_elsewhere(probed, modality):
    rows = pick(probed.table, target="mean", span="last", step=9, probe="ridge", modality=modality)
    above = pick(rows, measure="selectivity").set_index("site")
    assert above.loc[SITES[-1], "lower"] > 0
    assert above.loc[SITES[1], "lower"] < 0
    score, floor = (
        pick(rows, measure=name).set_index("site")["value"] for name in ("auroc", "control_auroc")
    )
    np.testing.assert_allclose(above["value"], score - floor, atol=1e-12)
    assert abs(floor.mean() - 0.5) < 0.1


def test_every_row_is_whole(probed):
    table = probed.table
    assert tuple(table.columns) == COLUMNS
    kinds = {"image", "text", "text→image", "image→text"}
    assert set(table["modality"]) == kinds
    assert set(table["split"]) == {"leaf"}
    numbers = table[table["measure"] == "auroc"]
    having = {name: len(TAXONOMY.leaves_of(name)) for name in TAXONOMY.hypernyms}
    assert (numbers["n"] == numbers["target"].map(having).fillna(len(LEAVES))).all()
    assert set(having) < set(numbers["target"])
    assert ((numbers["lower"] <= numbers["upper"]) & numbers["value"].between(0, 1)).all()
    keys = ["step", "site", "span", "modality", "target", "probe", "measure"]
    assert not table.duplicated(keys).any()


def test_image_and_noun_spans_are_one_place(probed):
    assert span_pairs(("image", "cue"), ("noun", "cue"), None) == [
        ("slot", "image", "noun"),
        ("cue", "cue", "cue"),
    ]
    assert span_pairs(("image",), (), None) == [("image", "image", "")]
    assert set(probed.table["span"]) == {"slot", "last"}
    with pytest.raises(KeyError, match="no span 'verb' in these stores; they have slot, last"):
        span_pairs(("image", "last"), ("noun", "last"), ["verb"])


def test_the_encoder_is_layer_minus_two_of_the_slot(probed):
    rows = probed.table[probed.table["layer"] == -2]
    assert set(rows["site"]) == {"encoder"}
    assert set(rows["span"]) == {"slot"}
    assert set(rows["modality"]) == {"image"}
    assert [
        layer_of(site, ENCODER_LAYER) for site in ("encoder", "hook_embed", "blocks.3.attn.hook_z#5")
    ] == [-2, -1, 3]
    assert np.isnan(layer_of("ln_final.hook_normalized"))


def test_seen_and_held_out_hypernyms_are_told_apart(probed):
    rows = pick(probed.table, span="last", step=9, site=SITES[-1], probe="ridge", modality="image")
    value = rows.set_index(["target", "measure"])["value"]
    difference = value["mean of seen", "auroc"] - value["mean of held-out", "auroc"]
    assert value["seen minus held-out", "auroc_difference"] == pytest.approx(difference)
    assert value["mean of held-out", "auroc"] == pytest.approx(value["bird", "auroc"])


def test_the_order_of_rows_in_a_store_changes_nothing(stores):
    image, text = stores
    order = np.random.default_rng(3).permutation(len(image.columns))
    turned = MemoryStore(
        {key: value[order] for key, value in image.values.items()}, image.columns.iloc[order]
    )
    options = replace(QUICK, spans=("last",), sites=SITES[-1:])
    first, second = (probe_table({9: store}, text, TAXONOMY, options) for store in (image, turned))
    pd.testing.assert_frame_equal(first, second)


def test_one_and_two_workers_give_the_same_numbers(stores):
    image, text = stores
    options = replace(QUICK, spans=("last",))
    one, two = (probe_table({9: image}, text, TAXONOMY, replace(options, workers=w)) for w in (1, 2))
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize("probe", ["ridge", "logistic", "mass_mean"])
def test_tensors_give_the_numbers_of_arrays(stores, monkeypatch, probe):
    """What --device cuda runs, with tensors that live on the CPU."""
    image, text = stores
    transforms = ("raw", "centred", "procrustes")
    options = replace(QUICK, probe=probe, spans=("last",), sites=SITES[-2:], transforms=transforms, code=True)
    arrays = probe_table({9: image}, text, TAXONOMY, options)
    asked = []

    def as_tensor(values, where):
        asked.append(where)
        return torch.from_numpy(np.ascontiguousarray(values))

    monkeypatch.setattr(layers, "put", as_tensor)
    tensors = probe_table({9: image}, text, TAXONOMY, replace(options, device="cuda"))
    assert set(asked) == {"cuda"}
    numbers = ["value", "lower", "upper"]
    pd.testing.assert_frame_equal(tensors.drop(columns=numbers), arrays.drop(columns=numbers))
    np.testing.assert_allclose(tensors[numbers], arrays[numbers], atol=1e-4)


def test_enough_control_tasks_give_a_corrected_p(stores):
    image, text = stores
    table = probe_table({9: image}, text, TAXONOMY, replace(QUICK, controls=19, spans=("last",)))
    p = pick(table, measure="p_corrected", modality="image").set_index("site")["value"]
    assert p[SITES[-1]] == pytest.approx(1 / 20)
    assert p[SITES[0]] > 0.05


def test_the_ungrouped_split_is_marked_and_remembers_leaves():
    image, text = planted(strength=0.0)
    found = {}
    for split in ("leaf", "ungrouped"):
        table = probe_table({9: image}, text, TAXONOMY, replace(QUICK, split=split, spans=("last",)))
        assert set(table["split"]) == {split}
        found[split] = pick(table, site=SITES[-1], modality="image", target="mean").set_index("measure")
    for measure in ("auroc", "control_auroc"):
        assert found["ungrouped"].loc[measure, "lower"] > found["leaf"].loc[measure, "upper"]


def test_families_are_held_out_together(stores):
    image, _ = stores
    plan = design({9: image}, None, TAXONOMY, replace(QUICK, split="family"))
    rows = plan.rows["image@9"]
    for column in range(len(plan.targets)):
        assert len(set(rows.folds[rows.labels[:, column]])) == 1


def test_picture_sources_are_held_out_together_and_text_is_left_out(stores):
    image, text = stores
    source_of = {name: f"source {int(name.rpartition('/')[2]) % 4}" for name in image.columns["picture"]}
    options = replace(QUICK, split="source", spans=("last",), sites=SITES[-1:])
    plan = design({9: image}, text, TAXONOMY, options, source_of=source_of)
    (source,), (rows,) = plan.sources.values(), plan.rows.values()
    names = [source_of[picture] for picture in image.columns["picture"].iloc[source.order]]
    assert len({(name, fold) for name, fold in zip(names, rows.folds)}) == len(set(names)) == 4
    table = probe_table({9: image}, text, TAXONOMY, options, source_of=source_of)
    assert set(table["split"]) == {"source"}
    assert set(table["modality"]) == {"image"}
    with pytest.raises(ValueError, match="needs to know where each picture comes from"):
        probe_table({9: image}, text, TAXONOMY, options)


def test_shuffled_labels_are_at_chance_where_the_hypernym_is_planted(probed):
    rows = pick(probed.table, target="mean", span="last", step=9, modality="image", site=SITES[-1])
    value = pick(rows, probe="ridge").set_index("measure")["value"]
    assert value["auroc"] > 0.9
    assert abs(value["shuffled_auroc"] - 0.5) < 0.12


def test_numbers_that_are_not_there_are_named_with_the_reason(stores, probed):
    assert probed.undefined == ()
    # Each of these hypernyms is a family: where it is held out, no training row has it.
    options = replace(QUICK, split="family", spans=("last",), sites=SITES[-1:])
    found = probe_layers({9: stores[0]}, None, TAXONOMY, options)
    assert len(found.undefined) == len(found.targets)
    assert any(
        "has no AUROC of 'bird': its training rows are of one class" in said for said in found.undefined
    )
    assert pick(found.table, measure="auroc", target="bird")["value"].isna().all()


def test_leaf_and_height_targets(stores):
    image, text = stores
    leaf = replace(QUICK, target="leaf", split="ungrouped", spans=("last",), sites=SITES[-1:], transforms=())
    table = probe_table({9: image}, None, TAXONOMY, leaf)
    assert pick(table, measure="auroc", target="mean")["value"].iloc[0] > 0.9
    assert set(LEAVES) < set(table["target"])
    with pytest.raises(ValueError, match="no probe can name a leaf that it has never seen"):
        probe_table({9: image}, text, TAXONOMY, replace(QUICK, target="leaf"))
    with pytest.raises(ValueError, match="no height has at least 3 of these 32 leaves"):
        probe_table({9: image}, text, TAXONOMY, replace(QUICK, target="height"))


def test_code_length_is_shorter_where_the_hypernym_is_planted(stores):
    image, text = stores
    options = replace(QUICK, code=True, spans=("last",), sites=(SITES[1], SITES[-1]), transforms=())
    table = pick(probe_table({9: image}, text, TAXONOMY, options), modality="image")
    value = table.set_index(["site", "measure"])["value"]
    assert value[SITES[-1], "compression"] > value[SITES[1], "compression"]
    assert value[SITES[-1], "compression"] > value[SITES[-1], "control_compression"]


def test_heads_are_probed_one_by_one():
    image, _ = planted()
    site = "blocks.0.attn.hook_z"
    rows = image.values[SITES[-1], "last"].reshape(len(image.columns), 4, WIDTH // 4)
    heads = MemoryStore({(site, "last"): rows}, image.columns, sites=(site,))
    reading = SimpleNamespace(
        sites=(site, "blocks.0.attn.hook_pattern"),
        spans=("last",),
        read=lambda site, span, which: rows[which],
    )
    asked = every_site(reading)
    assert asked == tuple(f"{site}#{head}" for head in range(4))
    table = probe_table({9: heads}, None, TAXONOMY, replace(QUICK, sites=asked))
    assert set(table["site"]) - {""} == set(asked)
    assert set(table["layer"].dropna()) == {0.0}
    ((name, figure),) = layer_probes.draw(table).items()
    assert name == "heads"
    (image,) = figure.axes[0].images
    found = pick(table, measure="auroc", target="mean", modality="image").set_index("site")["value"]
    assert image.get_array().tolist() == [found[list(asked)].tolist()]


def test_parts_of_the_blocks_have_a_figure_of_their_own_and_leave_the_curves_alone(probed):
    parts = probed.table.replace(
        {"site": {SITES[2]: "blocks.1.hook_attn_out", SITES[3]: "blocks.2.hook_mlp_out"}}
    )
    figures = layer_probes.draw(parts)
    assert {"curves", "parts"} <= set(figures)
    drawn = {text.get_text() for text in figures["parts"].legends[0].get_texts()}
    assert drawn == {"resid post", "attn out", "mlp out"}
    stream = [line for line in figures["curves"].axes[0].get_lines() if line.get_label() == "pictures"]
    assert 1.0 not in stream[0].get_xdata()


def test_figures_come_from_the_table_alone(probed, tmp_path):
    probed.table.assign(run="toy").to_parquet(tmp_path / "table.parquet")
    figures = layer_probes.draw(pd.read_parquet(tmp_path / "table.parquet"))
    assert set(figures) == {"curves", "hypernyms", "transfer", "training", "held_out"}
    lines = [line for axes in figures["curves"].axes for line in axes.get_lines()]
    rows = pick(
        probed.table, measure="auroc", target="mean", span="last", step=9, modality="image", probe="ridge"
    )
    expected = rows.dropna(subset="layer").sort_values("layer")["value"].to_numpy()
    assert any(np.array_equal(line.get_ydata(), expected) for line in lines)


def test_the_summary_names_layer_control_onset_and_transfer(probed):
    text = summary(probed.table.assign(run="toy"))
    assert len(text.splitlines()) <= 10
    assert "Layer probes of toy: 4 targets, 32 leaf concepts, split by leaf, step 9" in text
    line = next(line for line in text.splitlines() if "last  image" in line)
    assert f"first block detected {ONSET} [{ONSET}, {ONSET}], half-rise at block {ONSET} " in line
    assert "control" in line
    assert "selectivity" in line
    assert "text→image" in text


def test_directions_are_kept_by_place_and_point_from_without_to_with(probed, stores, tmp_path):
    probed.write_directions(tmp_path / "directions.h5", "toy")
    image, _ = stores
    with h5py.File(tmp_path / "directions.h5") as file:
        assert list(file.attrs["targets"]) == list(probed.targets)
        found = file[f"image/9/last/{SITES[-1]}"][:]
        assert f"text/none/last/{SITES[-1]}" in file
    assert found.shape == (len(probed.targets), WIDTH)
    np.testing.assert_allclose((found**2).sum(axis=1), 1, rtol=1e-5)
    along = image.values[SITES[-1], "last"] @ found.T
    has = TAXONOMY.labels(image.columns["leaf"].tolist())
    for column, name in enumerate(probed.targets):
        with_it = has[:, TAXONOMY.hypernyms.index(name)]
        assert along[with_it, column].mean() > along[~with_it, column].mean()


def test_a_second_start_reads_the_spans_that_are_there_and_ends_the_same(stores, tmp_path):
    image, text = stores
    options = replace(QUICK, draws=20, folds=2, held_out=("bird",), code=False)
    plan, spans = design({9: image}, text, TAXONOMY, options), places({9: image}, text)
    assert len(spans) > 1
    at_once = probe_spans(plan, spans, options)
    keep, made = kept_in(Parts.of(tmp_path, {})), []

    def killed(name, make):
        made.append(name)
        if len(made) == 2:
            raise KeyboardInterrupt
        return keep(name, make)

    with pytest.raises(KeyboardInterrupt):
        probe_spans(plan, spans, options, killed)
    again = probe_spans(
        plan, spans, options, lambda name, make: keep(name, never if name == made[0] else make)
    )
    pd.testing.assert_frame_equal(again.table, at_once.table, check_exact=True)
    assert list(again.directions) == list(at_once.directions)
    assert list(again.curves) == list(at_once.curves)
    for place, values in at_once.directions.items():
        np.testing.assert_array_equal(again.directions[place], values.astype(np.float32), strict=True)
    for condition, (sites, along) in at_once.curves.items():
        other_sites, other = again.curves[condition]
        assert (sites, list(along)) == (other_sites, list(other))
        for subset, series in along.items():
            for name, values in vars(series).items():
                np.testing.assert_array_equal(getattr(other[subset], name), values, strict=True)


def never():
    raise AssertionError("a span that is on disk was probed again")
