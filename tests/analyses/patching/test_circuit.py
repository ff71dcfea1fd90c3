"""A grid on the planted circuit: each kind of state carries what it must, in its layer, both ways, in closed form."""

import numpy as np
import pytest
from planted import HEAD, LAYER, LAYERS, hypernym_of

from analyses.inputs.span_states import fold_of_leaves
from analyses.inputs.stimuli import Stimuli
from analyses.inputs.stimuli.natural import MEASURES
from analyses.patching import outcomes
from analyses.patching.rows import patching_table
from analyses.patching.screening import screen
from analyses.patching.summary import summary
from probing.edits.naturalness import Gaussian
from probing.patching import Cell
from probing.sites import Site
from tests.analyses.patching.planted_subject import PlantedSubject, no_engine, planted_grid

GIVES = {
    "hypernym": {"clean": 1, "sibling": 1, "stranger": 0},
    "leaf": {"clean": 1, "sibling": 0, "stranger": 0},
}
"""Whether a state brings the answer of the run that it comes from, or only takes that of the patched one away."""
WAYS = [
    (direction, mode)
    for direction in ("text-to-image", "image-to-text", "picture-to-picture", "text-to-text")
    for mode in ("denoising", "noising")
]


def carries(cell):
    """Whether the planted answer goes through a cell of the stream: the slot below the head's layer, then the last."""
    layer = cell.layers[0]
    return layer < LAYER if cell.span == "slot" else layer >= LAYER


@pytest.mark.parametrize("direction, mode", WAYS)
def test_states_carry_their_own_answer_where_the_circuit_does(tmp_path, direction, mode):
    grid = planted_grid(tmp_path, direction=direction, mode=mode, spans=("slot", "last"))
    carried = np.array([carries(cell) for cell in grid.cells])
    noise = 0.4 if grid.options.modalities[0] == "image" else 1e-3  # a picture's own, which pooling averages
    for question, chunk in grid.run("planted").items():
        assert chunk["donor"].min() > 3  # nats: the run that states come from gives its own answer,
        assert chunk["base"].max() < -3  # and the patched one its own
        for k, kind in enumerate(grid.options.kinds[:3]):
            log_odds = chunk["log_odds"][k]
            np.testing.assert_allclose(
                log_odds[~carried], np.tile(chunk["base"], ((~carried).sum(), 1)), atol=1e-3
            )
            answer = np.tile(GIVES[question][kind] * chunk["donor"], (carried.sum(), 1))
            np.testing.assert_allclose(log_odds[carried], answer, rtol=noise, atol=1e-3, err_msg=kind)
        assert np.abs(chunk["own"]).max() < 1e-5


def test_pairs_and_states_are_of_the_leaves_they_are_named_for(tmp_path):
    for mode, giver, other in (("denoising", "clean", "corrupted"), ("noising", "corrupted", "clean")):
        grid = planted_grid(tmp_path, mode=mode)
        for pair in grid.pairs:
            assert hypernym_of(pair.clean) == pair.up != pair.down == hypernym_of(pair.corrupted)
            assert hypernym_of(pair.sibling) == hypernym_of(getattr(pair, giver))
            assert pair.sibling != getattr(pair, giver)
            assert hypernym_of(pair.stranger) not in (pair.up, pair.down)
        read = grid.stimuli.answers_of(
            "leaf", [getattr(pair, side) for pair in grid.pairs for side in (giver, other)]
        )
        masks = outcomes.masks(grid.stimuli, "leaf", grid.pairs, mode == "noising")
        np.testing.assert_array_equal(np.stack(masks, 1).reshape(read.shape), read)


