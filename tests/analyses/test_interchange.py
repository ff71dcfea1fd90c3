"""Interchange: the planted subspace carries the hypernym, controls do not, held-out leaves decide nothing, refusals."""

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import planted as circuit
import pytest
import torch
from scipy.stats import binom, t

from analyses.inputs import subject
from analyses.inputs.stimuli import placebo_runs
from analyses.interchange import figures, fitted, sides
from analyses.interchange.check import check
from analyses.interchange.effects import interchange_effects
from analyses.interchange.exchanged import Edit, edits_of, exchanged, exchanged_alone, outcomes_of
from analyses.interchange.fitted import _objectives, subspaces
from analyses.interchange.grid import ExchangeGrid
from analyses.interchange.measured import At
from analyses.interchange.options import METHODS, PAIRS, Options, largest_rank, lowered, with_ranks
from analyses.interchange.outcomes import chances
from analyses.interchange.rows import interchange_table
from analyses.interchange.summary import summary
from probing.edits.naturalness import Gaussian
from probing.edits.placebos import rank_p
from probing.store import MismatchError
from taxogen.models.lms import INITS
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.patching.planted_subject import PlantedSubject
from tests.analyses.planted_interchange import (
    BEHIND,
    linear_effects,
    outcomes,
    planted_grid,
    read_by_gradients,
)
from tests.analyses.planted_questions import TAXONOMY


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def planted():
    """The outcomes in the planted circuit, their table, and the outcomes of subspaces of rank 1."""
    grid = planted_grid(methods=("means", "das"), ranks=(3,), draws=100, controls=19)
    parts = exchanged(grid, BEHIND, 0)
    smaller = exchanged_alone(replace(grid, options=replace(grid.options, ranks=(1,))), BEHIND, 0)
    table = interchange_table(parts, chances(grid.stimuli, grid.pairs[0]), grid.options)
    return parts, table.assign(run="planted"), smaller


def row_of(table, measure, edit, method="", trained="", rank=0, target="hypernym"):
    rows = table[(table["measure"] == measure) & (table["edit"] == edit) & (table["target"] == target)]
    rows = rows[(rows["method"] == method) & (rows["trained"] == trained) & (rows["rank"] == rank)]
    return rows.iloc[0]


def number(*about, **more):
    return float(row_of(*about, **more)["value"])


@pytest.mark.parametrize("trained", ["pictures", "words"])
@pytest.mark.parametrize("method", ["means", "das"])
def test_the_planted_rank_carries_the_hypernym_of_pictures_and_a_smaller_one_does_not(
    planted, method, trained
):
    _, table, smaller = planted
    own = (method, trained, 3)
    assert number(table, "accuracy", "swap", *own) == 1
    assert number(table, "accuracy", "none") == 0
    assert number(table, "flagged", "swap", *own) == 0
    # The limits of paired differences leave out 0, and those of the subspace and of its complement do not touch.
    for control in ("random", "random_norm"):
        assert number(table, "effect_p_corrected", control, *own) == 0.05
        assert row_of(table, "effect_excess", control, *own)["lower"] > 0
    swap, complement = (row_of(table, "effect", edit, *own) for edit in ("swap", "complement"))
    assert complement["upper"] < swap["lower"]
    # With unit directions h, a direction w of h-part u changes the log-odds of a and b as (u_a - u_b)² of 2, and the
    # answer where that exceeds 1. Its sum over the six pairs of hypernyms is 4 |u|² - (Σu)² <= 4: fewer than four.
    of_rank_1 = smaller[(smaller["method"] == method) & (smaller["trained"] == trained)]
    ends = of_rank_1[["up", "down"]].apply(frozenset, axis=1)
    assert ends[of_rank_1["accuracy"] > 0].nunique() <= 3 < ends.nunique()


@pytest.mark.parametrize("trained", ["pictures", "words"])
def test_differences_of_means_exchange_the_share_that_names_leave_them(planted, trained):
    # A class mean is a unit direction and half of each of two names, over two: hypernyms have 1 / (1 + 1/8) of its
    # squared length. States keep their length under the swap, so that log-odds change by that share of the whole. Noise
    # of pictures makes states about 5 % longer or shorter, which tilts directions by the square of that.
    _, table, _ = planted
    share, whole = 8 / 9, number(table, "effect", "whole")
    assert number(table, "effect", "swap", "means", trained, 3) == pytest.approx(share * whole, rel=0.01)
    assert number(table, "effect", "complement", "means", trained, 3) == pytest.approx(
        (1 - share) * whole, abs=0.01 * whole
    )
    # Of the squared difference, 2 are of hypernyms and 1/2 of names, of which the subspace has none.
    assert number(table, "moved", "swap", "means", trained, 3) == pytest.approx(2 * share / 2.5, rel=0.01)


