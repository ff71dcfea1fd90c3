import itertools
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from analyses import published
from analyses.inputs.published import scores as published_scores
from analyses.inputs.published.released import LMS, Released, condition_key, counts_file, parse_run
from analyses.published.table import published_table
from analyses.published.text import faults
from probing.stats.correlations import correlation

HYPERNYMS = ("animal", "bird", "musical", "tool")
LEAVES = {
    **{f"bird{letter}": ["animal", "bird"] for letter in "abc"},
    "bird": ["animal", "bird"],
    **{f"horn{letter}": ["musical"] for letter in "ab"},
    **{f"saw{letter}": ["tool"] for letter in "abc"},
}
AMOUNTS = (
    "",
    *(f"+hyp-abl{n}" for n in (10, 30, 50, 70, 90)),
    *(f"+hyp-abl{n}cat" for n in (10, 20, 30, 40)),
)
PARTS = (
    "",
    *(f"_ablated_{n}pct" for n in (10, 30, 50, 70, 90)),
    *(f"_ablated_{n}cat" for n in (10, 20, 30, 40)),
)


def write(folder, name, table):
    pd.DataFrame(table).to_csv(folder / name, index=False)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("release"))


PUBLIC = (
    "macro_f1_heldout.csv",
    "macro_f1_heldout_llama.csv",
    "majority_macro_f1.csv",
    "visual_coherence.csv",
    "coherence_backbone.csv",
)


def test_the_five_public_files_alone_give_their_sections_and_no_others(release, tmp_path, caplog):
    data, out = tmp_path / "five", tmp_path / "out"
    data.mkdir()
    for name in PUBLIC:
        shutil.copy(release / name, data / name)
    published.main(["--data", str(data), "--out", str(out)])
    assert (
        "test_counts.csv, published_conditions.csv, lm_yes_no.csv.gz, things_leaf_hypernyms.json"
        in caplog.text
    )
    few, whole = (published_table(Released(folder)) for folder in (data, release))
    sections = {"conditions", "runs", "majority_macro_f1", "coherence_vs_f1", "visual_coherence", "height"}
    assert set(few["section"]) == sections
    place = ["section", "key", "target", "measure"]
    both = few.merge(whole, on=place, suffixes=("", "_whole"))
    assert len(both) == len(few)
    np.testing.assert_array_equal(both["value"], both["value_whole"])
    lost = set(whole[whole["section"] == "conditions"]["measure"]) - set(few["measure"])
    assert lost == {"share_of_questions"}
    assert not any(math.isnan(fault["found"]) for fault in faults(few))
    assert 0 < len(faults(few)) < len(faults(whole))
    text = (out / "published.md").read_text()
    assert "| share of questions removed | – |" in text
    assert not list(out.glob("*.png"))