def test_windows_hold_the_layers_that_they_are_named_by(tmp_path):
    """Of attention outputs at the last token a window counts if it holds the head's layer, and only then."""
    grid = planted_grid(
        tmp_path, sites=("blocks.*.hook_attn_out",), spans=("last",), window=2, questions=("hypernym",), kinds=()
    )  # fmt: skip
    table = patching_table(grid.run("windows"), grid.pairs, grid.cells, grid.options)
    share = table[(table["measure"] == "restored_fraction") & (table["split"] == "all")]
    windows = [(first, first + 1) for first in range(LAYERS - 1)]
    assert share["layers"].tolist() == [f"{first}-{last}" for first, last in windows]
    assert share["layer"].tolist() == [last for _, last in windows]
    assert share["site"].tolist() == [f"blocks.{last}.hook_attn_out" for _, last in windows]
    np.testing.assert_allclose(share["value"], [float(LAYER in window) for window in windows], atol=1e-4)
    up_to = planted_grid(
        tmp_path, sites=("blocks.*.hook_attn_out",), spans=("last",), cumulative=True, questions=("hypernym",), kinds=()
    )  # fmt: skip
    table = patching_table(up_to.run("cumulative"), up_to.pairs, up_to.cells, up_to.options)
    share = table[(table["measure"] == "restored_fraction") & (table["split"] == "all")]
    assert share["layers"].tolist() == ["0", *(f"0-{layer}" for layer in range(1, LAYERS))]
    np.testing.assert_allclose(share["value"], np.arange(LAYERS) >= LAYER, atol=1e-4)


def test_a_screen_goes_on_with_the_planted_head(tmp_path):
    grid = planted_grid(
        tmp_path, sites=("blocks.*.attn.hook_z",), spans=("slot", "last"), heads=True, questions=("hypernym",)
    )  # fmt: skip
    table, best = screen(grid, top=1, sampled=6)
    head = Cell((Site("attn.hook_z", LAYER),), "last", HEAD)
    assert best.cells == [head]
    assert best.run("best")["hypernym"]["log_odds"].shape == (4, 1, 8)
    attribution = table[table["measure"] == "attribution"]
    assert len(attribution) == len(grid.cells)
    known = attribution.set_index(["layer", "head", "span"])["value"]
    assert known[LAYER, str(HEAD), "last"] > 4
    assert known.drop((LAYER, str(HEAD), "last")).abs().max() < 1e-4
    assert table[table["measure"] == "rank_agreement"]["n"].tolist() == [6]


def test_names_that_begin_alike_are_one_answer():
    """The probability of a first token is not counted once for each name that begins with it."""

    class Alike(PlantedSubject):
        def answer(self, task, name):
            return super().answer(task, "crow" if name in ("duck", "eagle") else name)

    plain, alike = (Stimuli(kind.new(), {}, {}) for kind in (PlantedSubject, Alike))
    assert (len(plain.tokens("leaf")), len(alike.tokens("leaf"))) == (16, 14)
    read = alike.answers_of("leaf", ["crow", "duck", "owl"])
    assert read.sum(1).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(read[0], read[1])
    assert not (read[0] & read[2]).any()
    assert plain.reading("leaf") == plain.reading("hypernym") == alike.reading("hypernym") == {}
    assert alike.reading("leaf") == {"tokens": alike.tokens("leaf").tolist()}


def test_outcomes_are_in_nats_of_the_state_s_answer_against_the_patched_run_s():
    """Two answers besides: log-odds, changes of log-probability and divergence from logits, in closed form."""
    before, source = np.log([[0.1, 0.6, 0.2, 0.1]]), np.log([[0.7, 0.1, 0.1, 0.1]])
    logits = (
        np.log([0.4, 0.2, 0.2, 0.2])[None, None, None] + 5.0
    )  # one kind, cell and pair; a constant is no matter
    chosen = [np.eye(4, dtype=bool)[[k]] for k in (0, 1, 2, 3)]
    found = outcomes.outcomes_of(logits, before, source, chosen)
    expected = {
        "log_odds": np.log(2), "base": np.log(1 / 6), "donor": np.log(7),
        "up": np.log(4), "down": np.log(1 / 3), "shared": 0.0, "other": np.log(2),
        "kl": 0.1 * np.log(0.1 / 0.4) + 0.6 * np.log(3) + 0.1 * np.log(0.5),
    }  # fmt: skip
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].ravel(), [value], atol=1e-6, err_msg=name)
    assert set(outcomes.outcomes_of(logits, before, source, chosen[:2])) == set(expected) - {
        "shared",
        "other",
    }