def test_leaves_stay_where_they_are_and_words_and_pictures_share_the_subspace(planted):
    _, table, _ = planted
    for edit, own in (("none", ()), ("swap", ("means", "words", 3))):
        assert number(table, "accuracy", edit, *own, target="leaf") == 1
    assert number(table, "accuracy", "chance", target="leaf") == pytest.approx(0.25)
    # What is written at the last token is the same in words and pictures, but for lengths (see above).
    both = ("means", "words and pictures", 3, "angles")
    assert number(table, "overlap", "angles", *both) == pytest.approx(1, abs=0.01)
    assert number(table, "overlap", "angles", *both) > number(table, "overlap", "angles_random", *both)
    # Beside random subspaces two of nothing overlap too often: there is a p beside exchanged labels alone.
    assert set(table.loc[table["measure"].str.startswith("overlap_p"), "edit"]) == {"angles_arbitrary"}


def test_the_figure_of_what_stays_has_a_line_of_panels_for_what_there_are_numbers_of(planted):
    _, table, _ = planted
    leaf = (table["measure"] == "accuracy") & (table["target"] == "leaf")
    rest, numbers = table[table["target"] != "other"], ["value", "lower", "upper"]

    def lines(other, of_leaf):
        both = [table[leaf].assign(target="other"), rest]
        given = pd.concat(both, ignore_index=True)
        for target, value in (("other", other), ("leaf", of_leaf)):
            own = (given["target"] == target) & (given["edit"] == "swap") & (given["measure"] == "accuracy")
            given = given.assign(**given[numbers].mask(own, value))
        shown = [figure for name, figure in figures.draw(given).items() if name.startswith("stays")]
        return [{axes.get_ylabel() for axes in figure.axes} - {""} for figure in shown]

    assert lines(0.5, 0.5) == [set(figures.STAYS.values())]
    assert lines(np.nan, 0.5) == [{figures.STAYS["leaf"]}]
    assert lines(np.nan, np.nan) == []


def test_summary_and_effects_are_made_of_the_planted_table_and_lowered_defaults_are_named(planted):
    parts, table, _ = planted
    assert "means of words, rank 3: most behind block 2" in summary(table)
    assert "less than" not in summary(table)
    note = lowered(Options(), (1, 3), 8)
    table = table.assign(note=np.where(table["edit"] == "none", note, table["note"]))
    assert summary(table).endswith(
        "less than the defaults: rank 3 in place of 4, as hypernyms span no more; 8 pairs in place of 60, as leaves of "
        "the tested folds make no more"
    )
    assert lowered(Options(ranks=(1,), pairs=8), (1,), 8) == lowered(Options(), (1, 4), 60) == ""
    effects = interchange_effects(parts, Options(draws=100))
    assert effects.paired
    of_swap = (effects.cells["measure"] == "effect") & (effects.cells["method"] == "means")
    of_swap &= (effects.cells["trained"] == "words") & (effects.cells["rank"] == 3)
    mean = effects.values[of_swap.to_numpy()].mean()
    assert mean == pytest.approx(number(table, "effect", "swap", "means", "words", 3), rel=0.1)


def test_exchanged_states_are_ranked_among_natural_ones_and_far_ones_are_warned_of(planted):
    grid = planted_grid(methods=("means",), ranks=(3,))
    edits = [
        Edit("none", lambda difference: 0 * difference),
        Edit("whole", lambda difference: 50 * difference),
    ]
    frame = outcomes_of(grid, BEHIND, 0, edits, grid.pairs[0])
    far, own = (frame[frame["edit"] == edit] for edit in ("whole", "none"))
    assert (far[["mahalanobis_percentile", "neighbour_percentile"]] == 100).all(axis=None)
    assert (far["unnatural"] == 1).all()
    # By hand: bases among the leaves of their fold, by what those of the other fold gave.
    states = grid.states("hypernym", "image")[BEHIND]
    other, held_out = Gaussian.of(states[grid.fold != 0]), states[grid.fold == 0]
    bases = states[[grid.leaves.index(pair.base) for pair in grid.pairs[0]]]
    nearer = other.distances(held_out) <= other.distances(bases)[:, None] * (1 + 1e-9)
    assert own["mahalanobis_percentile"].to_numpy() == pytest.approx(100 * nearer.mean(1))
    _, table, _ = planted
    of_swap = (table["measure"] == "unnatural") & (table["edit"] == "swap")
    assert of_swap.sum() == 4
    warned = summary(table.assign(value=table["value"].mask(of_swap, 0.6)))
    assert (
        warned.count("most states lie beyond the 99th percentile of natural ones at last behind block") == 4
    )


