"""Pooling: planted effects are recovered with an interval that knows of seeds, one run makes no finding, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses import patching, pooling
from analyses.frame import provenance, tables
from analyses.inputs import effects as stored
from analyses.inputs.effects import Effects, read_effects, write_effects
from analyses.pooling.crossed import crossed_mean
from analyses.pooling.figures import draw
from analyses.pooling.groups import Group, contrasts_of, groups_of
from analyses.pooling.heterogeneity import heterogeneity
from analyses.pooling.rows import pooled_table, summary
from probing.store import MismatchError, records
from taxogen.runs.config import Config
from taxogen.runs.run import Run

LAYERS, PAIRS = (0, 1, 4), 60
KINDS = [f"kind {at}" for at in range(12)]
CELLS = pd.DataFrame(
    [
        {"target": "hypernym", "measure": measure, "state": state, "site": f"blocks.{layer}.hook_resid_post"}
        | {"span": "cue", "layers": str(layer), "head": "", "modality": ""}
        for measure, state in (("effect", "clean"), ("excess", "stranger"))
        for layer in LAYERS
    ]
)


def units(order: int = 0) -> pd.DataFrame:
    """Pairs of leaves between twelve hypernyms, in an order."""
    rng = np.random.default_rng(0)
    sides = [rng.choice(KINDS, 2, replace=False) for _ in range(PAIRS)]
    pairs = [
        {"clean": f"a{i}", "corrupted": f"b{i}", "up": up, "down": down} for i, (up, down) in enumerate(sides)
    ]
    return pd.DataFrame(pairs).sample(frac=1, random_state=order).reset_index(drop=True)


def group(name: str, seeds: tuple[int, ...], means: np.ndarray, noise: float = 0.3, **about: str) -> Group:
    """Runs whose cells have these means [runs, cells], with noise of each pair."""
    rng = np.random.default_rng(len(name))
    values = means[..., None] + noise * rng.normal(size=(*means.shape, PAIRS))
    known = {"init": "", "shuffle": "", "encoder": "", "lm": "", "evidence": "", "other": ""}
    runs = tuple(f"{name}-{seed}" for seed in seeds)
    return Group(name, known | about, seeds, runs, CELLS, units(), values)


def pooled(*groups: Group, contrasts: tuple[Group, ...] = ()) -> pd.DataFrame:
    return pooled_table(groups, contrasts, "patching", 200, 0)


def means_of(table: pd.DataFrame, condition: str, kind: str = "condition") -> pd.DataFrame:
    chosen = (table["condition"] == condition) & (table["kind"] == kind) & (table["statistic"] == "mean")
    return table[chosen].reset_index(drop=True)


def test_a_planted_effect_is_recovered_and_seeds_that_differ_widen_its_limits():
    alike = np.tile([2.0, 0.0, -1.0] * 2, (3, 1))
    apart = alike + np.array([[-0.5], [0.0], [0.5]])
    widths = {}
    for name, means in (("alike", alike), ("apart", apart)):
        rows = means_of(pooled(group(name, (0, 1, 2), means)), name)
        assert rows["value"].to_numpy() == pytest.approx(alike[0], abs=0.1)
        assert ((rows["lower"] < alike[0]) & (alike[0] < rows["upper"])).all()
        assert (rows["seeds"] == 3).all()
        widths[name] = (rows["upper"] - rows["lower"]).to_numpy()
        assert rows["stands"].tolist() == ([True, False, name == "alike"] * 2)
    # 4.3 standard errors of .5 / √3 to both sides
    assert (widths["apart"] > 0.9 * 2 * 4.3 * 0.5 / np.sqrt(3)).all()
    assert (widths["alike"] < 0.6).all()


def test_a_cell_of_one_run_alone_does_not_pass_the_band():
    means = np.zeros((3, 6))
    means[1, 0] = 6.0
    rows = means_of(pooled(group("lone", (0, 1, 2), means)), "lone")
    assert rows["value"][0] == pytest.approx(2.0, abs=0.1)
    assert not rows["passes"].any()
    of_run = means_of(pooled(group("lone", (0, 1, 2), means)), "lone", "run")
    assert (of_run[of_run["run"] == "lone-1"]["lower"] > 5)[:1].all()  # though it has it beyond doubt


def test_a_place_stands_where_the_effect_and_its_excess_do():
    means = np.tile([2.0, 2.0, -2.0, 1.0, 0.0, 1.0], (3, 1))
    rows = means_of(pooled(group("both", (0, 1, 2), means)), "both")
    assert rows["passes"].tolist() == [True, True, True, True, False, True]
    assert rows["stands"].tolist() == [True, False, False] * 2


def test_cells_that_miss_units_are_pooled_over_the_others():
    one = group("gaps", (0, 1), np.tile([1.0] * 6, (2, 1)))
    one.values[0, 2, :20] = np.nan
    rows = means_of(pooled(one), "gaps")
    assert rows["n"].tolist() == [60, 60, 40, 60, 60, 60]
    assert rows["value"][2] == pytest.approx(one.values[:, 2, 20:].mean())
    assert rows[["lower", "upper"]].notna().all(axis=None)


def test_contrasts_are_matched_by_seed_and_unit_in_any_order():
    base = np.linspace(0, 1, 3)[:, None] * np.ones((1, 6))
    first = group("pretrained", (0, 1, 2), base + 2, noise=0.0, init="pretrained")
    second = group("random_init", (0, 1, 2), base, noise=0.0, init="random_init")
    hard = np.random.default_rng(1).normal(size=PAIRS)
    first.values[:] += hard
    second.values[:] += hard
    order = np.random.default_rng(2).permutation(PAIRS)
    turned = replace(
        second,
        seeds=(2, 0, 1),
        runs=("c", "a", "b"),
        units=second.units.iloc[order].reset_index(drop=True),
        values=second.values[[2, 0, 1]][:, :, order],
    )
    for other in (second, turned):
        (difference,) = contrasts_of([other, first], ())
        assert difference.name == "pretrained − random_init"
        assert difference.values == pytest.approx(np.full((3, 6, PAIRS), 2.0))
    (asked,) = contrasts_of([second, first], ["random_init,pretrained"])
    assert asked.values == pytest.approx(np.full((3, 6, PAIRS), -2.0))
    with pytest.raises(KeyError, match="give two of the conditions A,B: random_init; pretrained"):
        contrasts_of([second, first], ["random,pretrained"])
    with pytest.raises(MismatchError, match="give runs of both with one seed"):
        first.of_seeds([0]).minus(second.of_seeds([1]))


def test_pictures_are_contrasted_with_words_where_runs_were_asked_both():
    one = group("asked", (0, 1), np.tile([3.0, 2.0, 1.0, 1.0, 1.0, 1.0], (2, 1)), noise=0.0)
    cells = CELLS.assign(modality=["image"] * 3 + ["text"] * 3, measure="log_prob", state="")
    both = replace(one, cells=cells).pictures_against_words
    assert both is not None
    assert both.values == pytest.approx(np.repeat([2.0, 1.0, 0.0], PAIRS).reshape(1, 3, -1).repeat(2, 0))
    assert one.pictures_against_words is None


def test_the_summary_tells_the_largest_cell_and_how_its_own_runs_differ():
    cells = pd.concat([CELLS.iloc[:1].assign(method=method, rank=rank) for method in "ab" for rank in (1, 4)])
    means = np.array([[3.0, 1.0, 1.0, 5.0]] * 3) + np.array([[0, 0, 0, -2.0], [0, 0, 0, 0], [0, 0, 0, 2.0]])
    table = pooled(replace(group("one", (0, 1, 2), means), cells=cells.reset_index(drop=True)))
    text = summary(table)
    assert "method b, rank 4: +" in text
    assert "in the band of all cells" in text
    assert "between seeds: sd 2.0" in text


def test_runs_that_are_the_same_are_told_so_without_numbers_that_are_none():
    table = pooled(group("one", (0, 1, 2), np.array([[3.0, 1.0, 1.0] * 2] * 3), noise=0.0))
    text = summary(table)
    assert "between seeds: no difference" in text
    assert "nan" not in text


def test_an_undefined_cell_leaves_the_others_their_band():
    means = np.array([[2.0, np.nan, 1.0] * 2] * 3)
    rows = means_of(pooled(group("one", (0, 1, 2), means)), "one")
    assert rows["band_lower"].isna().tolist() == [False, True, False] * 2
    assert rows["stands"].tolist() == [True, False, True] * 2


def test_runs_that_differ_by_no_more_than_their_pairs_are_not_heterogeneous():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1, 1, PAIRS))
    alike = heterogeneity(shared + 0.5 * rng.normal(size=(3, 400, PAIRS)), np.arange(PAIRS))
    assert alike.q.mean() == pytest.approx(2.0, abs=0.3)
    assert (alike.p < 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert ((alike.tau[1] == 0).mean()) > 0.9
    few = heterogeneity(
        rng.normal(size=(3, 2_000, 5)), np.arange(5)
    )  # the error is itself an estimate from five
    assert (few.p < 0.05).mean() == pytest.approx(0.05, abs=0.015)  # three standard errors; by χ² it was .16
    assert (few.tau[1] > 0).mean() == pytest.approx(0.025, abs=0.011)
    seeds = np.array([-1.0, 0.0, 1.0])[:, None, None]
    apart = heterogeneity(seeds + shared + 0.5 * rng.normal(size=(3, 5, PAIRS)), np.arange(PAIRS))
    assert apart.tau[0] == pytest.approx(1.0, abs=0.15)
    assert (apart.i2[0] > 0.95).all()
    assert (apart.tau[2] > 5).all()  # three seeds leave it open


def test_limits_over_two_sides_that_share_no_cluster_are_drawn_apart():
    leaves, kinds = np.divmod(np.arange(48), 6)
    ends = np.column_stack(
        [np.char.add("leaf ", leaves.astype(str)), np.char.add("kind ", kinds.astype(str))]
    )
    rng = np.random.default_rng(0)
    values = 1 + rng.normal(size=6)[kinds] + 0.1 * rng.normal(size=(2, 1, 48))
    mean = crossed_mean(values, ends, np.array(["nats"]), 300)
    alone = crossed_mean(values, leaves.astype(str), np.array(["nats"]), 300)
    assert mean.upper - mean.lower > 5 * (alone.upper - alone.lower)  # hypernyms differ, leaves do not


def test_figures_leave_a_gap_for_layers_that_were_not_asked():
    first = group("pretrained", (0, 1, 2), np.tile([2.0, 2.0, 0.0] * 2, (3, 1)), init="pretrained")
    second = group("random_init", (0, 1), np.zeros((2, 6)), init="random_init")
    table = pooled(first, second, contrasts=tuple(contrasts_of([first, second], ())))
    figures = draw(table)
    assert set(figures) == {"forest_hypernym_effect", "map_hypernym_effect"}
    panel = figures["map_hypernym_effect"].axes[0]
    shown = np.isnan(np.ma.filled(np.ma.asarray(panel.images[0].get_array()), np.nan))[0]
    assert shown.tolist() == [False, False, True, True, False]
    assert panel.lines[0].get_xdata() == pytest.approx([0, 1])
    forest = figures["forest_hypernym_effect"].axes[0]
    names = [label.get_text() for label in forest.get_yticklabels()]
    assert names[:4] == ["pretrained-0", "pretrained-1", "pretrained-2", "pretrained"]
    assert names[-1] == "pretrained − random init"
    text = summary(table)
    assert "few seeds: the upper limit says little" in text
    assert "pretrained, hypernym effect: most at site blocks." in text


@pytest.fixture
def untrained(monkeypatch):
    """Runs that were never trained have makers."""
    monkeypatch.setattr(Run, "makers", lambda run, step=None: {"run": run.config.hash})


def run_with_effects(path: Path, seed: int, values: np.ndarray | None = None, **asked) -> Run:
    """A run that is a config, a table of patching and its effects."""
    run, options = Run(path, replace(Config(), seed=seed)), patching.Options(**asked)
    made_from = provenance.made_from(patching.ANALYSIS, [run], options)
    where = stored_path(run, options.table)
    tables.save(pd.DataFrame({"value": [1.0]}), where.parent, options.table, made_from)
    values = np.ones((len(CELLS), PAIRS)) if values is None else values
    write_effects(where, Effects(CELLS, units(seed), values), made_from)
    return run


def stored_path(run: Run, table: str = "text-to-image-denoising") -> Path:
    return run.folder("analyses", "patching") / f"{table}-effects.h5"


def test_effects_are_stored_and_read_again_and_units_are_matched(tmp_path, untrained):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(len(CELLS), PAIRS)).astype(np.float32)
    values[0, 0] = np.nan
    run = run_with_effects(tmp_path / "a", 0, values)
    again = read_effects(stored_path(run), run)
    pd.testing.assert_frame_equal(again.cells[list(CELLS)], CELLS)
    pd.testing.assert_frame_equal(again.units, units(0))
    np.testing.assert_array_equal(again.values, values)
    other = run_with_effects(tmp_path / "b", 1)
    (both,) = groups_of([other, run], "patching", "")
    assert both.seeds == (0, 1)
    assert both.runs == ("a", "b")
    np.testing.assert_array_equal(both.values[0], values)


def test_effects_of_a_second_table_are_taken_off_run_by_run(tmp_path, untrained):
    pictures, words = "picture-to-picture-denoising", "text-to-text-denoising"
    runs = []
    for seed in (0, 1):
        path, level = tmp_path / str(seed), np.arange(len(CELLS))[:, None] * np.ones(PAIRS)
        run_with_effects(path, seed, level + 5 + seed, direction="picture-to-picture")
        runs.append(run_with_effects(path, seed, level + 3, direction="text-to-text"))
    (group,) = groups_of(runs, "patching", pictures, words)
    np.testing.assert_array_equal(
        group.values, np.array([2.0, 3.0])[:, None, None] + np.zeros((2, len(CELLS), PAIRS))
    )
    assert group.pictures_against_words is None
    options = pooling.Options(table=pictures, minus=words)
    assert pooling.ANALYSIS.table_name_of(options) == f"patching-{pictures}-minus-{words}"
    assert [path.split("/")[-1] for path in pooling._reads(options)] == [
        f"{name}-effects.h5" for name in (pictures, words)
    ]
    table = pooling.compute(runs, options).table
    means = table[(table["kind"] == "condition") & (table["statistic"] == "mean")]
    assert means["value"].to_numpy() == pytest.approx(np.full(len(CELLS), 2.5))
    with pytest.raises(ValueError, match="which is the table itself"):
        pooling.check([], pooling.Options(table=words, minus=words))
    with pytest.raises(FileNotFoundError, match="has no image-to-text-denoising-effects"):
        groups_of(runs, "patching", pictures, "image-to-text-denoising")


def test_missing_stale_and_damaged_effects_are_refused_with_the_command_that_makes_them(tmp_path, untrained):
    run = run_with_effects(tmp_path / "a", 0)
    path = stored_path(run)
    remedy = f"`python -m analyses.patching --run {run.path}` makes it again"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(records.DamagedError, match="is damaged") as damaged:
        read_effects(path, run)
    assert remedy in str(damaged.value)
    path.write_bytes(content)
    made_from = records.made_from(path)
    assert made_from is not None
    write_effects(path, stored._read(path), made_from | {"options": made_from["options"] | {"pairs": 7}})
    with pytest.raises(MismatchError, match="was not made with the table beside it"):
        read_effects(path, run)
    changed = replace(run, config=replace(run.config, seed=5))
    with pytest.raises(
        MismatchError, match=r"text-to-image-denoising.parquet is stale: it was made from another"
    ):
        read_effects(path, changed)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="a has no text-to-image-denoising-effects") as missing:
        pooling.groups_of([run], "patching", "")
    assert remedy in str(missing.value)


def test_effects_that_are_ambiguous_are_refused():
    pairs, cells = units(), CELLS.head(2)
    with pytest.raises(ValueError, match=r"2 cells in 60 units were given as \(2, 59\)"):
        Effects(cells, pairs, np.zeros((2, 59)))
    with pytest.raises(ValueError, match="1 of 2 cells are there twice"):
        Effects(cells.iloc[[0, 0]], pairs, np.zeros((2, PAIRS)))
    with pytest.raises(ValueError, match="give leaf and hypernym, or clean, corrupted, up, down"):
        Effects(cells, pairs[["up", "down"]], np.zeros((2, PAIRS)))
