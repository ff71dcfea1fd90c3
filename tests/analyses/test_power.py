"""What a design detects: components of planted variances, power that simulated studies have, and refusals."""

import re
from dataclasses import astuple, replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from analyses import power
from analyses.inputs.categories import MEAN
from analyses.inputs.measures import MEASURES
from analyses.inputs.probe_curves import FILE, write_draws
from analyses.inputs.probe_curves import Condition as Curve
from analyses.power.components import components
from analyses.power.designs import Design, Simulator, detectable_table, grid, required_table
from analyses.power.pilots import Pilot, pilots
from probing.probes.evaluate import Series
from probing.stats import Estimate
from probing.stats.hierarchical import leaf_weights
from probing.store import MismatchError
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from tests.calibration.power import WORLDS, found, pilot, printed, sides

PLANTED = {"leaf": 0.5, "leaf_seed": 0.4, "hypernym": 0.1, "hypernym_seed": 0.08, "seed": 0.05}
OF = pilot(100, 12, 4, **PLANTED)
DESIGN = Design(100, 12, 4)
STUDIES = 50


def estimated(seed, factor=1.0):
    first, _ = sides(OF, DESIGN, 0.0, seed)
    drawn = np.stack([one.at(leaf_weights(DESIGN.leaves, 60, seed)) for one in first], axis=1)
    return components(np.stack([one.value for one in first]), drawn, DESIGN.leaves, factor)


def test_components_of_many_pilots_are_on_average_those_that_were_planted():
    of_pilots = np.array([astuple(estimated(seed))[:5] for seed in range(80)])
    planted = np.array([value**2 for value in PLANTED.values()])
    error = of_pilots.std(axis=0) / np.sqrt(len(of_pilots))
    # Negative estimates are 0, which raises the mean of small components a little.
    assert (np.abs(of_pilots.mean(axis=0) - planted) < 3 * error + 0.15 * planted).all()


def test_the_factor_of_limits_widens_what_leaves_vary_and_nothing_else():
    plain, wide = estimated(0), estimated(0, factor=2.0)
    assert wide.leaf == pytest.approx(4 * plain.leaf)
    assert wide.hypernym == plain.hypernym


def test_studies_find_what_their_design_is_to_detect_in_four_of_five():
    """Few studies of one world; `make calibration` counts many, of four."""
    of, design = WORLDS["one_seed"]
    low, high = binom.interval(0.999, STUDIES, 0.8)
    assert low <= sum(found(seed, of, design) for seed in range(STUDIES)) <= high


def test_power_at_nothing_is_that_of_a_false_finding():
    of, design = WORLDS["seeds_that_differ"]
    simulated = Simulator().power(of, design, 0.0)
    assert simulated < 0.03
    assert np.mean([printed(of, design, 0.0, seed).lower > 0 for seed in range(40)]) < 0.1


def test_more_of_anything_detects_less_and_the_inverse_agrees():
    simulator = Simulator()
    sizes = {"leaves": (100, 400), "hypernyms": (12, 40), "seeds": (3, 9)}
    base = {"leaves": 100, "hypernyms": 12, "seeds": 3}
    for name, pair in sizes.items():
        few, many = (simulator.detectable(OF, Design(**{**base, name: size})) for size in pair)
        assert many < few, name
    effect = 0.2
    table = required_table(OF, grid([100], [12], [10]), effect)
    for kind, value in table[["measure", "value"]].itertuples(index=False):
        kind = kind.removeprefix("required ")
        at = Design(**{**base, "seeds": 10, kind: int(value)})
        before = Design(**{**base, "seeds": 10, kind: int(value) - 1})
        assert simulator.detectable(OF, at) <= effect < simulator.detectable(OF, before)
    # With every leaf there is, twelve hypernyms still differ.
    assert np.isinf(required_table(OF, grid([100], [12], [3]), 0.05)["value"]).any()


def test_limits_of_what_is_detectable_are_wide_where_three_seeds_differ_and_not_where_it_is_stated():
    of = pilot(351, 34, 3, leaf=0.3, seed=0.05)
    (row,) = detectable_table(of, [Design(351, 34, 3)]).to_dict("records")
    assert row["lower"] < row["value"] < row["upper"]
    assert row["upper"] > 3 * row["value"]
    (stated,) = detectable_table(of.with_seed_sd(0.05), [Design(351, 34, 3)]).to_dict("records")
    assert stated["upper"] < 1.3 * stated["value"]


def test_limits_know_that_means_of_hypernyms_vary_by_their_leaves_as_well():
    of = pilot(351, 34, 3, leaf=0.4, hypernym=0.1, seed=0.0)
    ends = []
    for own in (of, replace(of, of_leaves=0.02)):
        (row,) = detectable_table(own, [Design(200, 20, 3)]).to_dict("records")
        ends.append(row["upper"] - row["lower"])
    assert ends[1] > 1.3 * ends[0]
    assert estimated(0).of_leaves > 0