def test_a_search_weighs_pairs_alike_whatever_length_their_words_have(monkeypatch):
    """The planted prompts have one length; as if they had three, objectives are the same."""
    basis = torch.eye(circuit.WIDTH, dtype=torch.float64)[:, :5]

    def losses():
        grid = planted_grid(methods=("das",), ranks=(1,), training_pairs=40)
        objectives = list(_objectives(grid, BEHIND, 0, "text", grid.trained_on(0), 0))
        return [float(one(basis)) for one in objectives], [one.gradients().shape for one in objectives]

    monkeypatch.setattr(fitted, "_BATCH", 12)
    before, rows = losses()
    split = sides.of_one_length
    monkeypatch.setattr(
        sides,
        "of_one_length",
        lambda every: [part for one in split(every) for part in (one[:1], one[1:4], one[4:]) if part],
    )
    after, rows_after = losses()
    assert len(before) > 1
    assert after == pytest.approx(before, rel=1e-5)
    assert rows_after == rows


def test_labels_and_states_of_the_tested_leaves_decide_nothing():
    options = {"methods": METHODS, "ranks": (2,), "controls": 1, "steps": 2, "trained": ("words",)}
    grid = planted_grid(**options)
    own = subspaces(grid, BEHIND, 0)
    poisoned = planted_grid(**options)
    held_out = np.flatnonzero(poisoned.fold == 0)
    labels = poisoned.labels.copy()
    labels[held_out] = ~labels[held_out]
    states = poisoned.states("hypernym", "text")[BEHIND]
    states[held_out] = 1e3
    poisoned = replace(poisoned, labels=labels)
    spoilt = subspaces(poisoned, BEHIND, 0)
    assert {key[0] for key in own} == set(METHODS)
    for key, one in own.items():
        assert np.array_equal(one.basis, spoilt[key].basis), key
    trained = poisoned.labels.copy()
    trained[poisoned.fold == 1] = np.roll(trained[poisoned.fold == 1], 1, axis=0)
    other = subspaces(replace(poisoned, labels=trained), BEHIND, 0)
    assert not np.allclose(other["means", "words", 2, 0].basis, own["means", "words", 2, 0].basis)


def test_arbitrary_labels_are_exchanged_among_leaves_of_other_folds_and_one_draw_over_the_folds():
    grid = planted_grid()
    kinds, folds = np.arange(len(grid.leaves)), (0, 1, 2)
    grid = replace(grid, fold=kinds % 3)
    named = replace(grid, labels=np.eye(len(kinds), dtype=bool))
    alike = []
    for draw in range(1, 21):
        given = [named.trained_on(fold, draw) @ kinds for fold in folds]
        for fold, one in zip(folds, given, strict=True):
            others = np.flatnonzero(grid.fold != fold)
            assert sorted(one[others]) == others.tolist()
        alike.append((given[0] == given[1])[grid.fold == 2].mean())
    assert np.mean(alike) > 0.3  # of draws of their own a tenth


def test_random_subspaces_are_one_draw_over_the_folds():
    grid = planted_grid(methods=("means",), ranks=(1,), controls=3, trained=("words",))
    change = np.random.default_rng(0).standard_normal((4, 1, circuit.WIDTH))
    moved = []
    for fold in (0, 1):
        edits = edits_of(grid, BEHIND, fold, subspaces(grid, BEHIND, fold))
        moved.append(np.stack([edit.change(change) for edit in edits if edit.edit == "random_norm"]))
    directions = [one / np.linalg.norm(one, axis=-1, keepdims=True) for one in moved]
    assert np.abs((directions[0] * directions[1]).sum(-1)) == pytest.approx(1.0)


