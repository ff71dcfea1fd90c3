"""Visual coherence finds what is planted in features and how it goes with scores; the rule of the study."""

import numpy as np
import pandas as pd
import pytest

from analyses import visual_coherence as analysis
from analyses.visual_coherence.rows import Options, Shown, coherence
from probing.stats.correlations import correlation, mixed_slope
from tests.analyses.test_behaviour import LEAVES, TAXONOMY, condition

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
    return analysis.compute(found, pictures, options=QUICK)


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_planted_coherence_is_found_where_it_was_planted(table):
    values = {name: pick(table, condition="pretrained", rule="centred", target=name, measure="coherence")["value"]
              for name in STRENGTH}  # fmt: skip
    assert values["kind0"] > values["kind1"] > values["kind2"]
    line = pick(table, condition="pretrained", rule="centred", target="mean", measure="coherence")
    assert line["lower"] > 0
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


def test_the_figures_show_every_condition_and_can_be_redrawn_from_the_table_on_disk(table, tmp_path):
    table.to_csv(tmp_path / "table.csv", index=False)
    figures = analysis.draw(pd.read_csv(tmp_path / "table.csv", keep_default_na=False, na_values=["nan", ""]).fillna(
        {"rule": ""}))  # fmt: skip
    assert set(figures) == {"coherence", "scores"}
    assert [text.get_text() for text in figures["coherence"].axes[0].get_yticklabels()] == [
        "pretrained",
        "across",
    ]
    assert "r = " in figures["scores"].axes[0].get_title()


def test_the_summary_says_means_and_relations(table):
    text = analysis.summary(table)
    assert "pretrained" in text
    assert "all conditions" in text
    assert "slope" in text


def test_conditions_of_one_seed_have_no_slope_of_their_own():
    one = condition("pretrained", 1.0, seeds=(0,))
    found = analysis.compute([one], {("pretrained", 0): shown(0)}, ("centred",), QUICK)
    assert np.isnan(pick(found, condition="pretrained", target="auroc", measure="slope")["value"])
