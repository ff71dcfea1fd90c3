"""The numbers of a patching table, where the best placebo is not null: excesses, bands, counts, fractions, n."""

import numpy as np
import pandas as pd
import pytest

from analyses.patching.options import Options
from analyses.patching.outcomes import CHANGES, joined
from analyses.patching.rows import patching_table, screen_rows
from probing.stats import DyadMean, draw_weights, ratio_limits, studentised_band, studentised_interval
from tests.analyses.patching.planted_outcomes import HYPERNYMS, PAIRS, planted, whole

OPTIONS = Options(draws=300, seed=5)
TWIN = Options(draws=300, seed=5, kinds=())
CELLS = whole(range(9), spans=("slot",))
CLEAN = np.array([3.0, 3.0, 3.0, 3.0, 3.0, 0.0, 3.0, 2.0, -0.5])
PLACEBOS = {
    "sibling": np.array([0.0, 0.0, 0.0, 3.0, 0.0, -3.0, 2.0, 1.0, -3.0]),
    "stranger": np.array([0.0, 3.0, 0.0, 0.0, 0.0, -3.0, 2.0, 2.5, -3.0]),
    "random": np.array([0.0, 0.0, 3.0, 0.0, 0.0, -3.0, 2.0, 1.6, -3.0]),
    "random_init": np.array([0.0, 0.0, 0.0, 0.0, 3.0, -3.0, 2.0, 0.0, -3.0]),
}
BEATS = {"own": [0, 1, 2, 3, 4, 6, 7]} | {
    "sibling": [0, 1, 2, 4, 5, 6, 7, 8],
    "stranger": [0, 2, 3, 4, 5, 6, 8],
    "random": [0, 1, 3, 4, 5, 6, 7, 8],
    "random_init": [0, 1, 2, 3, 5, 6, 7, 8],
}
"""Placebo → cells whose effect is above it; cell 5 leaves things as they are where every placebo does harm."""


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


@pytest.fixture(scope="module")
def results():
    return {
        question: planted(CELLS, seed, clean=CLEAN, options=OPTIONS, **PLACEBOS)
        for seed, question in enumerate(("hypernym", "leaf"))
    }


@pytest.fixture(scope="module")
def twins():
    return {
        question: planted(CELLS, 10 + seed, clean=PLACEBOS["random_init"], options=TWIN, donor=1.0)
        for seed, question in enumerate(("hypernym", "leaf"))
    }


@pytest.fixture(scope="module")
def table(results, twins):
    return patching_table(results, PAIRS, CELLS, OPTIONS, twins)


def effect_of(results, twins, question, kind):
    if kind == "random_init":
        return twins[question]["log_odds"][0] - twins[question]["base"]
    return results[question]["log_odds"][OPTIONS.kinds.index(kind)] - results[question]["base"]


ENDS = np.array([(pair.up, pair.down) for pair in PAIRS])


def limits_of(values, over=None, band=False):
    """Lower and upper limits (or the band) of means over pairs, by hand from draws of hypernyms."""
    if over is not None:
        return ratio_limits(values.T, over, ENDS, OPTIONS.draws, OPTIONS.seed)[1:]
    mean, weights = (
        DyadMean(np.atleast_2d(values).T, ENDS),
        draw_weights(HYPERNYMS, OPTIONS.draws, OPTIONS.seed),
    )
    drawn = mean.value, mean.error, mean.at(weights), mean.errors(weights), HYPERNYMS
    return studentised_band(*drawn) if band else studentised_interval(*drawn)


@pytest.mark.parametrize("question", ["hypernym", "leaf"])
@pytest.mark.parametrize("kind", ["own", *PLACEBOS])
def test_an_excess_is_the_effect_less_that_of_its_own_placebo(table, results, twins, question, kind):
    difference = effect_of(results, twins, question, "clean")
    if kind != "own":
        difference = difference - effect_of(results, twins, question, kind)
    rows = pick(table, target=question, state=kind, measure="excess")
    np.testing.assert_allclose(rows["value"], difference.mean(1))
    np.testing.assert_allclose(rows["value"], CLEAN - (0 if kind == "own" else PLACEBOS[kind]), atol=0.06)
    np.testing.assert_allclose(rows[["lower", "upper"]].T, limits_of(difference))
    band = pick(table, target=question, state=kind, measure="excess_band")
    np.testing.assert_allclose(band["value"], limits_of(difference, band=True))
    assert np.flatnonzero(band["value"] > 0).tolist() == BEATS[kind]
    assert set(rows["n"]) == set(band["n"]) == {len(PAIRS)}
    assert set(rows["hypernyms"]) == set(band["hypernyms"]) == {HYPERNYMS}


