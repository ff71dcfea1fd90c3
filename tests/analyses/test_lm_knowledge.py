"""What a language model knows in words: planted in read-outs, asked of a toy model, compared with planted answers."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analyses import lm_knowledge as analysis
from analyses.inputs.intervals import ONE_SEED, Rule
from analyses.lm_knowledge.readouts import Knowledge, LeafList, ask
from analyses.lm_knowledge.rows import agreement_rows, knowledge_table
from taxogen.models import lms
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.test_behaviour import LEAVES, TAXONOMY, condition
from tests.conftest import LEAVES as TOY

QUICK = Rule(draws=60)
LABELS = np.asarray(TAXONOMY.labels(LEAVES))
TALL = Taxonomy((*((f"leaf{n:02}", f"kind{n % 6}") for n in range(60)), ("kind0", "top"), ("kind1", "top")))


def known(strength=3.0, readout="completion", shift=0.0) -> Knowledge:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=LABELS.shape) + strength * LABELS + shift
    about = {"lm": "toy", "init": "pretrained", "lm_seed": -1, "readout": readout}
    return Knowledge(about, LeafList.of(TAXONOMY, "list"), {"kind": scores})


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_planted_knowledge_has_its_size_and_planted_nothing_is_at_chance():
    table = knowledge_table([known(1.5), known(0.0, "yes_no")], rule=QUICK)
    found = pick(table, readout="completion", measure="auroc", target="mean")
    assert found["lower"] < 0.8556 < found["upper"]  # Φ(1.5 / √2)
    assert found["n"] == 60
    nothing = pick(table, readout="yes_no", measure="auroc", target="mean")
    assert nothing["lower"] < 0.5 < nothing["upper"]
    assert len(table[(table["measure"] == "auroc") & (table["readout"] == "completion")]) == 1 + 3


def test_a_yes_no_read_out_that_always_says_no_is_bad_at_zero_and_good_by_prevalence():
    table = knowledge_table([known(6.0, "yes_no", shift=-20.0)], rule=QUICK)
    rates = {
        name: pick(table, measure="tpr", target="mean", decision=name)["value"]
        for name in ("zero", "prevalence")
    }
    assert rates["zero"] == 0.0
    assert rates["prevalence"] > 0.98
    assert "zero" not in set(knowledge_table([known()], rule=QUICK)["decision"])


def test_a_planted_effect_of_height_is_found():
    rng = np.random.default_rng(1)
    leaves = LeafList.of(TALL, "tall")
    labels = np.asarray(TALL.labels(TALL.leaves))
    low = np.array([leaves.heights[name] == 1 for name in TALL.hypernyms])
    one = dataclasses.replace(
        known(), leaves=leaves, scores={"kind": rng.normal(size=labels.shape) + 3.0 * labels * low}
    )
    table = knowledge_table([one], rule=QUICK)
    by_height = table[table["measure"] == "auroc_by_height"].set_index("target")
    assert by_height.loc["height 1", "lower"] > 0.9
    assert by_height.loc["height 2", "value"] < 0.7
    assert by_height["n"].to_dict() == {"height 1": 6, "height 2": 1}
    assert pick(table, measure="spearman_height", target="auroc")["value"] < -0.5


def answers_that_follow(words: Knowledge, name="pretrained", noise=0.0):
    """A condition whose answers about pictures are those of words, plus noise."""
    found = condition(name, 0.0, seeds=(0, 1))
    rng = np.random.default_rng(2)
    rows = [LEAVES.index(leaf) for leaf in found.answers[0].leaves]
    made = [
        dataclasses.replace(one, scores=dataclasses.replace(
            one.scores, image_scores=words.mean[rows] + noise * rng.normal(size=(len(rows), 3))))
        for one in found.answers
    ]  # fmt: skip
    return dataclasses.replace(found, answers=tuple(made))


def test_answers_that_follow_from_words_agree_wholly():
    words = known(1.0)
    table = pd.DataFrame(agreement_rows(words, answers_that_follow(words), QUICK))
    for pictures in ("any", "all"):
        found = table[table["pictures"] == pictures].set_index("measure")["value"]
        assert found["agreement"] == found["kappa"] == found["yes_if_known"] == 1.0
        assert found["yes_if_unknown"] == 0.0
    assert pick(table, measure="pearson")["value"] == pytest.approx(1.0, abs=1e-6)


def test_answers_that_have_nothing_to_do_with_words_agree_by_chance():
    words = known(0.0)
    table = pd.DataFrame(agreement_rows(words, answers_that_follow(words, noise=1e6), QUICK))
    kappa = table[table["measure"] == "kappa"].set_index("pictures")
    assert (kappa["lower"] < 0).all()
    assert (kappa["upper"] > 0).all()
    # Of two pictures each Yes with a third, any: 1 − (2/3)² = .56; all: (1/3)² = .11.
    yes = table[table["measure"] == "yes_if_known"].set_index("pictures")["value"]
    assert yes["any"] == pytest.approx(0.556, abs=0.12)
    assert yes["all"] == pytest.approx(0.111, abs=0.09)


def test_a_flat_list_in_json_has_the_heights_of_the_study(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"crow": ["animal", "bird"], "bird": ["animal"], "saw": ["tool"]}))
    found = LeafList.read(path)
    assert found.heights == {"animal": 2, "bird": 1, "tool": 2}
    assert "bird (leaf)" in found.taxonomy.leaves
    assert found.name == "list"
    bundled = LeafList.read(None)
    assert bundled.heights["bird"] < bundled.heights["animal"]


def test_what_is_no_list_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No list of leaves at .*none\.json: give a JSON file"):
        LeafList.read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"bad\.json is not a JSON object of leaf → list of hypernyms"):
        LeafList.read(tmp_path / "bad.json")


def toy_list(folder: Path) -> Path:
    path = folder / "toy.csv"
    rows = [f"{leaf},{hypernym}" for hypernym, leaves in TOY.items() for leaf in leaves]
    path.write_text("\n".join(["leaf,hypernym", *rows]) + "\n")
    return path


def test_names_are_asked_as_an_evaluation_asks_them(tmp_path, toy_lm):
    """Oracle: the log-probability of a hypernym after the whole sentence, without cache or projector."""
    import torch

    lm = lms.load(str(toy_lm), dtype=torch.float32)
    found = ask(lm, LeafList.read(toy_list(tmp_path)), "completion", ("kind", "type"))
    assert set(found.scores) == {"kind", "type"}
    start = [] if lm.start_token_id is None else [lm.start_token_id]

    def log_prob(subject: str) -> float:
        ids = torch.tensor(
            [start + lm.tokenizer(f"A {subject} is a kind of", add_special_tokens=False).input_ids]
        )
        bird = lm.tokenizer(" bird", add_special_tokens=False).input_ids[0]
        return lm.model(ids).logits[0, -1].log_softmax(-1)[bird].item()

    with torch.no_grad():
        wanted = log_prob("crow") - np.mean([log_prob(word) for word in ("thing", "object", "item")])
    row, column = found.leaves.taxonomy.leaves.index("crow"), found.leaves.taxonomy.hypernyms.index("bird")
    assert found.scores["kind"][row, column] == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(KeyError, match=r"read-out 'chat' was asked for; known: completion, yes_no"):
        ask(lm, found.leaves, "chat")
    with pytest.raises(
        KeyError, match=r"template 'is_there' was asked for by read-out 'completion'; it takes: kind"
    ):
        ask(lm, found.leaves, "completion", ("is_there",))


def test_a_tokenizer_without_yes_and_no_is_told_the_read_out_that_it_allows(tmp_path, toy_lm, capsys):
    options = ["--lm", str(toy_lm), "--leaves", str(toy_list(tmp_path)), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        analysis.main(options)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("python -m")]
    assert "begins Yes and No with the same token" in line
    assert line.endswith("cannot be distinguished by their first token: give --readout completion")


def test_the_command_asks_both_ways_and_writes_what_it_says(tmp_path, toy_lm, capsys):
    out = tmp_path / "out"
    options = ["--lm", str(toy_lm), "--leaves", str(toy_list(tmp_path)), "--out", str(out), "--draws", "40"]
    analysis.main([*options, "--prompt", "kind", "--prompt", "type", "--readout", "completion"])
    names = {f"{name}.{kind}" for name in ("knowledge", "hypernyms") for kind in ("png", "svg")}
    names |= {"lm_knowledge.csv", "lm_knowledge.parquet", "made.json"}
    assert {path.name for path in out.iterdir()} == names
    table = pd.read_parquet(out / "lm_knowledge.parquet")
    assert set(table["prompt"]) == {"kind", "type", "mean of templates"}
    assert "auroc_by_height" in capsys.readouterr().out


@pytest.mark.parametrize("beside", [{"leaves": Path("y")}, {"lm": "other"}, {"init": "random"}])
def test_a_language_model_or_leaves_beside_runs_are_refused(beside):
    with pytest.raises(ValueError, match="--run gives the language model and the leaves"):
        analysis.check([SimpleNamespace()], analysis.Options(**beside))


def test_the_figure_of_agreement_shows_every_condition():
    words = known(1.0)
    found = [answers_that_follow(words), answers_that_follow(words, "within", noise=0.5)]
    table = knowledge_table([words], {0: found}, QUICK)
    made = analysis.draw(table)
    assert set(made) == {"knowledge", "hypernyms", "agreement"}
    assert [text.get_text() for text in made["agreement"].axes[0].get_yticklabels()] == [
        "pretrained",
        "within",
    ]
    assert "kappa" in analysis.summary(table)


@pytest.mark.parametrize(
    ("runs", "limits"),
    [(2, "95 %, over leaf concepts and seeds."), (1, f"95 %, over leaf concepts; {ONE_SEED}.")],
)
def test_the_caption_of_agreement_says_what_its_limits_are_over(runs, limits):
    words = known(1.0)
    found = answers_that_follow(words)
    found = dataclasses.replace(found, answers=found.answers[:runs])
    figure = analysis.draw(knowledge_table([words], {0: [found]}, QUICK))["agreement"]
    said = figure.texts[-1].get_text().replace("\n", " ")
    assert limits in said
