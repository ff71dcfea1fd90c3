"""Mediation where worlds share some leaves alone, names are stored ones, or a gain is not determined."""

from dataclasses import replace

import numpy as np
import pytest

from analyses import mediation
from analyses.inputs.measures import Frame
from analyses.mediation.effects import cells, compared, effects, matched, readouts
from analyses.mediation.intervals import Intervals
from analyses.mediation.naming import Naming
from analyses.mediation.rows import condition_rows, contrast_rows
from analyses.mediation.sides import Assumed, Side
from probing.stats.hierarchical import leaf_weights
from taxogen.answers.evaluate import Scores
from taxogen.questions import ablation
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.planted_naming import LEAVES, TAXONOMY, WORDS, Planted, condition, noise

FEW = LEAVES[:90]
QUICK = Intervals(draws=20)
MODEL = Planted(0.7, by_name=0.8, past=0.5)


def of_few(answers, leaves=FEW, words=WORDS):
    """The answers about the pictures of some leaves, in a taxonomy of these."""
    keep = np.isin(answers.scores.image["leaf"].to_numpy(str), leaves)
    taxonomy = Taxonomy(tuple(pair for pair in TAXONOMY.edges if pair[0] in leaves))
    plan, text = ablation.plan(taxonomy, "full"), answers.scores.text.iloc[: len(leaves)]
    image = answers.scores.image[keep].reset_index(drop=True)
    values, right = answers.scores.image_scores[keep], answers.scores.leaf_correct[keep]
    scores = Scores(image, text, taxonomy.hypernyms, values, words[: len(leaves)], right, 4)
    return replace(answers, scores=scores, taxonomy=taxonomy, removal=plan)


def one_name(naming: Naming) -> Naming:
    return Naming.of_names(naming.best.tolist(), naming.leaves)


@pytest.fixture
def worlds():
    """Conditions of one seed with one language model, the second with fewer leaves, and the naming of both."""
    (one, of_one), (other, _) = (condition(name, MODEL, (0,), draw) for draw, name in enumerate("ab", 1))
    other = replace(other, answers=(of_few(other.answers[0]),))
    return (one, other), of_one | {("b", 0): MODEL.naming(2000, leaves=FEW)}


def sides(worlds, named=lambda naming: naming) -> list[Side]:
    found, naming = worlds
    frame = Frame.of(found)
    return [Side.of(c.answers[0], named(naming[c.name, 0]), found[0].headline, frame) for c in found]


def test_fewer_leaves_are_not_other_words(worlds):
    one, other = sides(worlds)
    assert "state" not in effects(one, other)
    exact = replace(other, answers=of_few(other.answers, words=WORDS + 1e-5 * np.sin(np.arange(6))))
    assert "state" not in effects(one, exact)
    assert "state" in effects(
        one, replace(other, answers=of_few(other.answers, words=WORDS + noise(1)[:120]))
    )


def test_effects_are_those_of_the_leaves_and_names_that_both_worlds_have(worlds):
    one, other = sides(worlds)
    rows = np.isin(one.leaves, FEW)
    mass = one.naming.probability[rows][:, :90]
    few = Naming(mass / mass.sum(1, keepdims=True), tuple(FEW))
    alone = Side.of(of_few(one.answers), few, one.part, one.frame)
    expected = effects(alone, other)
    for name, effect in effects(one, other).items():
        assert effect.value == pytest.approx(expected[name].value, abs=1e-12), name