def test_what_is_peculiar_to_a_pair_counts_once_in_limits_beyond_draws():
    """In products of the weights of two hypernyms it would count three times."""
    hypernyms, pairs, variances = 6, 200, []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        edits = {("", "random", draw): np.zeros(pairs) for draw in range(1, 20)}
        edits["made", "swap", 0] = rng.normal(size=pairs)
        at = At.of(outcomes(edits, rng, pairs), 50, seed)
        number = at.beyond("effect", ("made", "words", 1), "random")
        wider = t.ppf(0.975, hypernyms - 2) * np.sqrt(hypernyms / (hypernyms - 2))
        variances.append(((number.upper - number.lower) / 2 / wider) ** 2)
    assert 0.6 < np.mean(variances) * pairs < 1.5


def test_base_and_source_of_a_tested_pair_are_held_out_and_differ_in_both_hypernyms():
    grid = planted_grid()
    for pair in grid.pairs[0]:
        for leaf, own, other in ((pair.source, pair.up, pair.down), (pair.base, pair.down, pair.up)):
            row = grid.leaves.index(leaf)
            assert grid.fold[row] == 0
            assert grid.labels[row, grid.names.index(own)]
            assert not grid.labels[row, grid.names.index(other)]


def test_a_planted_illusion_is_flagged_and_the_true_direction_is_not():
    rng = np.random.default_rng(1)
    read, axes = read_by_gradients(rng), np.eye(6)
    # 0 is read and varies with the concept, 1 is read and dormant, 2 varies with the concept and is not read.
    difference = 0.05 * rng.standard_normal((60, 6)) * (np.arange(6) != 1)
    difference[:, [0, 2]] += rng.normal(4, 0.5, (60, 1))
    flagged = {}
    for name, direction in (("true", axes[0]), ("illusory", axes[1] + axes[2])):
        effects = linear_effects(direction, difference, read)
        controls = {("", "random", 1): np.zeros(60), ("made", "random_norm", 1): np.zeros(60)}
        controls[("made", "arbitrary", 1)] = np.zeros(60)
        table = interchange_table(outcomes(effects | controls, rng), {}, Options(draws=200))
        flagged[name] = number(table, "flagged", "swap", "made", "words", 1)
        assert number(table, "effect", "swap", "made", "words", 1) > 1
    assert flagged == {"true": 0, "illusory": 1}


def test_an_effect_like_those_of_its_controls_has_a_p_at_its_nominal_rate():
    rng, low, worlds = np.random.default_rng(2), 0, 150
    edits = {("made", "swap", 0): 0.0} | {("", "random", draw): 0.0 for draw in range(1, 20)}
    wide = At.of(outcomes(edits, rng, pairs=12), 10, 0).wide[["effect"]].drop(columns="none", level="edit")
    for _ in range(worlds):
        drawn = rng.standard_normal(20) + rng.standard_normal((12, 20))
        at = At(pd.DataFrame(drawn, wide.index, wide.columns), 10, 0)
        low += rank_p(at.sets("effect", ("made", "words", 1), "random")[None, :, None])[0] <= 0.05
    least, most = binom.interval(0.999, worlds, 0.05)
    assert 0 < least <= low <= most


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"spans": ("noun",)}, KeyError, "span 'noun' was asked for; known: slot, cue, last"),
        ({"methods": ("pca",)}, KeyError, "method 'pca' was asked for; known: means, probe, leace, das"),
        ({"trained": ("sounds",)}, KeyError, "--trained-on 'sounds' was asked for; known: pictures, words"),
        ({"pairs": 0}, ValueError, "--pairs 0 was asked for; give 1 or more"),
        ({"ranks": (4, 0)}, ValueError, "--rank 0 was asked for"),
        ({"trained_controls": 0}, ValueError, "--trained-controls 0 was asked for"),
        ({"folds": 1}, ValueError, "1 of 1 folds were asked for; give --folds 2 or more"),
        ({"tested": 4}, ValueError, "4 of 3 folds were asked for"),
        ({"rate": 0.0}, ValueError, "give a rate in"),
        ({"shrinkage": 1.0}, ValueError, "a share in"),
    ],
)
def test_options_that_cannot_be_are_refused(options, kind, said):
    with pytest.raises(kind, match=said.replace("(", r"\(")):
        check((), Options(**options))


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match=r"500 of fold 0, whose 8 leaves make .* --pairs"):
        planted_grid(pairs=500)


