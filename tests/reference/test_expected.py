"""The published values, re-computed through the functions that users call.

They rest on the released files where these are there, otherwise on the short tables in data/.
"""

import atexit
import functools
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses import published
from analyses.inputs.published import scores as published_scores
from analyses.inputs.published.released import CONDITION, HEIGHTS, Released, condition_key, counts_file
from analyses.published import answers, rows
from analyses.published.answers import lm_answers, questions
from analyses.published.design import design
from probing.stats.confusion import Confusion, by_hypernym, confusion
from taxogen.questions import ablation
from taxogen.world import shuffle
from taxogen.world.splits import cut
from tests.reference.short_tables import DATA, short_tables, unfold

RELEASED = Path(os.environ.get("TAXOPROBE_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
WHOLE = (RELEASED / "expected.json").is_file()
whole = pytest.mark.skipif(not WHOLE, reason=f"needs all released files, which are not in {RELEASED}")
EXACT = {"abs": 1e-9, "rel": 0}


@functools.cache
def folder() -> Path:
    """The released files, or what the short tables unfold to."""
    if WHOLE:
        return RELEASED
    unfolded = tempfile.TemporaryDirectory()
    atexit.register(unfolded.cleanup)
    unfold(Path(unfolded.name))
    return Path(unfolded.name)


@functools.cache
def expected():
    return json.loads((folder() / "expected.json").read_text(encoding="utf-8"))


@functools.cache
def data():
    return Released(folder())


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    """Values do not depend on the number of draws, only intervals do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (published_scores, rows, answers):
            patch.setattr(module, "DRAWS", 40)
        patch.setattr(design, "__defaults__", (20,))
        patch.setattr(lm_answers, "__defaults__", (("selected",),))
        yield


@functools.cache
def section(function):
    return published.nested(pd.DataFrame(function(data())).assign(sd=lambda table: table.get("sd", np.nan)))


def test_single_questions():
    wanted = expected()["per_question_qwen3-1.7b_nov2025"]
    found = section(questions)["per_question"]["per_question_qwen3-1.7b_nov2025"]
    pooled = found["pooled"]
    assert pooled["n"]["value"] == wanted["n"]
    for name, measure in (
        ("accuracy", "accuracy"),
        ("pooled_macro_f1", "macro_f1"),
        ("tpr", "tpr"),
        ("tnr", "tnr"),
    ):
        assert pooled[measure]["value"] == pytest.approx(wanted[name], **EXACT)
    assert found["mean"]["macro_f1"]["value"] == pytest.approx(wanted["mean_macro_f1_over_53"], **EXACT)
    assert found["mean"]["macro_f1"]["n"] == 53


def test_single_questions_through_the_metrics_themselves():
    table = data().table("per_question_qwen3-1.7b_nov2025.csv.gz")
    answer, given = (table[name].str.lower() == "yes" for name in ("answer", "predicted_answer"))
    names, counts = by_hypernym(given.to_numpy(), answer.to_numpy(), table["hypernym"].to_numpy())
    wanted = expected()["per_question_qwen3-1.7b_nov2025"]
    assert len(names) == 53
    assert counts.macro_f1("study").mean() == pytest.approx(wanted["mean_macro_f1_over_53"], **EXACT)
    whole = confusion(given.to_numpy()[:, None], answer.to_numpy()[:, None])
    assert whole.tpr[0] == pytest.approx(wanted["tpr"], **EXACT)
    assert whole.macro_f1()[0] == pytest.approx(wanted["pooled_macro_f1"], **EXACT)


def test_one_condition():
    name = "condition_qwen3-1.7b_dinov2_full_original"
    wanted = next(value for key, value in expected().items() if key.startswith(name))
    found = section(published_scores.conditions)["conditions"]["qwen3-1.7b_dinov2_full_original"]["mean"][
        "macro_f1"
    ]
    assert found["n"] == wanted["n"]
    assert found["value"] == pytest.approx(wanted["mean"], **EXACT)
    assert found["sd"] == pytest.approx(wanted["sd"], **EXACT)
    assert (found["upper"] - found["lower"]) / 2 == pytest.approx(wanted["ci95"], **EXACT)


@whole
def test_every_condition_that_was_published_with_raw_scores():
    printed = data().published().query("experiment == 'Held-Out Hypernyms'")
    found = section(published_scores.conditions)["conditions"]
    checked = 0
    for line in printed.to_dict("records"):
        key = condition_key(line)
        if line["lm"] == "qwen3-8b":
            assert key not in found
            continue
        mean = found[key]["mean"]
        assert mean["macro_f1"]["n"] == line["n"]
        assert mean["macro_f1"]["value"] == pytest.approx(line["mean"], **EXACT)
        assert mean["macro_f1"]["sd"] == pytest.approx(line["sd"], **EXACT)
        half = (mean["macro_f1"]["upper"] - mean["macro_f1"]["lower"]) / 2
        assert half == pytest.approx(line["ci95_half"], **EXACT)
        assert mean["sd_of_seed_means"]["value"] == pytest.approx(line["seed_mean_sd"], **EXACT)
        if line["shuffle"] == "original":
            effective = line["deprivation_effective_pct_of_hyp_questions"]
            assert 100 * mean["share_of_questions"]["value"] == pytest.approx(effective, **EXACT)
        checked += 1
    assert checked == len(found) == 142
    assert len(section(rows.as_printed)["as_printed"]) >= 142


@whole
def test_every_run_and_seed():
    found = section(rows.runs)["runs"]
    for name in ("macro_f1_heldout.csv", "macro_f1_heldout_llama.csv"):
        wide = data().table(name).set_index("run_name")
        for run, line in wide.iterrows():
            assert found[run]["mean"]["macro_f1"]["value"] == pytest.approx(line.mean(), **EXACT)
    assert len(found) == 246 + 180


def test_the_listed_hypernyms_alone_score_less_than_was_plotted():
    found = section(published_scores.conditions)["conditions"]["qwen3-1.7b_dinov2_systematic10_original"]
    assert round(found["mean"]["macro_f1"]["value"], 3) == 0.737
    assert round(found["listed"]["macro_f1"]["value"], 3) == 0.436
    assert found["listed"]["macro_f1"]["n"] == 30


def test_coherence_and_macro_f1():
    found = section(rows.coherence)
    for measure, wanted in expected()["coherence_vs_f1_qwen3-1.7b_seed7"].items():
        estimate = found["coherence_vs_f1"]["qwen3-1.7b_seed7"]["avg_cosine"][measure]
        assert estimate["value"] == pytest.approx(wanted, **EXACT)
        assert estimate["lower"] < wanted < estimate["upper"]
    for name, wanted in expected()["visual_coherence_means"].items():
        assert found["visual_coherence"][name]["mean"]["avg_cosine"]["value"] == pytest.approx(
            wanted, **EXACT
        )
    assert len(found["coherence_vs_f1"]) == (4 * 3 * 3 + 2 * 3 if WHOLE else 9)


def test_majority_baselines():
    wanted, found = expected()["majority_macro_f1"], section(rows.majority)["majority_macro_f1"]
    for name in ("test_hyp", "test_hyp_ablated_10cat"):
        assert found[name]["mean"]["study"]["value"] == pytest.approx(wanted[name], **EXACT)
    one = Confusion(*(np.array([number]) for number in (702.0, 0.0, 0.0, 127.0))).majority()
    assert one.macro_f1("study")[0] == pytest.approx(wanted["pos 702 neg 127"], **EXACT)
    assert one.macro_f1("nan")[0] == pytest.approx(wanted["pos 702 neg 127"], **EXACT)
    single = Confusion(*(np.array([number]) for number in (5.0, 0.0, 0.0, 0.0))).majority()
    assert single.macro_f1("study")[0] == wanted["single class"]


def test_majority_baselines_of_every_file_and_hypernym_follow_from_the_counts():
    table = data().table("majority_macro_f1.csv").set_index("run_name")
    counts = data().table("test_counts.csv")
    for name, group in counts.groupby("ds"):
        found = rows.majority_of(group).macro_f1("study")
        assert found == pytest.approx(table.loc[name, group["hypernym"]].to_numpy(float), **EXACT)
    assert counts["ds"].nunique() == (30 if WHOLE else 2)


@pytest.mark.parametrize("lm", ["qwen3-0.6b", "qwen3-1.7b"])
def test_text_questions(lm):
    found = section(lm_answers)["lm_yes_no"][f"selected_{lm}"]["pooled"]
    table = data().table("lm_yes_no.csv.gz").query("selected")
    right = (table[f"{lm}_rank_yes"] < table[f"{lm}_rank_no"]) == (table["label"] == "Yes")
    assert found["accuracy"]["value"] == pytest.approx(right.mean(), **EXACT)
    if lm == "qwen3-0.6b":
        for name, wanted in expected()["lm_yes_no_selected_qwen3-0.6b"].items():
            measure = {"acc": "accuracy"}.get(name, name)
            assert found[measure]["value"] == pytest.approx(wanted, **EXACT)


@pytest.mark.parametrize("lm", ["qwen3-0.6b", "qwen3-1.7b"])
def test_what_the_lm_knows_of_each_hypernym(lm):
    found = section(lm_answers)["lm_yes_no"][f"selected_{lm}"]
    table = data().table("coherence_backbone.csv").drop_duplicates(["model", "hypernym"])
    table = table[table["model"].str.lower() == lm]
    names = data().lm_names()
    assert len(table) == 53
    for line in table.itertuples():
        each = found[names[line.hypernym]]
        assert each["accuracy"]["value"] == pytest.approx(line.backbone_acc, **EXACT)
        assert each["macro_f1"]["value"] == pytest.approx(line.backbone_f1, **EXACT)


def test_heights():
    wanted = expected()["height_groups"]
    for height in ("2", "3"):
        assert sorted(name for name, value in HEIGHTS.items() if value == int(height)) == sorted(
            wanted[height]
        )
    found = section(rows.heights)["height"]["qwen3-0.6b"]
    for line in wanted["qwen3-0.6b"]:
        estimate = found[f"height{line['depth']}"]["macro_f1"]
        assert estimate["n"] == line["n"]
        assert estimate["value"] == pytest.approx(line["acc"], **EXACT)
        assert estimate["sd"] == pytest.approx(line["sd"], **EXACT)
        assert (estimate["upper"] - estimate["lower"]) / 2 == pytest.approx(line["conf"], **EXACT)


def test_the_systematic_leaf_rule():
    wanted, taxonomy = expected()["systematic_leaf_rule"], data().taxonomy()
    assert len(taxonomy.leaves) == wanted["leaves_total"]
    for amount, listed in data().mapping("systematic_lists.json").items():
        removal = ablation.plan(taxonomy, "systematic", rule="leaf", held_out=listed)
        assert len(removal.leaves) == wanted["leaves_removed"][amount]


def test_the_random_leaf_rule():
    found = section(design)["random_leaf_rule"]
    for fraction, (wanted, tolerance) in expected()["random_leaf_rule_effective_fraction_expected"].items():
        assert found[fraction]["pairs"]["share"]["value"] == pytest.approx(wanted, abs=tolerance)
    pair = section(design)["random_pair_rule"]
    for fraction in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert pair[str(fraction)]["pairs"]["share"]["value"] == pytest.approx(fraction, abs=0.01)


def test_the_groups_of_the_within_shuffle():
    wanted, taxonomy = expected()["within_shuffle_groups"], data().taxonomy()
    sizes = [len(members) for members in shuffle.exact_groups(taxonomy).values()]
    assert len(sizes) == wanted["groups"]
    assert sizes.count(1) == wanted["singletons"]
    assert sizes.count(2) == wanted["pairs"]
    assert list(shuffle.orphans(taxonomy)) == wanted["orphans"]
    merged = shuffle.groups(taxonomy)
    assert len(merged) == wanted["groups"] - wanted["singletons"]
    assert sum(len(members) for members in merged.values()) == 1222
    found = shuffle.leaf_map(taxonomy, "within", seed=42)
    assert sorted(found.values()) == list(taxonomy.leaves)
    assert all(leaf != name for leaf, name in found.items())


@pytest.mark.parametrize(
    ("n", "parts"), [(12, (8, 1, 3)), (13, (9, 0, 4)), (16, (11, 1, 4)), (20, (14, 1, 5))]
)
def test_the_split_of_the_study(n, parts):
    assert cut(n) == parts


@whole
def test_names_of_runs_and_files_fit_together():
    held_out = data().held_out()
    assert held_out["hypernym"].nunique() == 53
    assert set(held_out["seed"]) == {7, 42, 218}
    files = {
        counts_file(*line)
        for line in held_out[["ablation", "amount", "shuffle"]].drop_duplicates().to_numpy()
    }
    assert files == set(data().table("test_counts.csv")["ds"])
    assert held_out.groupby(list(CONDITION))["seed"].nunique().eq(3).all()


@whole
def test_the_short_tables_follow_from_the_released_files():
    for name, table in short_tables(RELEASED).items():
        kept = pd.read_csv(DATA / f"{name}.csv", dtype=str, keep_default_na=False)
        made = pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)
        pd.testing.assert_frame_equal(made, kept)
    assert json.loads((DATA / "expected.json").read_text()) == expected()
