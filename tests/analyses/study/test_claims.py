"""Claims: what planted tables say is said, with the numbers that they have."""

import itertools

import numpy as np
import pandas as pd
import pytest

from analyses.study import claims
from analyses.study.claims import CLAIMS, FAILS, HOLDS, UNDECIDED, verdicts
from analyses.study.contrasts import Pair, pairs

FULL = {"pretrained": "study-full-pretrained", "random": "study-full-random"}


def contrast(key, lower, upper, measure="auroc", label="a − b", seeds="0,1,2", effective=1.0):
    value = (lower + upper) / 2
    return {
        **vars(Pair(key, label, "study-a", "study-b")),
        "measure": measure,
        "value": value,
        "lower": lower,
    } | {
        "upper": upper,
        "n": 351,
        "seeds": seeds,
        "effective": effective,
    }


def score(condition, lower, upper, effective=1.0):
    value = (lower + upper) / 2
    row = {"condition": condition, "measure": "auroc", "baseline": "", "value": value, "lower": lower}
    return row | {"upper": upper, "n": 351, "seeds": "0,1,2", "effective": effective}


def verdict_of(key, kind, rows, scores=(), bound=0.03):
    found = verdicts(
        pd.DataFrame(scores, columns=list(score("", 0, 0))),
        pd.DataFrame(rows, columns=list(contrast("", 0, 0))),
        FULL,
        bound,
    )
    (one,) = [
        one
        for one in found
        if one.claim.key == key and one.claim.kind == kind and one.claim.measure == "auroc"
    ]
    return one


@pytest.mark.parametrize(
    ("lower", "upper", "outcome"),
    [
        (0.001, 0.4, HOLDS),
        (-0.001, 0.4, UNDECIDED),
        (-0.2, -0.1, FAILS),
        (-0.029, 0.029, FAILS),  # less than counts as a difference
        (np.nan, np.nan, UNDECIDED),
    ],
)
def test_one_exceeds_another_where_the_whole_interval_does(lower, upper, outcome):
    found = verdict_of("shuffle.coherence", "above", [contrast("shuffle.coherence", lower, upper)])
    assert found.outcome == (outcome if not np.isnan(lower) else UNDECIDED)
    if outcome == HOLDS:
        assert "hypernym AUROC a − b: +0.201 [+0.001, +0.400] (n = 351 leaf concepts, seeds 0, 1, 2)" in str(
            found
        )


@pytest.mark.parametrize(
    ("lower", "upper", "outcome"),
    [
        *((-0.02, 0.029, HOLDS), (-0.02, 0.031, UNDECIDED), (0.031, 0.2, FAILS), (-0.2, -0.031, FAILS)),
        *((0.001, 0.031, UNDECIDED), (-0.08, -0.019, UNDECIDED), (0.001, 0.029, HOLDS)),
    ],
)
def test_two_are_alike_only_where_the_whole_interval_lies_within_the_bounds(lower, upper, outcome):
    rows = [contrast("encoder", lower, upper)]
    found = verdict_of("encoder", "alike", rows)
    assert found.outcome == outcome
    assert "bounds of equivalence ±0.03, stated in the plan" in str(found)
    shown = "they differ, but whether by more than the bounds is open" in str(found)
    assert shown == (outcome == UNDECIDED and not lower <= 0 <= upper)
    without = verdict_of("encoder", "alike", rows, bound=np.nan)
    assert without.outcome == UNDECIDED
    assert "the plan states no bounds of equivalence" in str(without)
    assert str(without).endswith("they differ.") == (not lower <= 0 <= upper)


