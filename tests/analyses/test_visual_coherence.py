"""Visual coherence finds what is planted in features and how it goes with scores; the rule of the study."""

import re
from dataclasses import replace

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from analyses import visual_coherence as analysis
from analyses.frame import drawing
from analyses.inputs.encoder import EncoderRows
from analyses.visual_coherence.coherence import RULES, Options, Shown, coherence
from analyses.visual_coherence.rows import coherence_table
from probing.stats.correlations import correlation, mixed_slope
from taxogen.models.features import FeatureRows
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.analyses import drawn
from tests.analyses.test_behaviour import LEAVES, TAXONOMY, condition
from tests.world import toy_config, write_world

QUICK = Options(draws=60, permutations=199)
STRENGTH = {"kind0": 3.0, "kind1": 1.5, "kind2": 0.0}


def shown(seed: int, strength=STRENGTH, pictures: int = 3, offset: float = 0.0) -> Shown:
    """Features in which hypernyms stand apart as much as planted, and every picture stands near its leaf."""
    rng = np.random.default_rng(seed)
    centre = {name: size * rng.normal(size=40) / np.sqrt(40) for name, size in strength.items()}
    leaf = {name: centre[TAXONOMY.hypernyms_of(name)[0]] + 0.5 * rng.normal(size=40) for name in LEAVES}
    rows = np.repeat(LEAVES, pictures)
    x = np.stack([leaf[name] for name in rows]) + 0.3 * rng.normal(size=(len(rows), 40)) + offset
    return Shown(x, x, rows)


@pytest.fixture(scope="module")
def table():
    found = [
        condition("pretrained", 1.5, seeds=(0, 1)),
        condition("across", 0.0, seeds=(0, 1), shuffle="across"),
    ]
    none = dict.fromkeys(STRENGTH, 0.0)
    pictures = {(one.name, seed): shown(seed, none if one.name == "across" else STRENGTH)
                for one in found for seed in (0, 1)}  # fmt: skip
    return coherence_table(found, pictures, QUICK)


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_planted_coherence_is_found_where_it_was_planted(table):
    values = {name: pick(table, condition="pretrained", rule="centred", target=name, measure="coherence")["value"]
              for name in STRENGTH}  # fmt: skip
    assert values["kind0"] > values["kind1"] > values["kind2"]
    assert (
        pick(table, condition="pretrained", rule="centred", target="kind0", measure="coherence")["lower"] > 0
    )
    # Three hypernyms that differ that much say little about others: the mean's interval is wide.
    line = pick(table, condition="pretrained", rule="centred", target="mean", measure="coherence")
    assert line["lower"] < 0 < line["value"]
    assert line["n"] == 60
    assert pick(table, condition="pretrained", rule="centred", target="mean", measure="p")["value"] < 0.01
    limit = pick(table, condition="pretrained", rule="centred", target="mean", measure="null_limit")["value"]
    assert 0 < limit < line["value"]


def test_planted_nothing_is_not_found(table):
    line = pick(table, condition="across", rule="centred", target="mean", measure="coherence")
    assert line["lower"] < 0 < line["upper"]
    assert pick(table, condition="across", rule="centred", target="mean", measure="p")["value"] > 0.05


def test_pictures_of_one_leaf_count_by_the_rule_of_the_study_alone():
    pictures = shown(3, dict.fromkeys(STRENGTH, 0.0))
    found = {rule: coherence(pictures, TAXONOMY, rule, QUICK) for rule in ("centred", "uncentred", "study")}
    assert np.abs(found["centred"].value).max() < 0.05
    # Of 20 leaves with 3 pictures, 60 of 1,770 pairs are of one leaf, and their cosine is .73.
    assert (found["study"].within - found["uncentred"].within) == pytest.approx([0.025] * 3, abs=0.005)


def test_the_rule_of_the_study_is_the_mean_over_all_pairs_of_pictures():
    pictures = shown(5, pictures=2, offset=0.2)
    found = coherence(pictures, TAXONOMY, "study", QUICK)
    unit = pictures.raw / np.linalg.norm(pictures.raw, axis=1, keepdims=True)
    for column, name in enumerate(TAXONOMY.hypernyms):
        inside = unit[np.isin(pictures.leaves, TAXONOMY.leaves_of(name))]
        cosines = (inside @ inside.T)[np.triu_indices(len(inside), 1)]
        assert found.within[column] == pytest.approx(cosines.mean(), abs=1e-12)
    assert np.isnan(found.between).all()


def test_centring_takes_out_what_all_pictures_share():
    apart, shifted = (coherence(shown(6, offset=by), TAXONOMY, "centred", QUICK).value for by in (0.0, 5.0))
    assert shifted == pytest.approx(apart, abs=1e-9)
    assert coherence(shown(6, offset=5.0), TAXONOMY, "uncentred", QUICK).between.min() > 0.9