def write_release(folder):
    """Fills a folder like the released one: every condition, four hypernyms, random numbers."""
    rng = np.random.default_rng(0)
    ends = [f"{shuffle}-{seed}" for shuffle in ("", "-shuffled", "-local-shuffled") for seed in (7, 42, 218)]
    for name, codes in (("", ("500m", "1b")), ("_llama", ("1b-llama", "1b-llama-chat"))):
        runs = [
            f"align-dinov2+{lm}-things{amount}{end}" for lm in codes for amount in AMOUNTS for end in ends
        ]
        runs += [f"align-dinov2+{lm}-things-{seed}-random" for lm in codes for seed in (7, 42, 218)]
        scores = dict(zip(HYPERNYMS, rng.random((4, len(runs))), strict=True))
        write(folder, f"macro_f1_heldout{name}.csv", {"run_name": runs, **scores})
    tests = [f"test_hyp{part}{end}" for part in PARTS for end in ("", "_shuffled", "_local_shuffled")]
    counts = pd.DataFrame(itertools.product(tests, HYPERNYMS), columns=["ds", "hypernym"])
    counts["P"], counts["neg"] = rng.integers(0, 3, len(counts)) * 10, rng.integers(1, 30, len(counts))
    counts.loc[counts["hypernym"].isin(["animal", "bird"]), "P"] = 20
    counts["N"] = counts["P"] + counts["neg"]
    write(folder, "test_counts.csv", counts)
    write(
        folder,
        "majority_macro_f1.csv",
        {"run_name": tests, **{name: rng.random(len(tests)) for name in HYPERNYMS}},
    )
    printed = pd.DataFrame(
        itertools.product(
            ("Held-Out Hypernyms", "Leaves"),
            ("Qwen3-0.6B", "Qwen3-1.7B", "Llama3.2-1B", "Llama3.2-1B-Instruct"),
            ("Original", "Across-category"),
        ),
        columns=["experiment", "lm", "shuffle"],
    ).assign(
        encoder="DINOv2", random=False, ablation_type="Full", ablation_amt=100, n=12, sd=0.1, ci95_half=0.05
    )
    write(folder, "published_conditions.csv", printed.assign(mean=rng.random(len(printed))))
    asked = {
        "concept": ["birda", "hornb"] * 20,
        "hypernym": ["bird", "tool"] * 20,
        "answer": ["Yes", "No"] * 20,
    }
    said = rng.choice(["yes", "no"], 40)
    write(folder, "per_question_toy.csv.gz", {**asked, "predicted_answer": said})
    text = pd.DataFrame(
        {"hyponym": asked["concept"], "pos_hypernym": asked["hypernym"], "label": asked["answer"]}
    )
    text = pd.concat([text.assign(phrasing_id=number) for number in (1, 2, 3, 4)], ignore_index=True)
    text = text.assign(selected=text["phrasing_id"] == 2)
    for lm in ("qwen3-0.6b", "qwen3-1.7b"):
        chance = rng.random(len(text))
        ranks = {f"{lm}_rank_yes": 1 + (chance < 0.5), f"{lm}_rank_no": 1 + (chance >= 0.5)}
        text = text.assign(**{f"{lm}_p_yes": chance, **ranks})
    write(folder, "lm_yes_no.csv.gz", text)
    surface = [name.replace("musical", "musical instrument") for name in HYPERNYMS]
    seen = itertools.product(("original", "shuffled", "local_shuffled"), surface)
    coherence = pd.DataFrame(seen, columns=["shuffle_type", "category"])
    write(folder, "visual_coherence.csv", coherence.assign(avg_cosine=rng.random(12)))
    known = pd.DataFrame(
        itertools.product(("Qwen3-0.6B", "Qwen3-1.7B"), surface), columns=["model", "category"]
    )
    known = known.assign(hypernym=known["category"], backbone_acc=rng.random(8), backbone_f1=rng.random(8))
    write(folder, "coherence_backbone.csv", known)
    (folder / "things_leaf_hypernyms.json").write_text(json.dumps(LEAVES))
    lists = {
        "10": ["bird"],
        "20": ["bird", "tool"],
        "30": ["animal", "tool", "musical"],
        "40": list(HYPERNYMS),
    }
    lists["40"] = lists["40"][:3]
    (folder / "systematic_lists.json").write_text(json.dumps(lists))
    return folder


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("align-dinov2+1b-things-7", ("qwen3-1.7b", "dinov2", "pretrained", "full", 100, "original", 7)),
        (
            "align-dinov2+500m-things+hyp-abl30-local-shuffled-218",
            ("qwen3-0.6b", "dinov2", "pretrained", "random", 30, "within", 218),
        ),
        (
            "align-dinov2+1b-llama-chat-things+hyp-abl40cat-shuffled-42",
            ("llama3.2-1b-instruct", "dinov2", "pretrained", "systematic", 40, "across", 42),
        ),
        (
            "align-siglip+1b-llama-things+hyp-abl90-7-random",
            ("llama3.2-1b", "siglip", "random", "random", 90, "original", 7),
        ),
    ],
)
def test_run_names_are_read(name, found):
    names = ("lm", "encoder", "init", "ablation", "amount", "shuffle", "seed")
    assert parse_run(name) == dict(zip(names, found, strict=True))


def test_names_of_conditions_and_test_files():
    about = parse_run("align-dinov2+1b-things+hyp-abl30-shuffled-7")
    assert condition_key(about) == "qwen3-1.7b_dinov2_random30_across"
    assert condition_key(parse_run("align-dinov2+500m-things-7-random")) == (
        "qwen3-0.6b_dinov2_full_original_random-init"
    )
    assert counts_file("random", 30, "across") == "test_hyp_ablated_30pct_shuffled"
    assert counts_file("systematic", 10, "within") == "test_hyp_ablated_10cat_local_shuffled"
    assert counts_file("full", 100, "original") == "test_hyp"


def test_a_strange_run_name_and_a_strange_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"run name 'align-clip.* is not of the form align-ENCODER"):
        parse_run("align-clip+1b-things-7")
    with pytest.raises(FileNotFoundError, match=r"holds no macro_f1_heldout\.csv; .*--data"):
        Released(tmp_path)
    (tmp_path / "macro_f1_heldout.csv").touch()
    for read in (Released.published, Released.taxonomy):
        with pytest.raises(
            FileNotFoundError, match=r"holds no \w+\.(csv|json), which .*docs/published\.md says"
        ):
            read(Released(tmp_path))


def test_a_leaf_named_like_a_hypernym_keeps_a_place_of_its_own(release):
    taxonomy = Released(release).taxonomy()
    assert taxonomy.hypernyms == HYPERNYMS
    assert len(taxonomy.leaves) == len(LEAVES)
    assert taxonomy.hypernyms_of("bird (leaf)") == ("animal", "bird")


def test_conditions_are_plain_means(release):
    found = pd.DataFrame(published_scores.conditions(Released(release)))
    wide = pd.read_csv(release / "macro_f1_heldout.csv").set_index("run_name")
    names = [f"align-dinov2+1b-things+hyp-abl20cat-shuffled-{seed}" for seed in (7, 42, 218)]
    values = wide.loc[names]
    part = found[found["key"] == "qwen3-1.7b_dinov2_systematic20_across"].set_index(["target", "measure"])[
        "value"
    ]
    assert part["mean", "macro_f1"] == pytest.approx(values.to_numpy().mean())
    assert part["mean", "macro_f1_crossed"] == pytest.approx(values.to_numpy().mean())
    assert part["listed", "macro_f1"] == pytest.approx(values[["bird", "tool"]].to_numpy().mean())
    assert part["unlisted", "macro_f1"] == pytest.approx(values[["animal", "musical"]].to_numpy().mean())
    assert part["bird", "macro_f1"] == pytest.approx(values["bird"].mean())
    assert len(set(found["key"])) == len(LMS) * (10 * 3 + 1)