def test_a_cell_counts_where_it_beats_every_placebo_that_bears_on_the_question(table):
    """Beating only one of two, or placebos that do harm, is not enough; a sibling bears on the leaf alone."""
    assert pick(table, measure="counts", target="hypernym", value=1.0)["layer"].tolist() == [0, 3, 6]
    assert pick(table, measure="counts", target="leaf", value=1.0)["layer"].tolist() == [0, 6]
    counts = pick(table, measure="counts")
    assert set(counts["value"]) == {0.0, 1.0}
    assert set(counts["n"]) == {len(PAIRS)}
    assert set(counts["hypernyms"]) == {HYPERNYMS}
    assert set(counts["state"]) == {"clean"}
    assert counts.groupby("target")["note"].unique().map(list).to_dict() == {
        "hypernym": ["beats own, stranger, random, random_init"],
        "leaf": ["beats own, sibling, stranger, random, random_init"],
    }


def test_placebos_that_were_not_run_are_not_named_and_not_needed(results):
    only = Options(draws=50, kinds=("random",))
    chosen = {
        name: value[[0, 3]] if name in ("log_odds", "kl", *CHANGES) else value
        for name, value in results["leaf"].items()
    }
    table = patching_table({"leaf": chosen}, PAIRS, CELLS, only)
    assert pick(table, measure="counts", value=1.0)["layer"].tolist() == [0, 1, 3, 4, 6, 7]
    assert set(pick(table, measure="counts")["note"]) == {"beats own, random"}
    alone = patching_table(
        {"leaf": {name: value[:1] if value.ndim == 3 else value for name, value in chosen.items()}},
        PAIRS, CELLS, Options(draws=50, kinds=()),
    )  # fmt: skip
    assert pick(alone, measure="counts", value=1.0)["layer"].tolist() == BEATS["own"]
    assert set(pick(alone, measure="counts")["note"]) == {"beats own"}


@pytest.mark.parametrize("question", ["hypernym", "leaf"])
@pytest.mark.parametrize("mode, measure", [("denoising", "restored_fraction"), ("noising", "lost_fraction")])
def test_effects_and_fractions_of_the_difference_of_their_own_two_runs(
    results, twins, question, mode, measure
):
    options = Options(mode=mode, draws=OPTIONS.draws, seed=OPTIONS.seed)
    table = patching_table(results, PAIRS, CELLS, options, twins)
    for kind in (*OPTIONS.kinds, "random_init"):
        runs = twins[question] if kind == "random_init" else results[question]
        effect, gap = effect_of(results, twins, question, kind), runs["donor"] - runs["base"]
        rows = pick(table, target=question, state=kind, split="all")
        for name, value, limits in (
            ("effect", effect.mean(1), limits_of(effect)),
            (measure, effect.mean(1) / gap.mean(), limits_of(effect, over=gap)),
        ):
            own = pick(rows, measure=name)
            np.testing.assert_allclose(own["value"], value, err_msg=kind)
            np.testing.assert_allclose(own[["lower", "upper"]].T, limits)
            assert set(own["n"]) == {len(PAIRS)}
            assert set(own["hypernyms"]) == {HYPERNYMS}
            assert set(own["note"]) == {""}
    other = {"restored_fraction", "lost_fraction"} - {measure}
    assert pick(table, measure=other.pop()).empty
    assert set(table["mode"]) == {mode}


def test_the_two_runs_and_what_a_patch_does_to_single_answers(table, results):
    for question, outcomes in results.items():
        rows = pick(table, target=question, split="all").set_index("measure")
        for measure, values in (
            ("log_odds_of_source", outcomes["donor"]),
            ("log_odds_of_patched_run", outcomes["base"]),
            ("gap", outcomes["donor"] - outcomes["base"]),
        ):
            row = rows.loc[measure]
            (lower,), (upper,) = limits_of(values)
            np.testing.assert_allclose(
                [row["value"], row["lower"], row["upper"]], [values.mean(), lower, upper]
            )
            assert (row["site"], row["n"], row["hypernyms"]) == ("all", len(PAIRS), HYPERNYMS)
        for measure in ("kl", *CHANGES):
            for k, kind in enumerate(OPTIONS.kinds):
                own = rows.loc[[measure]]
                own = own[own["state"] == kind]
                np.testing.assert_allclose(own["value"], np.nanmean(outcomes[measure][k], 1))
                np.testing.assert_allclose(own[["lower", "upper"]].T, limits_of(outcomes[measure][k]))
                assert set(own["n"]) == {60 if measure == "shared" else len(PAIRS)}
        for measure, values in zip(("own_by_hooks", "own_restarted"), outcomes["own"]):
            np.testing.assert_allclose(rows.loc[measure]["value"], values)
            assert set(rows.loc[measure]["n"]) == {2}