def test_an_unknown_rule_is_refused():
    with pytest.raises(KeyError, match=r"rule 'raw' was asked for; known: centred, uncentred, study"):
        coherence(shown(0), TAXONOMY, "raw")


def test_relations_are_there_for_every_condition_and_over_all(table):
    related = table[table["measure"].isin(["pearson", "spearman", "slope"])]
    assert set(related["condition"]) == {"pretrained", "across", "all conditions"}
    assert set(related["rule"]) == {"centred", "uncentred", "study"}
    line = pick(related, condition="all conditions", rule="centred", target="auroc", measure="slope")
    assert line["n"] == 3


def test_a_planted_slope_is_found_by_the_mixed_model():
    rng = np.random.default_rng(0)
    cause = rng.normal(size=(40, 3))
    own = rng.normal(size=(40, 1))
    score = 0.2 * cause + own + 0.1 * rng.normal(size=cause.shape)
    rows = pd.DataFrame({
        "hypernym": np.repeat([f"h{k}" for k in range(40)], 3), "condition": ["a", "b", "c"] * 40,
        "cause": cause.ravel(), "score": score.ravel(),
    })  # fmt: skip
    found = mixed_slope(rows)
    assert found.lower < 0.2 * cause.std() < found.upper
    assert (
        found.upper - found.lower < 0.1
    )  # hypernyms differ ten times as much: their own intercepts take that out
    assert found.n == 40
    nothing = mixed_slope(rows.assign(score=rng.permutation(rows["score"])))
    assert nothing.lower < 0 < nothing.upper


def test_what_cannot_be_told_apart_is_not_a_number():
    rows = pd.DataFrame(
        {"hypernym": list("abcd"), "condition": "x", "cause": [1.0, 2, 3, 4], "score": [1.0, 2, 2, 3]}
    )
    assert np.isnan(mixed_slope(rows).value)
    assert np.isnan(correlation(np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 1.0]]), "pearson").value)
    with pytest.raises(KeyError, match=r"correlation 'kendall' was asked for; known: pearson, spearman"):
        correlation(np.zeros((4, 2)), "kendall")


def test_conditions_of_one_seed_have_no_slope_of_their_own():
    one = condition("pretrained", 1.0, seeds=(0,))
    found = coherence_table([one], {("pretrained", 0): shown(0)}, replace(QUICK, rules=("centred",)))
    assert np.isnan(pick(found, condition="pretrained", target="auroc", measure="slope")["value"])