RANKS = [
    ({"ranks": (4,)}, "--rank 4 was asked for; subspaces by means, das made from .* have rank 3 at most"),
    (
        {"ranks": (1, 9), "methods": ("leace",)},
        "--rank 9 was asked for; subspaces by leace .* rank 3 at most",
    ),
    ({"ranks": (100_000,), "methods": ("das",)}, "--rank 100000 was asked for; .* rank 7 at most: give"),
]


@pytest.mark.parametrize(("options", "said"), RANKS)
def test_a_rank_that_subspaces_cannot_have_is_refused_before_a_model_is_loaded(options, said, monkeypatch):
    monkeypatch.setattr(subject, "check", lambda run: 0)
    of_check = import_module("analyses.interchange.check")  # the package has the function under this name
    monkeypatch.setattr(of_check, "pictures_of", lambda run, seed: dict.fromkeys(TAXONOMY.leaves))
    run = SimpleNamespace(path="run", taxonomy=TAXONOMY)
    check((run,), Options(folds=2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=said):
        check((run,), Options(folds=2, **options))  # pyright: ignore[reportArgumentType]


def test_ranks_are_bounded_by_hypernyms_leaves_and_width_and_defaults_go_as_far():
    three, fold = np.repeat(np.eye(3, dtype=bool), 4, axis=0), np.arange(12) % 3
    assert largest_rank(three, fold, Options(), 64) == 2
    assert largest_rank(three, fold, Options(methods=("das",)), 64) == 7
    assert largest_rank(three, fold, Options(methods=("das",)), 5) == 5
    assert with_ranks(Options(), 2).ranks == (1, 2)
    assert with_ranks(Options(), 1).ranks == (1,)
    assert with_ranks(Options(), 9).ranks == (1, 4)
    with pytest.raises(ValueError, match="differ in no hypernym that can be read"):
        with_ranks(Options(), 0)
    with pytest.raises(ValueError, match="--rank 9 was asked for"):
        planted_grid(ranks=(9,), methods=("means",))
    small = planted_grid(ranks=(), pairs=None)
    assert small.options.ranks == (1, 3)
    assert 0 < len(small.pairs[0]) < PAIRS


@pytest.fixture
def twin(monkeypatch):
    """Makes the grid of a placebo run from the leaves that have a picture and the layers of its model."""

    def made(like=None, leaves=TAXONOMY.leaves, layers=circuit.LAYERS, taxonomy=TAXONOMY):
        one = PlantedSubject.new()
        one.run.path, one.run.taxonomy = "twin" if like else "own", taxonomy  # pyright: ignore
        del one.bench.vlm.model.model.layers[layers:]
        monkeypatch.setattr("analyses.interchange.grid.pictures_of", lambda run, seed: dict.fromkeys(leaves))
        return ExchangeGrid.of(one, Options(folds=2, pairs=8), like)

    return made


def test_a_placebo_run_is_tested_at_the_places_and_between_the_pairs_of_the_run(twin):
    own = twin()
    marked = replace(own, places=own.places[:1], options=replace(own.options, ranks=(2,)))
    same = twin(marked)
    assert (same.places, same.options.ranks, same.pairs) == (marked.places, (2,), own.pairs)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"layers": 3}, "number of layers"),
        ({"leaves": TAXONOMY.leaves[1:]}, "leaves with a test picture, folds"),
        ({"taxonomy": Taxonomy((*TAXONOMY.edges, ("crow", "tool")))}, "taxonomy"),
    ],
)
def test_a_placebo_run_of_another_world_or_depth_is_refused(other, said, twin):
    with pytest.raises(
        MismatchError, match=f"^twin was given as --placebo-run, and differs from own in {said}"
    ):
        twin(twin(), **other)


@pytest.mark.parametrize("init", [one for one in INITS if one != "random"])
def test_a_placebo_run_whose_model_is_not_all_random_is_refused(init, monkeypatch):
    monkeypatch.setattr(subject, "check", lambda run: 0)
    run = SimpleNamespace(path="twin", config=SimpleNamespace(model=SimpleNamespace(init=init)))
    with pytest.raises(MismatchError, match=f"of model.init={init}; give a run of model.init=random"):
        placebo_runs.check(run, run)  # pyright: ignore[reportArgumentType]