def test_correlations_are_scipys():
    pair = np.random.default_rng(0).normal(size=(40, 2)) @ np.array([[1, 0.5], [0, 1]])
    for measure in ("pearson", "spearman"):
        found = correlation(pair, measure)
        assert found.value == pytest.approx(pd.DataFrame(pair).corr(measure).iloc[0, 1])
        assert found.lower < found.value < found.upper


def test_the_whole_analysis_writes_what_it_says(release, tmp_path, capsys):
    published.main(["--data", str(release), "--out", str(tmp_path / "out")])
    names = {f"published.{kind}" for kind in ("json", "parquet", "csv", "md", "png", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"made.json"}
    table = pd.read_parquet(tmp_path / "out" / "published.parquet")
    numbers = json.loads((tmp_path / "out" / "published.json").read_text())
    line = table[(table["section"] == "runs")].iloc[0]
    assert numbers["runs"][line["key"]]["mean"]["macro_f1"]["value"] == line["value"]
    assert "lower" not in numbers["per_question"]["per_question_toy"]["pooled"]["n"]
    said = capsys.readouterr().out
    assert "## Faults" in said
    assert "leaf questions name held-out hypernyms" in said
    assert "## Other tables" in (tmp_path / "out" / "published.md").read_text()


def test_faults_stand_beside_the_values(release):
    found = faults(published_table(Released(release)))
    assert {line["fault"] for line in found} >= {
        "a drawn leaf is removed from all its hypernyms at once",
        "the across shuffle also costs leaf accuracy",
    }
    of = {line["fault"]: line for line in found}
    assert of["the printed correlation is not the data's"]["printed"] == 0.43  # docs/published.md, "Faults"
    named = found[-1]
    assert (named["printed"], named["found"]) == (0.0, 1.0)
    assert all(np.isfinite([line["printed"], line["found"]]).all() for line in found)


def test_the_figure_shows_every_condition_over_the_share_that_was_really_removed(release):
    table = published_table(Released(release))
    (figure,) = published.draw(table).values()
    rows = table[
        (table["section"] == "conditions") & (table["target"] == "mean") & (table["encoder"] == "dinov2")
    ]
    lms = sorted(set(rows["lm"]))
    panels = np.array(figure.axes).reshape(2, len(lms))
    for line, kind in zip(panels, ("random", "systematic"), strict=True):
        for axes, lm in zip(line, lms, strict=True):
            assert axes.get_title() == (f"{lm}, {kind}" if kind == "random" else kind)
            of = rows[(rows["lm"] == lm) & rows["ablation"].isin([kind, "full"])]
            for label, init, shuffle in (
                *((name, "pretrained", name) for name in ("original", "within", "across")),
                ("random-init", "random", "original"),
            ):
                curve = of[(of["init"] == init) & (of["shuffle"] == shuffle)]
                wide = curve.pivot(index="amount", columns="measure", values=["value", "lower", "upper"])
                columns = [("value", "share_of_questions"), ("value", "macro_f1_crossed")]
                wide = wide.sort_values(columns)
                (drawn,) = [one for one in axes.get_lines() if one.get_label() == label]
                points = sorted(zip(drawn.get_xdata(), drawn.get_ydata(), strict=True))
                np.testing.assert_allclose(points, wide[columns])
                assert list(drawn.get_xdata()) == sorted(drawn.get_xdata())
                tint = to_rgba(drawn.get_color())[:3]
                (band,) = [one for one in axes.collections if np.allclose(one.get_facecolor()[0][:3], tint)]
                edges = band.get_paths()[0].vertices
                if len(wide) > 1:
                    low, high = (
                        wide[[("lower", "macro_f1_crossed"), ("upper", "macro_f1_crossed")]].to_numpy().T
                    )
                    assert (edges[:, 1].min(), edges[:, 1].max()) == pytest.approx((low.min(), high.max()))
            (majority,) = [one for one in axes.get_lines() if one.get_label() == "majority answer"]
            plain = of[(of["init"] == "pretrained") & (of["shuffle"] == "original")]
            plain = plain.pivot(index="amount", columns="measure", values="value")
            np.testing.assert_allclose(sorted(majority.get_ydata()), sorted(plain["majority_macro_f1"]))


def test_the_summary_is_the_first_table_and_the_faults_of_the_page(release, tmp_path):
    table = published_table(Released(release))
    text = published.summary(table)
    row = table[(table["section"] == "conditions") & (table["key"] == "qwen3-1.7b_dinov2_full_original")]
    row = row[(row["target"] == "mean") & (row["measure"] == "macro_f1")].iloc[0]
    assert f"{row['value']:.3f}" in text
    for fault in faults(table):
        assert fault["fault"] in text
