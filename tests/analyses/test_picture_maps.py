"""Maps on the picture: a planted patch is pointed at by every method; geometry; pointing; figures; refusals."""

import re
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import h5py
import numpy as np
import pandas as pd
import planted as circuit
import pytest
import torch
from PIL import Image

from analyses.inputs.subject import Candidates, Subject
from analyses.picture_maps import figures, leaf_maps, places, summary
from analyses.picture_maps.leaf_maps import MAPS, SHUFFLED, Mapper
from analyses.picture_maps.pointing import agreement, pointing
from analyses.picture_maps.probe import PatchProbe
from analyses.picture_maps.rows import Shown, _mean, fill, kinds_of, maps_table
from analyses.picture_maps.summary import word
from probing.patching import Rows
from probing.patching.runs import keep
from probing.stats import draw_weights, few_clusters, interval
from probing.store import MismatchError
from taxogen.models.encoders.encoder import square_pixels
from taxogen.models.features.pooling import pool
from taxogen.models.projectors import joined
from tests.analyses.planted_questions import LEAVES, TAXONOMY

QUARTERS = np.array([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])
SHOWN = LEAVES[::2]
SITE = f"blocks.{circuit.LAYER - 1}.hook_resid_post"


class Planted:
    """The planted circuit as a subject whose pictures have the leaf in one token, and noise in the others."""

    place = 2

    def __init__(self):
        self.model = circuit.planted()
        self.bench = SimpleNamespace(
            vlm=SimpleNamespace(model=self.model), picture_index=dict.fromkeys(LEAVES, 0)
        )
        self.run = SimpleNamespace(taxonomy=TAXONOMY, path="planted")

    def row(self, task, leaf, picture):
        embedded = circuit.picture_prompt(self.model, leaf).clone()
        others = [2 + at for at in range(circuit.PICTURE) if at != self.place]
        embedded[others, circuit.ID[leaf]] = 0
        return embedded

    def share_prefix(self, rows):
        pass

    def group(self, rows):
        return Rows(lambda: {"inputs_embeds": torch.stack(rows)}, circuit.spans(slot=circuit.PICTURE))

    def candidates(self, task):
        return Candidates(TAXONOMY.hypernyms, np.array([circuit.ID[name] for name in TAXONOMY.hypernyms]))

    def own(self, task, leaves):
        return np.asarray(TAXONOMY.labels(list(leaves)))


@pytest.fixture(scope="module")
def arrays():
    """Leaf → arrays of the planted subject, every map of all leaves."""
    subject = Planted()
    shown = pd.DataFrame({"leaf": LEAVES, "picture": LEAVES})
    states = keep(
        subject.model, subject.group([subject.row("hypernym", leaf, leaf) for leaf in LEAVES])
    ).states
    pooled = states[circuit.LAYER][:, 2 : 2 + circuit.PICTURE].mean(1).numpy()
    probe = PatchProbe({SITE: pooled}, LEAVES, TAXONOMY)
    mapper = Mapper(cast(Subject, subject), "hypernym", MAPS, probe, 32, 0)
    # The mean picture token would be part leaf, which the head looks at too.
    vars(mapper)["_mean_token"] = subject.row("hypernym", "crow", "")[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaf_maps, "shown_pictures", lambda *_: shown)
        patch.setattr(leaf_maps, "draw_leaves", lambda *_: None)
        patch.setattr(places, "boxes_of", lambda *_: QUARTERS)
        made = {str(leaf): mapper.arrays(leaf, leaf) for leaf in SHOWN}
    for own in made.values():
        own["inside"] = (np.arange(circuit.PICTURE) == subject.place).astype(float)
    return made


@pytest.fixture(scope="module")
def table(arrays):
    pictures = pd.DataFrame(
        {"leaf": SHOWN, "picture": [f"{leaf}/a.png" for leaf in SHOWN], "content_hash": "0"}
    )
    shown = Shown(pictures.assign(measured=True, drawn=SHOWN[0] == SHOWN), "nowhere")
    same = ("layers", "boxes", "inside")
    flat = {
        leaf: {name: one if name in same else np.ones_like(one) for name, one in own.items()}
        for leaf, own in arrays.items()
    }
    return maps_table(shown, {"run": arrays, "placebo": flat}, "hypernym", 1, 200, 0).assign(
        run="planted", step=3
    )


def chosen(table, measure="pointing", **labels):
    for name, value in {
        "measure": measure,
        "model": "run",
        "patches": "in place",
        "span": "slot",
        **labels,
    }.items():
        table = table[table[name] == value]
    return table


# The first norm takes away how long a token is, and with it nearly all of gradient × input of this circuit; and a probe
# of mean states knows a leaf that it was not fitted on by nothing. Both are tested apart.
CAUSAL = ("integrated", "cut", "mean", "patch")