def test_near_and_far_pairs_are_apart_with_their_own_n(table, results):
    near = np.array([pair.near for pair in PAIRS])
    for split, members in (("near", near), ("far", ~near)):
        rows = pick(table, target="leaf", split=split)
        effect = effect_of(results, {}, "leaf", "clean")[:, members]
        np.testing.assert_allclose(rows["value"], effect.mean(1))
        assert set(rows["n"]) == {members.sum()}
        assert set(rows["state"]) == {"clean"}
        assert set(rows["measure"]) == {"effect"}


def test_pairs_without_a_number_are_left_out_and_not_counted(results):
    outcomes = {**results["hypernym"]}
    outcomes["shared"] = outcomes["shared"].copy()
    outcomes["shared"][..., :40] = np.nan
    shared = pick(patching_table({"hypernym": outcomes}, PAIRS, CELLS, OPTIONS), measure="shared")
    assert set(shared["n"]) == {30}  # every fourth has none
    np.testing.assert_allclose(pick(shared, state="clean")["value"], np.nanmean(outcomes["shared"][0], 1))
    outcomes["shared"][:] = np.nan
    assert pick(patching_table({"hypernym": outcomes}, PAIRS, CELLS, OPTIONS), measure="shared").empty


def test_where_the_two_runs_do_not_differ_there_is_no_fraction(results, twins):
    level = {**results["leaf"], "donor": results["leaf"]["base"][::-1].copy()}
    table = patching_table({"leaf": level}, PAIRS, CELLS, OPTIONS, twins)
    rows = pick(table, measure="restored_fraction")
    without, known = rows[rows["state"] != "random_init"], rows[rows["state"] == "random_init"]
    assert without[["value", "lower", "upper"]].isna().all(axis=None)
    gap = pick(table, measure="gap").iloc[0]
    note = f"{gap['value']:.3g} [{gap['lower']:.3g}, {gap['upper']:.3g}] nats"
    assert set(without["note"]) == {f"clean and corrupted do not differ: {note}"}
    assert known["value"].notna().all()
    assert pick(table, measure="effect", split="all")["value"].notna().all()


def test_screened_cells_have_their_mean_attribution_and_how_it_ranks():
    rng = np.random.default_rng(3)
    attribution, sample = rng.normal(0, 1, (len(CELLS), len(PAIRS))), [1, 4, 7]
    effect = -2 * attribution[sample]
    table = screen_rows(attribution, effect, sample, PAIRS, CELLS, OPTIONS)
    rows = pick(table, measure="attribution")
    np.testing.assert_allclose(rows["value"], attribution.mean(1))
    np.testing.assert_allclose(rows[["lower", "upper"]].T, limits_of(attribution))
    assert set(rows["n"]) == {len(PAIRS)}
    ranks = pick(table, measure="rank_agreement").iloc[0]
    assert (ranks["value"], ranks["n"], ranks["target"]) == (-1.0, 3, "hypernym")
    assert ranks["note"] == "Spearman over 3 cells drawn at random; no steps of integration"


def test_rows_name_their_cell(table):
    windows = whole([2, 3], spans=("cue",), point="hook_attn_out", window=2)
    outcomes = planted(windows, options=OPTIONS)
    rows = pick(patching_table({"leaf": outcomes}, PAIRS, windows, OPTIONS), measure="counts")
    assert rows["layers"].tolist() == ["1-2", "2-3"]
    assert rows["site"].tolist() == ["blocks.2.hook_attn_out", "blocks.3.hook_attn_out"]
    assert rows["layer"].tolist() == [2, 3]
    assert set(rows["span"]) == {"cue"}
    assert set(table["direction"]) == {"text-to-image"}
    assert set(table["seed"]) == {OPTIONS.seed}


def test_chunks_are_put_together_in_order():
    chunks = [
        {"log_odds": np.full((2, 3, 4), 1.0), "base": np.arange(4.0), "own": np.eye(2)},
        {"log_odds": np.full((2, 3, 1), 2.0), "base": np.array([9.0])},
    ]
    whole_grid = joined(chunks)
    assert whole_grid["log_odds"].shape == (2, 3, 5)
    assert whole_grid["log_odds"][0, 0].tolist() == [1, 1, 1, 1, 2]
    assert whole_grid["base"].tolist() == [0, 1, 2, 3, 9]
    np.testing.assert_array_equal(whole_grid["own"], np.eye(2))


def test_intervals_hold_their_value(table):
    numbers = table[["lower", "value", "upper"]].dropna()
    assert len(numbers) > 200
    assert (numbers.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert isinstance(table, pd.DataFrame)