@pytest.mark.parametrize(
    ("of", "kind", "lower", "upper", "outcome"),
    [
        ("pretrained", "above_chance", 0.51, 0.9, HOLDS),
        ("pretrained", "above_chance", 0.49, 0.9, UNDECIDED),
        ("pretrained", "above_chance", 0.48, 0.51, FAILS),
        ("random", "at_chance", 0.48, 0.52, HOLDS),
        ("random", "at_chance", 0.44, 0.52, UNDECIDED),
        ("random", "at_chance", 0.54, 0.6, FAILS),
    ],
)
def test_a_condition_is_above_chance_or_at_it(of, kind, lower, upper, outcome):
    found = verdict_of(of, kind, [], [score(FULL[of], lower, upper)])
    assert found.outcome == outcome
    assert f"of study-full-{of} {(lower + upper) / 2:.3f} [{lower:.3f}, {upper:.3f}] (n = 351" in str(found)


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_a_claim_about_no_evidence_needs_runs_that_had_none(share):
    for label, kind, limits in (
        ("pretrained", "above_chance", (0.8, 0.9)),
        ("random", "at_chance", (0.49, 0.51)),
    ):
        found = verdict_of(label, kind, [], [score(FULL[label], *limits, effective=share)])
        assert found.outcome == UNDECIDED
        assert f"trained without {share:.1%}" in found.because
    for key, kind in (("full.init", "above"), ("full.embeddings", "above"), ("random.level", "alike")):
        limits = (0.1, 0.2) if kind == "above" else (-0.01, 0.01)
        whole, part = (contrast(key, *limits, effective=one) for one in (1.0, share))
        assert verdict_of(key, kind, [whole]).outcome == HOLDS
        assert "all hypernym questions removed" in verdict_of(key, kind, [whole]).because
        assert verdict_of(key, kind, [part]).outcome == UNDECIDED
        assert verdict_of(key, kind, [whole, part]).outcome == UNDECIDED
    part = contrast("systematic.level", 0, 0.01, effective=share)
    assert verdict_of("systematic.level", "alike", [part]).outcome == HOLDS


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_levels_are_found_wherever_they_stand_and_apart_for_what_else_varies(order):
    members = {}
    for words in itertools.product((".1", ".9", "0"), ("e1", "e2", "64"), ("pretrained", "random")):
        members[" · ".join(words[at] for at in order)] = "-".join(words)
    found = pairs({"systematic": members})
    inits = {(pair.first, pair.second) for pair in found if pair.key == "systematic.init"}
    assert inits == {
        (f"{level}-{other}-pretrained", f"{level}-{other}-random")
        for level in (".1", ".9")
        for other in ("e1", "e2", "64")
    }
    levels = {pair.label: (pair.first, pair.second) for pair in found if pair.key == "systematic.level"}
    assert levels == {
        f".9 − .1 · {other}": (f".9-{other}-pretrained", f".1-{other}-pretrained")
        for other in ("e1", "e2", "64")
    }


def test_a_claim_about_every_level_needs_every_level():
    levels = [contrast("random.init", 0.1, 0.2, label=".1"), contrast("random.init", 0.1, 0.3, label="1")]
    assert verdict_of("random.init", "above", levels).outcome == HOLDS
    assert (
        verdict_of("random.init", "above", [*levels, contrast("random.init", -0.1, 0.2)]).outcome == UNDECIDED
    )
    assert verdict_of("random.init", "above", [*levels, contrast("random.init", -0.2, -0.1)]).outcome == FAILS
    missing = contrast("random.init", np.nan, np.nan, label=".5", seeds="")
    part = verdict_of("random.init", "above", [*levels, missing])
    assert part.outcome == UNDECIDED
    assert "Not finished: .5" in str(part)
    assert str(part).count("n = 351") == 1


def test_what_has_not_been_run_is_said():
    missing = contrast("shuffle.coherence", np.nan, np.nan, seeds="")
    found = verdict_of("shuffle.coherence", "above", [missing])
    assert str(found).endswith("undecided. No finished runs of one seed of study-a and study-b.")
    assert "No run of study-full-random is finished." in str(verdict_of("random", "at_chance", []))
    assert "The plan has no contrast 'projector'." in str(verdict_of("projector", "alike", []))
    assert len(
        verdicts(pd.DataFrame(columns=list(score("", 0, 0))), pd.DataFrame([missing]), {}, 0.03)
    ) == len(CLAIMS)


def test_one_seed_is_said_to_be_one_and_naming_stands_beside():
    rows = [
        contrast("shuffle.coherence", 0.1, 0.2, seeds="0"),
        contrast("shuffle.coherence", 0.0, 0.2, measure="leaf_naming", seeds="0"),
    ]
    text = str(verdict_of("shuffle.coherence", "above", rows))
    assert "seed 0, differences between seeds not included" in text
    assert "Beside it, leaf naming a − b: +0.100 [+0.000, +0.200]" in text


def test_pairs_follow_from_the_names_of_groups_and_of_what_varies():
    random = {
        f"{level} · {init}": f"r{level}-{init}"
        for level in ("0", ".1", "1")
        for init in ("pretrained", "random")
    }
    shuffle = {
        name: f"s-{name}" for name in ("none", "within", "across", "graded.75", "graded.25", "graded.5")
    }
    found = pairs({"full": FULL, "random": random, "shuffle": shuffle, "encoder": {"one": "e1", "two": "e2"}})
    of_key = {}
    for pair in found:
        of_key.setdefault(pair.key, []).append((pair.label, pair.first, pair.second))
    assert of_key["full.init"] == [("pretrained − random", *FULL.values())]
    assert "full.embeddings" not in of_key
    assert of_key["random.init"] == [
        (".1", "r.1-pretrained", "r.1-random"),
        ("1", "r1-pretrained", "r1-random"),
    ]
    assert of_key["random.level"] == [("1 − .1", "r1-pretrained", "r.1-pretrained")]
    assert of_key["shuffle.dose"] == [("graded.75 − graded.25", "s-graded.75", "s-graded.25")]
    assert of_key["shuffle.coherence"] == [("within − across", "s-within", "s-across")]
    assert of_key["encoder"] == [("two − one", "e2", "e1")]
    assert {one.key for one in claims.CLAIMS} >= {
        "shuffle.coherence",
        "random.init",
        "random.level",
        "encoder",
    }