@pytest.mark.parametrize("name", CAUSAL)
def test_the_one_patch_that_carries_the_answer_is_pointed_at(name, table):
    (one,) = chosen(table, map=name).to_dict("records")
    assert one["value"] > 0.95
    assert one["n"] == len(SHOWN)
    (shuffled,) = chosen(table, map=name, patches="in place − shuffled").to_dict("records")
    assert shuffled["lower"] > 0.3
    (placebo,) = chosen(table, map=name, model="run − placebo").to_dict("records")
    assert placebo["value"] == pytest.approx(one["value"] - 0.25)
    assert placebo["lower"] > 0.6


@pytest.mark.parametrize("name", CAUSAL)
def test_the_patch_is_followed_to_where_it_is_put(name, arrays):
    for leaf, own in arrays.items():
        there = int(own[name].argmax())
        order = leaf_maps.stream(0, "shuffled patches", leaf).permutation(circuit.PICTURE).tolist()
        assert order[int(own[SHUFFLED + name].argmax())] == there


def test_the_head_that_looks_and_the_rollout_point_and_other_heads_do_not(table):
    site = f"blocks.{circuit.LAYER}.attn.hook_pattern#{circuit.HEAD}"
    (head,) = chosen(table, map="head", span="last", site=site).to_dict("records")
    assert head["value"] > 0.99
    others = chosen(table, map="head", span="last")
    assert (others[others["site"] != site]["value"].dropna() < 0.9).all()
    for name in ("attention", "rollout"):
        (one,) = chosen(table, map=name, span="last").to_dict("records")
        assert one["lower"] > 0.26  # heads that look nowhere look at all patches alike
    drawn = table[(table["measure"] == "map") & (table["map"] == "head")]
    assert set(drawn["site"]) == {site}


def test_integrated_gradients_add_up(table):
    (gap,) = chosen(table, "incomplete").to_dict("records")
    assert gap["value"] < 0.05


def test_a_probe_of_pooled_pictures_is_put_to_tokens_without_the_held_out_leaf():
    rng = np.random.default_rng(0)
    axis = np.eye(8)[[TAXONOMY.hypernyms.index(circuit.hypernym_of(leaf)) for leaf in LEAVES]]
    pooled = 3 * axis + 0.1 * rng.standard_normal((len(LEAVES), 8))
    tokens = 0.1 * rng.standard_normal((4, 8))
    tokens[2] += 3 * axis[list(LEAVES).index("crow")]
    garbage = pooled + 50 * (LEAVES == "crow")[:, None]
    scores = [
        PatchProbe({SITE: one}, LEAVES, TAXONOMY).scores(SITE, "crow", tokens) for one in (pooled, garbage)
    ]
    assert scores[0].argmax() == 2
    np.testing.assert_array_equal(scores[0], scores[1])
    few = PatchProbe({SITE: pooled[:3]}, LEAVES[:3], TAXONOMY)
    assert np.isnan(few.scores(SITE, str(LEAVES[0]), tokens)).all()


