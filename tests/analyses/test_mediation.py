"""Mediation: planted shares of the name are recovered, refusals come in one line, a toy run gives table and figure."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analyses import mediation
from analyses.inputs.measures import Frame
from analyses.mediation.effects import effects, matched, partners
from analyses.mediation.figures import draw
from analyses.mediation.intervals import Intervals
from analyses.mediation.naming import HYPERNYM, NAME, RIGHT, Naming, in_order
from analyses.mediation.plane import plane_rows
from analyses.mediation.rows import chosen_pairs, mediation_table, summary
from analyses.mediation.section import section
from analyses.mediation.sides import Assumed, Side
from probing.stats import ClusterAUROC
from probing.store import MismatchError
from taxogen.answers.completion import likely
from taxogen.runs.run import Run
from taxogen.stages.pipeline import evaluate_run, train_run
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.planted_naming import (
    KINDS,
    LEAVES,
    PICTURES,
    TAXONOMY,
    WORDS,
    Planted,
    answers_of,
    condition,
    noise,
)
from tests.world import toy_config, toy_folder

QUICK = Intervals(draws=60)
ROWS = np.repeat(LEAVES, PICTURES)
LABELS = np.asarray(TAXONOMY.labels(ROWS.tolist()))


def drawn(kind: str, seed: int) -> tuple[Planted, Planted]:
    """Two models that differ in naming, in what pictures say past their names, or in both."""
    rng = np.random.default_rng(seed)
    well, badly = rng.uniform(0.6, 0.95), rng.uniform(0.2, 0.5)
    gain, much, little = rng.uniform(0.4, 1.2), rng.uniform(0.8, 1.5), rng.uniform(0.2, 0.6)
    if kind == "names":
        return Planted(well, by_name=gain), Planted(badly, by_name=gain)
    if kind == "past":
        return Planted(well, past=much), Planted(badly, past=little)
    return Planted(well, by_name=gain, past=much), Planted(badly, by_name=gain, past=little)


def true_effects(first: Planted, second: Planted, namings) -> dict[str, float]:
    """Averaged natural effects of the model that draws the answers, with its own names exchanged."""

    def outcome(model, naming):
        answers = [model.answer(naming, noise(seed)) for seed in range(90, 94)]
        return np.mean([ClusterAUROC(one, LABELS, ROWS).value.mean() for one in answers])

    y = {at: outcome(*one) for at, one in zip(
        itertools.product((1, 0), repeat=2), itertools.product((first, second), namings), strict=True
    )}  # fmt: skip
    direct = (y[1, 1] - y[0, 1] + y[1, 0] - y[0, 0]) / 2
    return {"direct": direct, "indirect": y[1, 1] - y[0, 0] - direct}


def table_of(*planted, pairs=None, **options):
    """The table of conditions a, b, … with these models."""
    conditions, naming = [], {}
    for name, model in zip("abc", planted):
        made, names = condition(name, model, seeds=(0,), draw=ord(name))
        conditions.append(made)
        naming |= names
    pairs = chosen_pairs(conditions, pairs) if pairs else []
    return mediation_table(conditions, pairs, naming, {}, options.pop("caliper", 0.5), QUICK), naming


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["names", "past", "half"])
def test_planted_shares_of_the_name_are_recovered(kind, seed):
    first, second = drawn(kind, seed)
    (one, of_one), (other, of_other) = condition("a", first), condition("b", second, draw=1)
    frame = Frame.of([one, other])
    found = {"direct": [], "indirect": [], "total": []}
    truth = {"direct": [], "indirect": []}
    for left, right in zip(one.answers, other.answers, strict=True):
        namings = of_one["a", left.seed], of_other["b", left.seed]
        sides = [Side.of(*pair, one.headline, frame) for pair in zip((left, right), namings, strict=True)]
        made = effects(*sides)
        for name, values in found.items():
            values.append(made[name].value.mean())
        for name, value in true_effects(first, second, namings).items():
            truth[name].append(value)
    means = {name: np.mean(values) for name, values in found.items()}
    assert means["direct"] + means["indirect"] == pytest.approx(means["total"], abs=1e-12)
    assert means["direct"] == pytest.approx(np.mean(truth["direct"]), abs=0.03)
    assert means["indirect"] == pytest.approx(np.mean(truth["indirect"]), abs=0.03)
    absent = {"names": "direct", "past": "indirect"}.get(kind)
    if absent:
        assert means[absent] == pytest.approx(0, abs=0.03)
        assert means["total"] > 0.05


@pytest.fixture(scope="module")
def half():
    """The table of two models whose answers go both ways, and their naming."""
    return table_of(*drawn("half", 3), pairs="a,b")


def one_row(table, **where):
    rows = table
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1, where
    return rows.iloc[0]


def test_the_table_has_effects_with_intervals_that_hold_their_values_and_add_up(half):
    table, _ = half
    numbers = {name: one_row(table, measure=name, varied="") for name in ("total", "direct", "indirect")}
    assert numbers["direct"]["value"] + numbers["indirect"]["value"] == pytest.approx(
        numbers["total"]["value"]
    )
    model = [one_row(table, condition=name, readout="model")["value"] for name in "ab"]
    assert numbers["total"]["value"] == pytest.approx(model[0] - model[1])
    assert (table["lower"] <= table["value"]).all()
    assert (table["value"] <= table["upper"]).all()
    assert numbers["total"]["n"] == len(LEAVES)
    assert numbers["total"]["rows"] == len(ROWS)
    assert one_row(table, measure="direct", varied="content left in")["value"] < numbers["direct"]["value"]
    rising = table[(table["measure"] == "indirect") & (table["varied"] == "reliability")].sort_values("at")
    assert (rising["value"].diff().dropna() < 0).all()  # the less reliable, the more is by way of the name


def test_a_wrong_reading_of_names_moves_effects_to_the_direct_part(half):
    table, _ = half
    read = one_row(table, measure="indirect", varied="")["value"]
    assert one_row(table, measure="indirect", varied="top names", at=1)["value"] < read


def test_figures_summary_and_section_come_from_the_table_alone(half, tmp_path):
    table, _ = half
    table.to_parquet(tmp_path / "t.parquet", index=False)
    again = pd.read_parquet(tmp_path / "t.parquet")
    figures = draw(again)
    assert set(figures) == {"readouts", "effects", "sensitivity"}
    text = summary(again)
    for said in ("a − b direct", "a − b matched within 0.5 nats", "a auroc names", "b auroc by own name"):
        assert said in text
    assert [type(block).__name__ for block in section(again)] == ["Shown", "Grid", "Shown", "Grid", "Shown"]


def test_what_other_words_for_the_same_names_do_is_called_meaning(monkeypatch):
    """A language model that knows nothing of words: names alike, the difference is by way of what they mean."""
    monkeypatch.setattr("analyses.mediation.rows.VARIATIONS", {})
    model = Planted(0.8, by_name=1.0)
    (one, of_one), (other, of_other) = condition("a", model, seeds=(0,)), condition("b", model, seeds=(0,))
    knows_nothing = np.random.default_rng(8).normal(size=WORDS.shape)
    answers = []
    for answer in other.answers:
        cascade = np.log(of_other["b", answer.seed].probability @ np.exp(knows_nothing))
        answers.append(answers_of(cascade + noise(answer.seed), answer.seed, words=knows_nothing))
    other = replace(other, answers=tuple(answers))
    table = mediation_table(
        [one, other], chosen_pairs([one, other], "a,b"), of_one | of_other, {}, 0.5, QUICK
    )
    found = {name: one_row(table, measure=name, varied="")["value"] for name in
             ("total", "direct", "indirect", "state", "meaning")}  # fmt: skip
    assert found["meaning"] > 0.1
    assert found["state"] == pytest.approx(0, abs=0.03)
    assert found["state"] + found["meaning"] == pytest.approx(found["indirect"])
    assert found["direct"] == pytest.approx(0, abs=0.05)


@pytest.mark.nightly
def test_intervals_cover_no_effect_at_about_the_nominal_rate():
    covered = {"direct": [], "indirect": []}
    for draw_ in range(60):
        model = Planted(0.6, by_name=0.5, past=0.5)
        (one, of_one), (other, of_other) = (
            condition("a", model, draw=2 * draw_),
            condition("b", model, draw=2 * draw_ + 1),
        )
        frame = Frame.of([one, other])
        made = [
            effects(Side.of(x, of_one["a", x.seed], one.headline, frame),
                    Side.of(y, of_other["b", y.seed], one.headline, frame))
            for x, y in zip(one.answers, other.answers, strict=True)
        ]  # fmt: skip
        for name, hits in covered.items():
            numbers = Intervals(draws=200).mean([each[name] for each in made], -1.0)
            hits.append(numbers["lower"] <= 0 <= numbers["upper"])
    for name, hits in covered.items():
        assert np.mean(hits) >= 0.88, name


def side(by_name=1.0, name="a", draw=0):
    made, naming = condition(name, Planted(0.5, by_name), seeds=(0,), draw=draw)
    return Side.of(made.answers[0], naming[name, 0], made.headline, Frame.of([made]))


def renamed(one: Side, world: dict[str, str], pictures="") -> Side:
    """The side in a world that calls each leaf otherwise, with the same or other pictures."""
    image = one.answers.scores.image
    image = image.assign(leaf=image["leaf"].map(world), picture=image["picture"] + pictures)
    scores = replace(one.answers.scores, image=image)
    return Side.of(replace(one.answers, scores=scores), one.naming, one.part, one.frame)


def test_areas_without_draws_are_those_with_them():
    one = side()
    values = np.round(one.values, 1)  # with ties
    values[5:9, 2] = np.nan
    assert one.auroc_alone(values) == pytest.approx(one.auroc(values).value)


def test_the_cascade_is_the_probability_that_its_names_give_a_hypernym():
    """Oracle: the law of total probability, term by term, with names of one side and words of another."""
    one = side()
    for picture, kind in ((0, 0), (7, 3), (100, 5)):
        total = sum(
            one.naming.probability[picture, at] * np.exp(WORDS[at, kind]) for at in range(len(LEAVES))
        )
        assert one.cascade()[picture, kind] == pytest.approx(np.log(total))
    best = one.naming.probability.argmax(1)
    assert np.allclose(one.cascade(Assumed(top=1)), WORDS[best])
    fewer = one.words.drop(index=LEAVES[0])
    other = SimpleNamespace(words=fewer)
    assert np.isfinite(one.cascade(words_of=other)).all()  # pyright: ignore[reportArgumentType]


def test_a_right_name_gains_nothing_by_being_scored_where_others_are_not():
    logs = np.log([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]])
    part = pd.DataFrame(logs, columns=[NAME + leaf for leaf in "abc"]).assign(
        picture=["x", "y"], leaf=["b", "a"]
    )
    part.loc[1, NAME + "c"] = np.nan
    part[RIGHT] = np.log([0.3, 0.8])
    made = Naming.of_part(part)
    assert np.allclose(made.probability, [[0.6, 0.3, 0.1], [8 / 9, 1 / 9, 0]])
    assert made.best.tolist() == ["a", "a"]
    assert made.of_right(np.array(["b", "a"])) == pytest.approx(np.log(made.probability[[0, 1], [1, 0]]))
    part[RIGHT] = np.log([0.3, 0.09])  # a right name that is too unlikely to stand among the others
    part.loc[1, "leaf"] = "c"
    assert np.array_equal(Naming.of_part(part).probability, made.probability)
    assert Naming.of_part(part).of_right(np.array(["b", "c"])) == pytest.approx(np.log([0.3, 0.1]))
    sharp = made.changed(temperature=0.5).probability
    assert np.allclose(sharp, made.probability**2 / (made.probability**2).sum(1, keepdims=True))
    assert (made.changed(top=1).probability.max(1) == 1).all()
    one = Naming.of_names(["b", "b"], ["a", "b"])
    assert one.best.tolist() == ["b", "b"]
    assert one.of_right(np.array(["b", "a"])).tolist() == [0, -1]


def test_the_likeliest_first_tokens_are_scored_until_they_are_nearly_all():
    first = np.log(np.array([[0.5, 0.5, 0.3, 0.15, 0.05], [0.02, 0.02, 0.02, 0.02, 0.92]]))
    tokens = np.array([1, 1, 2, 3, 4])  # the first two names begin alike
    assert likely(first, tokens, 0.7).tolist() == [[True, True, True, False, False], [False] * 4 + [True]]
    assert likely(first, tokens, 0.9)[0].tolist() == [True, True, True, True, False]
    assert likely(first, tokens, 1.0, most=2).sum(1).tolist() == [2, 2]


def test_names_are_exchanged_between_the_same_pictures_or_pictures_that_are_called_alike():
    one = side()
    assert [turn.tolist() for turn in partners(one, one)] == [list(range(len(ROWS)))]
    world = dict(zip(LEAVES, [*LEAVES[1:], LEAVES[0]], strict=True))
    other = renamed(one, world)
    for turn in partners(one, other):
        assert (other.leaves[turn] == one.leaves).all()
        assert len(set(turn)) == len(turn)
    few = renamed(one, {**{leaf: leaf for leaf in LEAVES}, LEAVES[0]: LEAVES[1]}, pictures="/other")
    assert all((turn[:PICTURES] == -1).all() and (turn[PICTURES:] >= 0).all() for turn in partners(one, few))


@pytest.mark.parametrize("pictures", ["", "/other"])
def test_matched_pictures_are_called_alike_and_named_equally_well(pictures):
    one, other = side(), renamed(side(draw=1), {leaf: leaf for leaf in LEAVES}, pictures)
    sizes = []
    for caliper in (0.25, 1.0):
        _, pairs = matched(one, other, caliper)
        first, second = pairs.T
        assert (one.leaves[first] == other.leaves[second]).all()
        assert (np.abs(one.right[first] - other.right[second]) <= caliper).all()
        assert len(set(first)) == len(set(second)) == len(pairs) > 0
        assert (first == second).all() or pictures
        sizes.append(len(pairs))
    assert sizes[0] < sizes[1]


def test_at_matched_naming_models_that_differ_only_in_naming_answer_alike(monkeypatch):
    monkeypatch.setattr("analyses.mediation.rows.VARIATIONS", {})
    first, second = Planted(0.9, by_name=1.0), Planted(0.4, by_name=1.0)
    table, _ = table_of(first, second, pairs="a,b")
    total = one_row(table, measure="total")
    found = one_row(table, measure="matched", at=0.5)
    assert total["lower"] > 0.05
    assert found["lower"] < 0 < found["upper"]
    assert found["n"] <= len(LEAVES)
    assert found["rows"] < total["rows"]
    assert abs(one_row(table, measure="imbalance", at=0.5)["value"]) < 0.1


def test_answers_that_follow_the_own_name_are_right_by_it_and_not_by_what_is_shown():
    one = side(by_name=3.0)
    world = dict(zip(LEAVES, np.random.default_rng(2).permutation(LEAVES), strict=True))
    back = {called: shown for shown, called in world.items()}
    image = one.answers.scores.image.assign(shown_leaf=lambda rows: rows["leaf"].map(back))
    made, naming = condition("a", Planted(0.5, by_name=3.0), seeds=(0,))
    scores = replace(one.answers.scores, image=image)
    made = replace(made, answers=(replace(one.answers, scores=scores),))
    table = mediation_table([made], [], naming, {}, 0.5, QUICK)
    at = {(row.against, row.pictures): row for row in table.itertuples() if row.against}
    assert at["own name", "all"].value > 0.9
    assert at["shown", "all"].lower < 0.5 < at["shown", "all"].upper
    assert at["own name", "all"].value > at["called", "all"].value + 0.1
    assert at["called", "named exactly"].value == at["own name", "named exactly"].value
    assert at["own name − shown", "named exactly"].lower > 0.3
    right = naming["a", 0].best == ROWS
    assert at["called", "named exactly"].rows == right.sum() < at["called", "all"].rows == len(ROWS)


def snapshots_of(name: str, levels, by_name: float, past=0.0):
    """Scored snapshots of a model that learns to name; its answers follow its names."""
    tables = {}
    for step, named in enumerate(levels):
        model = Planted(named, by_name, past * step)
        naming = model.naming(50 * ord(name[0]) + step)
        read = model.answer(naming, noise(99 * ord(name[0]) + step, 0.5))
        pictures = [f"{leaf}/{number}" for number, leaf in enumerate(ROWS)]
        columns = {
            NAME + leaf: np.log(np.maximum(naming.probability[:, at], 1e-9)) for at, leaf in enumerate(LEAVES)
        }
        columns |= {HYPERNYM + kind: read[:, at] for at, kind in enumerate(TAXONOMY.hypernyms)}
        columns |= {RIGHT: np.log(naming.probability.max(1))}
        tables[10 * step] = pd.DataFrame({"picture": pictures, "leaf": ROWS} | columns)
    return {(name, 0): tables}


@pytest.mark.parametrize("past", [0.0, 0.6])
def test_conditions_lie_on_one_curve_of_the_plane_unless_one_answers_past_its_names(past):
    made = [condition(name, Planted(0.5, by_name=1.0), seeds=(0,))[0] for name in "ab"]
    levels = (0.05, 0.3, 0.6, 0.9), (0.1, 0.4, 0.7)
    snapshots = snapshots_of("a", levels[0], 0.6, past) | snapshots_of("b", levels[1], 0.6)
    frame = Frame.of(made)
    rows = pd.DataFrame(plane_rows(made, chosen_pairs(made, "a,b"), snapshots, frame, QUICK))
    gaps = rows[rows["measure"] == "gap at equal naming"]
    naming = rows[rows["measure"] == "naming"].set_index(["condition", "step"])["value"]
    assert naming["a"].to_dict() == pytest.approx(dict(zip((0, 10, 20, 30), levels[0])), abs=0.07)
    assert gaps["at"].max() == pytest.approx(naming["b"].max())
    top = gaps.iloc[-1]
    assert top["lower"] > 0.03 if past else (top["lower"] < 0 < top["upper"] and abs(top["value"]) < 0.03)


def test_curves_whose_naming_does_not_overlap_have_no_gap():
    made = [condition(name, Planted(0.5, by_name=1.0), seeds=(0,))[0] for name in "ab"]
    snapshots = snapshots_of("a", (0.0, 0.2), 1.0) | snapshots_of("b", (0.6, 0.9), 1.0)
    rows = pd.DataFrame(plane_rows(made, chosen_pairs(made, "a,b"), snapshots, Frame.of(made), QUICK))
    assert not (rows["measure"] == "gap at equal naming").any()


def test_contrasts_that_cannot_be_made_are_refused_by_what_is_there():
    one, other = (
        condition(name, Planted(0.5), seeds=seeds)[0] for name, seeds in (("a", (0, 1)), ("b", (2,)))
    )
    with pytest.raises(KeyError, match="give two of these conditions as A,B: a; b"):
        chosen_pairs([one, other], "a,c")
    with pytest.raises(KeyError, match="--contrast 'a,a' was asked for"):
        chosen_pairs([one, other], "a,a")
    with pytest.raises(
        MismatchError, match=r"a has the seeds \[0, 1\] and b \[2\]: a contrast pairs runs of one seed"
    ):
        chosen_pairs([one, other], "a,b")
    elsewhere = Taxonomy((("x", "kind0"), ("y", "kind1")))
    strange = replace(one, name="b", answers=tuple(replace(each, taxonomy=elsewhere) for each in one.answers))
    with pytest.raises(MismatchError, match="a and b share no leaf; give runs about the same leaves"):
        chosen_pairs([one, strange], "a,b")
    comma = replace(other, name="held out x, y", answers=one.answers)
    assert [pair.name for pair in chosen_pairs([one, comma], "held out x, y,a")[0]] == ["held out x, y", "a"]


def test_names_of_other_pictures_than_were_evaluated_are_refused():
    answers = side().answers
    part = pd.DataFrame({"picture": answers.scores.image["picture"][::-1]})
    assert in_order(part, answers)["picture"].tolist() == answers.scores.image["picture"].tolist()
    with pytest.raises(
        MismatchError, match=r"names were scored for 479 pictures .* differ in 1; evaluate the run"
    ):
        in_order(part[1:], answers)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"caliper": 0.0}, "--caliper 0 was asked for"), ({"caliper": float("nan")}, "--caliper nan was asked for"),
     ({"pictures": 0}, "--pictures 0 was asked for; give 1 or more")],
)  # fmt: skip
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        mediation.check([], mediation.Options(**options))


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    with toy_folder(tmp_path_factory.mktemp("mediation"), toy_lm) as settings:
        run = Run.create(Path("plain"), toy_config(settings, "train.snapshots=0,6,last"))
        train_run(run)
        evaluate_run(run)
        yield run


def refused(capsys, *given: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        mediation.main(list(given))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("python -m")]
    assert end.value.code == 2
    assert len(lines) == 1
    return lines[0]


def test_a_toy_run_is_named_at_each_snapshot_once_and_says_what_that_costs(toy, capsys):
    asked = ["--run", "plain", "--snapshots", "--draws", "20"]
    mediation.main(asked)
    said = capsys.readouterr()
    assert "mediation: plain after step 6 is to name 11 pictures: each is read 3 times" in said.err
    table = pd.read_parquet("plain/analyses/mediation/mediation.parquet")
    assert sorted(table["step"].dropna().unique()) == list(toy.snapshots)
    assert Path("plain/analyses/mediation/plane.png").is_file()
    mediation.main(asked)
    assert "is to name" not in capsys.readouterr().err
    assert pd.read_parquet("plain/analyses/mediation/mediation.parquet").equals(table)


def test_stored_names_need_no_model_and_are_those_of_the_baselines(toy, monkeypatch):
    monkeypatch.setattr("analyses.mediation.naming.Subject", None)
    mediation.main(["--run", "plain", "--names", "stored", "--draws", "20"])
    table = pd.read_parquet("plain/analyses/mediation-stored/mediation.parquet")
    cascade = one_row(table, readout="names")["value"]
    assert cascade == one_row(table, readout="name")["value"]
    assert "right_name" not in set(table["measure"])


def test_what_a_run_lacks_is_refused_in_one_line(toy, capsys, monkeypatch):
    assert "cannot be asked of stores" in refused(capsys, "--images", "x", "--taxonomy", "y")
    assert "give two of these conditions" in refused(capsys, "--run", "plain", "--contrast", "within,across")
    monkeypatch.setattr(Run, "snapshots", (12,))
    assert "projectors of 1 steps (12)" in refused(capsys, "--run", "plain", "--snapshots")
    Path("plain/baselines.h5").rename("plain/elsewhere.h5")
    assert "has no baselines.h5" in refused(capsys, "--run", "plain", "--names", "stored")
    Path("plain/scores.h5").rename("plain/others.h5")
    assert "has no scores.h5; `python -m taxogen evaluate" in refused(capsys, "--run", "plain")


def test_kinds_are_those_of_the_toy_taxonomy():
    assert len(TAXONOMY.hypernyms) == KINDS