@pytest.mark.parametrize("assumed", [Assumed(), Assumed(top=1)])
def test_a_name_that_the_other_world_lacks_leaves_its_picture_out_of_every_cell(worlds, assumed):
    one, other = sides(worlds, one_name)
    lacking = ~np.isin(one.naming.best, FEW)
    crossed = one.cascade(assumed, words_of=other)
    assert (np.isnan(crossed).any(axis=1) == lacking).all()
    assert lacking.any()
    assert crossed[~lacking] == pytest.approx(one.cascade(assumed)[~lacking])
    first, second = compared(one, other)
    assert np.isnan(first.values[lacking]).all()
    assert (np.isfinite(first.values).any(axis=1) == (~lacking & np.isin(one.leaves, FEW))).all()
    found = cells(one, other, assumed)
    assert found[1, 1, 1].value == pytest.approx(first.auroc(first.values).value)
    assert found[0, 0, 0].value == pytest.approx(second.auroc(second.values).value)
    counts = next(
        contrast_rows(worlds[0], dict(zip(worlds[1], (one.naming, other.naming))), one.frame, 0.5, QUICK)
    )
    assert counts["rows"] == np.isfinite(first.values).any(axis=1).sum()


def test_pictures_named_exactly_are_of_leaves_that_both_name_exactly(worlds):
    one, other = sides(worlds)
    rows = contrast_rows(worlds[0], worlds[1], one.frame, 0.5, QUICK)
    found = next(row for row in rows if row["measure"] == "named exactly")
    exact = [side.naming.best == side.leaves for side in (one, other)]
    both = set(one.leaves[exact[0]]) & set(other.leaves[exact[1]])
    assert found["n"] == len(both)
    assert found["rows"] == sum(np.isin(s.leaves[e], list(both)).sum() for s, e in zip((one, other), exact))


def test_stored_names_are_called_by_their_rule_and_matched_by_equality(worlds, monkeypatch):
    monkeypatch.setattr("analyses.mediation.rows.VARIATIONS", {})
    one, other = sides(worlds, one_name)
    naming = {("a", 0): one.naming, ("b", 0): other.naming}
    for caliper in (0.5, 1.0, 2.0):
        first, second = matched(one, other, caliper)[1].T
        assert np.array_equal(one.right[first], other.right[second])
    rows = list(contrast_rows(worlds[0], naming, one.frame, 1.0, QUICK))
    assert [row["at"] for row in rows if row["measure"] == "matched"] == [0.0]
    measures = {row["measure"] for row in condition_rows(worlds[0][0], naming, one.frame, QUICK)}
    assert "naming by read-out" in measures
    assert "naming" not in measures


def test_draws_of_the_direct_part_carry_the_error_of_the_gain(worlds):
    one, _ = sides(worlds)
    weights, gain, cascade = leaf_weights(len(LEAVES), 5), one.gain(), one.cascade()
    drawn = readouts(one)["direct part"].at(weights)
    fixed = one.auroc(one.values - gain.value * cascade).at(weights)
    exact = np.concatenate([
        one.auroc(one.values - slope * cascade).at(draw[None]) for slope, draw in zip(gain.at(weights), weights)
    ])  # fmt: skip
    assert np.abs(drawn - exact).max() < 0.25 * np.abs(fixed - exact).max()


def test_one_picture_of_each_leaf_has_no_gain_and_no_limits_of_one(worlds, capsys):
    (one, _), naming = worlds
    first = ~one.answers[0].scores.image["leaf"].duplicated().to_numpy()
    scores = one.answers[0].scores
    scores = replace(
        scores, image=scores.image[first].reset_index(drop=True), image_scores=scores.image_scores[first],
        leaf_correct=scores.leaf_correct[first],
    )  # fmt: skip
    single = replace(one, answers=(replace(one.answers[0], scores=scores),))
    naming = {("a", 0): replace(naming["a", 0], probability=naming["a", 0].probability[first])}
    rows = list(condition_rows(single, naming, Frame.of([single]), QUICK))
    undefined = [row for row in rows if np.isnan(row["value"])]
    assert {row.get("readout", row["measure"]) for row in undefined} == {"gain", "direct part"}
    assert np.isnan([(row["lower"], row["upper"]) for row in undefined]).all()
    mediation._say_what_is_undefined([one, single])
    assert (
        capsys.readouterr().err.count("a has one picture of each leaf; its gain, direct part and effects")
        == 1
    )