def test_pointing_is_the_share_of_positive_mass_and_chance_that_of_the_area():
    inside = np.array([1.0, 0.5, 0.0, 0.0])
    assert pointing(np.array([2.0, 2.0, -9.0, 0.0]), "cut", inside) == pytest.approx(0.75)
    for name in ("attention", "cut"):
        assert pointing(np.full(4, 0.3), name, inside) == pytest.approx(inside.mean())
    values = np.random.default_rng(0).permuted(np.tile([5.0, 1, 0, -3], (4000, 1)), axis=1)
    assert pointing(values, "cut", inside).mean() == pytest.approx(inside.mean(), abs=0.02)
    assert pointing(np.array([11.0, 10, 10, 10]), "probe", inside) == 1
    assert np.isnan(pointing(np.array([-1.0, -2, 0, 0]), "cut", inside))
    assert np.isnan(pointing(np.ones(4), "cut", np.full(4, np.nan)))
    assert agreement(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == -1
    assert np.isnan(agreement(np.ones(3), np.arange(3.0)))


def fake(model: dict[str, Any], size, grid=(4, 4), picture=None):
    """A subject whose encoder shows pictures on a white square of 64 pixels, in a grid."""
    prepare = partial(square_pixels, side=64, mean=(127.0,) * 3, std=(128.0,) * 3)
    picture = picture or Image.new("RGB", size, "red")
    pictures = SimpleNamespace(open=lambda _: picture, read=lambda _: b"", name="pictograms")
    bench = SimpleNamespace(vlm=None, world=SimpleNamespace(pictures=pictures))
    config = SimpleNamespace(model=SimpleNamespace(encoder="fake", projector="gelu-mlp", **model))
    subject = SimpleNamespace(bench=bench, run=SimpleNamespace(config=config))
    return cast(Subject, subject), SimpleNamespace(prepare=prepare, grid=grid)


@pytest.mark.parametrize(("encoder_tokens", "image_tokens"), [(16, 16), (16, 4), (4, 4), (9, 9), (4, 1)])
def test_places_are_those_of_the_cells_that_are_averaged_and_joined(
    encoder_tokens, image_tokens, monkeypatch
):
    """A mark in a cell of the encoder's grid reaches, by the run's own pooling and joining, the tokens that have it."""
    subject, encoder = fake({"encoder_tokens": encoder_tokens, "image_tokens": image_tokens}, (64, 64))
    monkeypatch.setattr(places, "_encoder", lambda _: encoder)
    boxes = places.boxes_of(subject, "x")
    assert len(boxes) == image_tokens
    side = round((encoder_tokens / image_tokens) ** 0.5)
    for cell in range(16):
        pooled = torch.tensor(pool(np.eye(16)[cell].reshape(1, 16, 1), (4, 4), encoder_tokens))
        reached = (joined(pooled, side).abs().sum(-1) > 0)[0].numpy()
        x, y = (cell % 4 + 0.5) / 4, (cell // 4 + 0.5) / 4
        holds = (boxes[:, 0] < x) & (x < boxes[:, 2]) & (boxes[:, 1] < y) & (y < boxes[:, 3])
        np.testing.assert_array_equal(reached, holds)


def test_a_wide_picture_lies_in_the_middle_of_its_square_and_its_margins_are_no_object(monkeypatch):
    subject, encoder = fake({"encoder_tokens": 4, "image_tokens": 4}, (80, 40))
    monkeypatch.setattr(places, "_encoder", lambda _: encoder)
    boxes = places.boxes_of(subject, "x")
    expected = [[0, -0.5, 0.5, 0.5], [0.5, -0.5, 1, 0.5], [0, 0.5, 0.5, 1.5], [0.5, 0.5, 1, 1.5]]
    np.testing.assert_allclose(boxes, expected, atol=0.02)
    left = np.arange(80)[None].repeat(40, 0) < 40
    np.testing.assert_allclose(places.inside(left, boxes), [0.5, 0, 0.5, 0], atol=0.02)


def test_the_object_is_what_is_opaque_or_off_the_white_ground_of_bundled_pictures(monkeypatch):
    pixels = np.full((40, 40, 3), 255, np.uint8)
    pixels[:20, 20:] = 0
    pixels[5:10, 25:30] = 255  # white inside the object is part of it
    subject, _ = fake({}, (40, 40), picture=Image.fromarray(pixels))
    monkeypatch.setattr(places, "opacity", lambda _: None)
    np.testing.assert_allclose(places.inside_of(subject, "x", QUARTERS), [0, 1, 0, 0])
    monkeypatch.setattr(places, "opacity", lambda _: np.tri(40) * 0.9)
    np.testing.assert_allclose(places.inside_of(subject, "x", QUARTERS), [0.525, 0, 1, 0.525])
    monkeypatch.setattr(places, "opacity", lambda _: None)
    subject.bench.world.pictures.name = "photos"  # pyright: ignore[reportAttributeAccessIssue]
    assert np.isnan(places.inside_of(subject, "x", QUARTERS)).all()


def test_figures_are_drawn_from_the_table_alone_with_patches_where_they_lie(table, tmp_path):
    table.to_parquet(tmp_path / "table.parquet")
    drawn = figures.draw(pd.read_parquet(tmp_path / "table.parquet"))
    assert set(drawn) == {f"maps-{SHOWN[0]}", "pointing", "heads", "agreement"}
    values = np.array([1.0, 2, 3, 4])
    spread = figures.on_pixels(values, QUARTERS)
    middle = figures.SIDE // 4
    assert [spread[y, x] for y in (middle, 3 * middle) for x in (middle, 3 * middle)] == values.tolist()
    part = figures.on_pixels(values[:1], QUARTERS[:1])
    assert np.isnan(part[3 * middle, 3 * middle])
    shares = {text.get_text() for axes in drawn[f"maps-{SHOWN[0]}"].axes for text in [axes.xaxis.label]}
    own = table[(table["measure"] == "leaf_pointing") & (table["map"] == "cut") & (table["model"] == "run")]
    assert {f"{value:.2f}" for value in own["value"].dropna()} <= shares


def test_the_summary_says_what_is_beyond_both_nulls_or_why_there_is_no_score(table, arrays):
    said = summary(table)
    assert re.search(
        r"patch unseen: (1.00|0.9\d) \[.*\], − shuffled \+0.\d\d \[.*\], − random init \+0.7\d", said
    )
    assert f"n = {len(SHOWN)} leaves" in said
    unknown = {leaf: {**own, "inside": np.full(4, np.nan)} for leaf, own in arrays.items()}
    pictures = pd.DataFrame({"leaf": SHOWN, "picture": [f"{leaf}/a.png" for leaf in SHOWN]})
    pictures = pictures.assign(content_hash="0", measured=True, drawn=SHOWN[0] == SHOWN)
    without = maps_table(Shown(pictures.iloc[:2], "nowhere"), {"run": unknown}, "hypernym", 0, 20, 0).assign(
        run="r"
    )
    assert "no pointing: the object in the pictures is not known" in summary(without)
    assert "pointing" not in figures.draw(without)


def test_every_map_of_every_leaf_is_in_the_file(arrays, tmp_path):
    fill(tmp_path / "maps.h5", {"run": arrays})
    with h5py.File(tmp_path / "maps.h5") as file:
        assert set(file["run"]) == set(arrays)  # pyright: ignore[reportArgumentType]
        np.testing.assert_array_equal(
            np.asarray(file[f"run/{SHOWN[0]}/heads.last"]), arrays[SHOWN[0]]["heads.last"]
        )
    kinds, heads = kinds_of(arrays[SHOWN[0]])
    assert len(heads) == 2 * circuit.LAYERS * circuit.HEADS
    assert {kind.name for kind in kinds} == {*MAPS, "rollout"}


def run_of(path: str = "R", **model: Any):
    known = {
        "vlm": "",
        "projector": "gelu-mlp",
        "encoder": "e",
        "encoder_tokens": 16,
        "image_tokens": 16,
    } | model
    return cast(Any, SimpleNamespace(path=path, config=SimpleNamespace(model=SimpleNamespace(**known))))


def test_runs_whose_patches_have_no_place_are_refused_in_one_line():
    places.check(run_of(), run_of("P", vlm=""))
    places.check(run_of(vlm="m", projector="flat-gelu-mlp"))
    flat: tuple[dict[str, Any], ...] = (
        {"projector": "flat-gelu-mlp", "encoder_tokens": 1},
        {"encoder_tokens": 1, "image_tokens": 1},
    )
    for model in flat:
        with pytest.raises(
            ValueError, match=r"have no place in the picture; train with .*projector=gelu-mlp"
        ) as said:
            places.check(run_of(**model))
        assert "\n" not in str(said.value)
    with pytest.raises(
        MismatchError, match=r"P has model\.image_tokens=4, R 16; a placebo run cuts pictures alike"
    ):
        places.check(run_of(), run_of("P", image_tokens=4))


def test_limits_over_few_leaves_are_wider_than_those_of_the_bootstrap():
    values, names = np.random.default_rng(0).uniform(size=8), [f"leaf{at}" for at in range(8)]
    weights = draw_weights(8, 200, 0)
    row = _mean("pointing", values, names, weights, model="run", patches="in place")
    lower, upper = interval(weights @ values / 8)
    factor = float(few_clusters(np.array(8)))
    assert factor > 1.2
    assert row["upper"] - values.mean() == pytest.approx(factor * (upper - values.mean()))
    assert values.mean() - row["lower"] == pytest.approx(factor * (values.mean() - lower))
    assert np.isnan(_mean("pointing", values[:1], names[:1], np.ones((3, 1)))["lower"])


@pytest.mark.parametrize(
    ("measure", "model", "patches", "lowest"),
    [
        ("pointing", "run", "in place", 0),
        ("pointing", "run", "in place − shuffled", -1),
        ("pointing", "run − placebo", "in place", -1),
        ("agreement", "run", "in place", -1),
        ("area", "run", "in place", 0),
    ],
)
@pytest.mark.parametrize("up", [False, True])
def test_no_limit_is_beyond_what_a_measure_can_be(measure, model, patches, lowest, up):
    values = np.where(np.arange(5) == 0, 0.5, 1.0) if up else np.where(np.arange(5) == 0, 0.5, lowest)
    row = _mean(measure, values, list("abcde"), draw_weights(5, 200, 0), model=model, patches=patches)
    assert row["upper" if up else "lower"] == (1 if up else lowest)
    assert lowest < (row["lower"] if up else row["upper"]) < 1


@pytest.mark.parametrize(
    ("name", "site", "said"),
    [
        ("head", "blocks.16.attn.hook_pattern#3", "attention, block 16 head 3"),
        ("probe", "blocks.15.hook_resid_post", "hypernym probe, block 15"),
        ("cut", "all", "patch unseen"),
    ],
)
def test_a_map_is_named_with_its_layer_and_head(name, site, said):
    assert word(name, site) == said
    assert word(name, site, "cue") == f"{said}, from the cue"