@pytest.mark.parametrize(
    ("of", "design", "share", "message"),
    [
        (pilot(50, 8, 3, leaf=1), Design(1, 8, 3), 0.8, "at least 2 leaves"),
        (pilot(50, 8, 3, leaf=1), Design(50, 1, 3), 0.8, "needs at least 2"),
        (pilot(50, 8, 3, leaf=1), Design(50, 8, 3), 0.3, "a share of at least .5"),
        (pilot(50, 8, 1, leaf=1, seed=np.nan), Design(50, 8, 3), 0.8, "--seed-sd"),
    ],
)
def test_a_design_that_cannot_be_foreseen_is_refused(of, design, share, message):
    with pytest.raises(ValueError, match=message):
        detectable_table(of, [design], share)


def test_an_unknown_measure_is_refused_with_the_nearest_before_a_run_is_read():
    with pytest.raises(KeyError, match="did you mean 'leaf_naming'"):
        pilots([], "leaf_namming")
    assert "leaf_naming" in MEASURES


@pytest.mark.parametrize("place", [("--span", "cue"), ("--modality", "image→image"), ("--layer", "0")])
def test_a_place_inside_the_model_is_refused_for_measures_of_answers(place, capsys):
    with pytest.raises(SystemExit) as end:
        power.main(["--run", "none", *place])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert (
        f"{' '.join(place)} was asked for, and --measure auroc is one of answers; give --measure layer_probes"
        in line
    )


def test_one_of_anything_is_counted_in_the_singular():
    of = pilot(50, 1, 1, leaf=1)
    table = pd.concat(
        [detectable_table(of, grid([50], [1], [1])), required_table(of, grid([50], [1], [1]), 0.4)]
    )
    said = "\n".join(
        power._lines(Pilot("one", Estimate(0.1, 0.0, 0.2, 50), of), table.assign(power=0.8), 0.4)
    )
    assert "pilot: 50 leaves, 1 hypernym, 1 seed\n" in said
    assert "1 hypernym, 1 seed: at least" in said
    assert not re.search(r"\b1 (leaves|hypernyms|seeds)", said)


@pytest.mark.parametrize(
    ("seeds", "stated", "said"),
    [
        (1, None, "leaf 1.0000, hypernym 0.5000"),
        (1, 0.25, "leaf 1.0000, hypernym 0.5000, seed 0.2500"),
        (3, None, "leaf 1.0000, leaf × seed 0.0000, hypernym 0.5000, hypernym × seed 0.0000, seed 0.1000"),
    ],
)
def test_of_one_seed_no_component_of_seeds_is_printed_unless_it_is_stated(seeds, stated, said):
    of = pilot(50, 9, seeds, leaf=1, hypernym=0.5, seed=float("nan") if seeds == 1 else 0.1)
    of = of if stated is None else of.with_seed_sd(stated)
    table = detectable_table(of, grid([50], [9], [1])).assign(power=0.8)
    (line,) = (
        one
        for one in power._lines(Pilot("one", Estimate(0.1, 0.0, 0.2, 50), of), table, None)
        if "deviations" in one
    )
    assert line == f"  standard deviations of the contrast: {said}"


def test_a_run_that_is_none_is_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        power.main(["--run", str(tmp_path / "none")])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert "is not a run directory" in line


def probed(path, seed, level, **model):
    """A run that is a config and the stored draws of its layer probes: AUROC `level` at two sites."""
    config = Config()
    data = replace(config.data, shuffle=model.pop("shuffle", "none"))
    run = Run(path, replace(config, seed=seed, data=data, model=replace(config.model, **model)))
    rng, n = np.random.default_rng([seed, 5]), 40
    value = level + np.array([0.0, 0.1])
    draws = value + 0.02 * rng.normal(size=(50, 2))
    series = Series(value, draws, value - 0.5, draws - 0.5, np.empty((0, 2)))
    sites = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
    curves = {Curve(10, "cue", "text→image", "ridge"): (sites, {MEAN: series})}
    where = run.folder("analyses", "layer_probes") / FILE
    write_draws(where, [f"leaf{at}" for at in range(n)], curves, run.name)
    return run


def test_layer_probes_contrast_conditions_seed_by_seed_as_other_measures_do(tmp_path):
    sides = {
        "p": (0.7, {}),
        "r": (0.6, {"init": "random"}),
        "x": (0.65, {"init": "random", "shuffle": "across"}),
    }
    runs = [
        probed(tmp_path / f"{name}{seed}", seed, level + 0.01 * seed, **dict(more))
        for name, (level, more) in sides.items()
        for seed in ((1, 2, 0) if name == "p" else (0, 1, 3))
    ]
    # x differs from p in two things, and a shuffle is not contrasted with none.
    (one,) = pilots(runs, "layer_probes")
    assert one.name.startswith("pretrained − random_init, probes text→image at cue, blocks.")
    assert one.components.seeds == 2  # those that both have
    assert one.estimate.value == pytest.approx(0.1)
    (alone,) = pilots([run for run in runs if run.name.startswith("p")], "layer_probes")
    assert (alone.name.startswith("pretrained against"), alone.components.seeds) == (True, 3)
    with pytest.raises(MismatchError, match="no two differ in one thing and share a seed"):
        pilots([run for run in runs if run.name[0] in "px"], "layer_probes")
    with pytest.raises(MismatchError, match="give each seed once"):
        pilots([runs[0], replace(runs[0], path=tmp_path / "again")], "layer_probes")