def test_the_hypernyms_of_both_and_of_neither_leaf():
    taxonomy = PlantedSubject.new().run.taxonomy
    assert len(taxonomy.hypernyms) == 4
    grid = planted_grid(None, count=3)
    up, down, shared, neither = outcomes.masks(grid.stimuli, "hypernym", grid.pairs, noising=False)
    names = np.array(grid.stimuli.subject.candidates("hypernym").names)
    for at, pair in enumerate(grid.pairs):
        assert names[up[at]].tolist() == [pair.up]
        assert names[down[at]].tolist() == [pair.down]
        assert set(names[neither[at]]) == set(names) - {pair.up, pair.down}
    assert not shared.any()


def test_a_part_is_kept_once_and_read_by_the_next_start(tmp_path, monkeypatch):
    settings = {"chunk": 3, "questions": ("hypernym",), "spans": ("slot", "last")}
    grid = planted_grid(tmp_path, **settings)
    first = grid.run("first")["hypernym"]
    assert [path.name.rsplit("-", 1)[0] for path in sorted(tmp_path.glob("*.npz"))] == [
        f"patched-hypernym-{start:04d}" for start in (0, 3, 6)
    ]
    assert first["log_odds"].shape == (4, len(grid.cells), 8)
    no_engine(monkeypatch)
    again = planted_grid(tmp_path, **settings).run("again")["hypernym"]
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
    with pytest.raises(AssertionError, match="forward pass"):
        planted_grid(tmp_path, **(settings | {"seed": 1})).run("of other pairs")


def test_patched_states_are_ranked_among_natural_ones_of_their_site_where_that_is_asked(tmp_path):
    settings = {"direction": "text-to-text", "questions": ("hypernym",), "spans": ("last",)}
    grid = planted_grid(tmp_path, natural=True, **settings)
    found = grid.run("ranked")["hypernym"]
    plain = planted_grid(tmp_path, **settings).run("plain")["hypernym"]
    assert set(found) - set(plain) == set(MEASURES)
    np.testing.assert_array_equal(found["log_odds"], plain["log_odds"])  # parts are those of a plain grid
    table = patching_table({"hypernym": found}, grid.pairs, grid.cells, grid.options)
    rows = table[(table["measure"] == "mahalanobis_percentile") & (table["layer"] >= LAYER)]
    rows = rows.set_index("state")["value"]
    # States of other leaves in words are natural in words; random ones as long are not. Before, all are one.
    assert rows.loc["clean"].max() < 90
    assert rows.loc["random"].min() > 99
    # By hand: the state of the first pair's giver at the last cell, held out with its fold.
    stimuli, names = grid.stimuli, sorted(grid.stimuli.pictures)
    rows = stimuli.rows("hypernym", [(name, "text") for name in names])
    cell = grid.cells[-1]
    states = (
        stimuli.states("hypernym", list(rows.values()), grid.sites)[0][str(cell.site), "last"]
        .double()
        .numpy()
    )
    fold = fold_of_leaves(stimuli.subject.run.taxonomy, np.array(names), 3, grid.options.seed)
    at = names.index(grid.pairs[0].clean)
    other = Gaussian.of(states[fold != fold[at]])
    nearer = other.distances(states[fold == fold[at]]) <= other.distances(states[[at]]) * (1 + 1e-9)
    assert found["mahalanobis_percentile"][0, -1, 0] == pytest.approx(100 * nearer.mean())
    far = table.assign(run="planted", value=table["value"].where(table["measure"] != "unnatural", 0.6))
    assert "warning: the clean run's state: most states lie beyond the 99th" in summary(far)