def test_within_between_and_limit_are_those_of_pairs_of_leaves(table):
    pictures = [shown(seed) for seed in (0, 1)]
    members = np.asarray(TAXONOMY.labels(sorted(LEAVES)))
    within, between = [], []
    for one in pictures:
        leaves = sorted(set(one.leaves))
        x = one.seen - np.mean([one.seen[one.leaves == leaf].mean(0) for leaf in leaves], axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        means = np.stack([x[one.leaves == leaf].mean(0) for leaf in leaves])
        cosines = means @ means.T
        for kind, column in ((within, True), (between, False)):
            kind.append([_mean_of_pairs(cosines, own, own if column else ~own) for own in members.T])
    for k, name in enumerate(TAXONOMY.hypernyms):
        for measure, values in (("within", within), ("between", between)):
            line = pick(table, condition="pretrained", rule="centred", target=name, measure=measure)
            assert line["value"] == pytest.approx(np.mean(values, axis=0)[k])
    limits = [np.quantile(coherence(one, TAXONOMY, "centred", QUICK).null, 0.95) for one in pictures]
    line = pick(table, condition="pretrained", rule="centred", target="mean", measure="null_limit")
    assert line["value"] == pytest.approx(max(limits))
    assert min(limits) > 0.01


def _mean_of_pairs(cosines, first, second):
    pairs = first[:, None] & second[None] & ~np.eye(len(cosines), dtype=bool)
    return cosines[pairs].mean()


@pytest.fixture(scope="module")
def numbers(table, tmp_path_factory):
    return drawn.reread(drawn.distinct(table), tmp_path_factory.mktemp("coherence"))


def test_the_figure_of_coherence_shows_within_and_between_of_every_condition_and_rule(numbers):
    figure = analysis.draw(numbers)["coherence"]
    means = numbers[numbers["target"] == "mean"]
    assert [axes.get_title() for axes in figure.axes] == list(RULES)
    assert list(drawn.ticks(figure.axes[0], "y").values()) == ["pretrained", "across"]
    for axes in figure.axes:
        points = [one for one in axes.lines if len(one.get_xdata()) == 1]
        spans = [one for one in axes.lines if len(one.get_xdata()) == 2]
        assert len(points) == len(spans) == (2 if axes.get_title() == "study" else 4)
        for point, span in zip(points, spans, strict=True):
            kind = {"o": "within", "s": "between"}[point.get_marker()]
            name = ("pretrained", "across")[round(point.get_ydata()[0])]
            row = pick(means, rule=axes.get_title(), condition=name, measure=kind)
            assert point.get_xdata()[0] == row["value"]
            assert list(span.get_xdata()) == [row["lower"], row["upper"]]
            assert list(span.get_ydata()) == [point.get_ydata()[0]] * 2
            own = drawing.colour(name) if kind == "within" else "0.5"
            assert matplotlib.colors.to_hex(point.get_color()) == matplotlib.colors.to_hex(own)
    limit = means.loc[means["measure"] == "null_limit", "value"].max()
    assert f"reach a difference of {limit:.3f} at most" in " ".join(figure.texts[-1].get_text().split())


def test_the_figure_of_scores_shows_every_hypernym_of_every_condition_and_the_relations(numbers):
    figure = analysis.draw(numbers)["scores"]
    for axes, name in zip(figure.axes, ("pretrained", "across"), strict=True):
        rows = numbers[numbers["condition"] == name]
        score = rows[rows["measure"] == "auroc"].groupby("target")["value"].mean()
        x = rows[(rows["rule"] == "centred") & (rows["measure"] == "coherence")].set_index("target")["value"]
        points = sorted(map(tuple, axes.lines[0].get_xydata()))
        expected = sorted((x[target], score[target]) for target in TAXONOMY.hypernyms)
        np.testing.assert_allclose(points, expected)
        q = rows[(rows["rule"] == "centred") & (rows["measure"] == "q")].set_index("target")["value"]
        ringed = sorted((x[target], score[target]) for target in q[q <= 0.05].index)
        np.testing.assert_allclose(sorted(map(tuple, axes.lines[1].get_xydata())), ringed)
        for text in axes.texts:
            assert text.xy == (x[text.get_text()], pytest.approx(score[text.get_text()]))
        title = axes.get_title().splitlines()
        assert title[0] == name
        for line, (symbol, kind) in zip(
            title[1:], (("r", "pearson"), ("ρ", "spearman"), ("slope", "slope")), strict=True
        ):
            row = pick(rows, rule="centred", target="auroc", measure=kind)
            assert line == f"{symbol} = {row['value']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]"


def test_the_summary_says_the_means_and_relations_of_the_table(numbers):
    number = r"([+-][\d.]+)"
    place = r"(.+?) +(centred|uncentred|study) +(?:(auroc|macro_f1) +(\w+) +)?"
    line = rf"^  {place}{number} \[{number}, {number}\]  n = (\d+)$"
    said = re.findall(line, analysis.summary(numbers), flags=re.MULTILINE)
    assert len(said) == 2 * 3 + 3 * 2 * (2 * 3 + 1)
    for condition_name, rule, target, measure, *texts, n in said:
        at = {"target": target or "mean", "measure": measure or "coherence"}
        row = pick(numbers, condition=condition_name, rule=rule, **at)
        assert texts == [f"{row[name]:+.3f}" for name in ("value", "lower", "upper")]
        assert int(n) == row["n"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_coherence")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm), "capture.at=last"))
        pipeline.train_run(run)
        yield run


def test_cosines_are_of_what_enters_the_projector_and_the_studys_of_raw_features(monkeypatch):
    raw, standardised = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    rows = (FeatureRows.of(values) for values in (raw, standardised))
    own = Shown.of(EncoderRows(np.array(list("abcde")), np.array(list("xxyyz")), *rows))
    monkeypatch.setattr("analyses.visual_coherence.coherence.PART", 2 * 4 * 3 * 4)
    seen = list(own.rows)
    assert [len(part) for part in seen] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(seen), [one.ravel() for one in standardised])
    np.testing.assert_allclose(own.raw, [one.mean(axis=0) for one in raw])
    assert own.leaves.tolist() == list("xxyyz")


def test_a_run_that_was_not_evaluated_and_an_unknown_rule_are_refused_in_one_line(toy, capsys, monkeypatch):
    monkeypatch.setattr(analysis, "encoder_rows", lambda run: pytest.fail("features were read"))
    with pytest.raises(SystemExit) as refused:
        analysis.main(["--run", str(toy.path)])
    assert refused.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "python -m taxogen evaluate" in said
    monkeypatch.setattr(analysis, "conditions", lambda runs: pytest.fail("scores were read"))
    with pytest.raises(KeyError, match=r"rule 'raw' was asked for; known: centred, uncentred, study"):
        analysis.ANALYSIS.ask([toy], Options(rules=("raw",)))


def test_a_toy_run_from_the_command_line(toy, tmp_path, capsys):
    pipeline.evaluate_run(toy)
    analysis.main(
        ["--run", str(toy.path), "--rule", "study", "centred", "--draws", "20", "--out", str(tmp_path)]
    )
    table = pd.read_parquet(tmp_path / "visual_coherence.parquet")
    assert set(table["rule"]) == {"study", "centred", ""}
    assert set(table["condition"]) == {"pretrained"}
    assert (tmp_path / "scores.png").is_file()
    assert "Visual coherence" in capsys.readouterr().out
