"""Sentences of the report: each is true of the run that it is about, over variations of its design."""

import re
from importlib.resources import files
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from analyses.emergence.sentences import blocks
from analyses.frame import registry
from analyses.frame.section import Grid, Lines
from analyses.report import page, provenance, sentences
from analyses.report.closer import curves_of
from analyses.report.design import Design
from analyses.report.diagram import diagrams
from analyses.report.sections import Section
from analyses.report.told import standing
from probing.stats import ClusterAUROC
from taxogen.questions.ablation import RULES, ablate
from taxogen.questions.items import prompts_of, training_items
from taxogen.runs import config
from taxogen.world.taxonomy import Taxonomy
from tests.conftest import LEAVES

TAXONOMY = Taxonomy(tuple((leaf, hypernym) for hypernym, leaves in LEAVES.items() for leaf in leaves))
KNOWS = "had learned before"
ABLATIONS = {
    "none": ("data.ablation=none",),
    "full": (),
    "study": ("data.ablation=full", "data.rule=study"),
    "random": ("data.ablation=random", "data.fraction=0.5"),
    "held out": ("data.ablation=systematic", "data.held_out=bird"),
    "listed": ("data.ablation=systematic", "data.held_out=bird", "data.rule=leaf"),
}


def design(*settings, taxonomy=TAXONOMY, items=None, name="pretrained"):
    """The design of a run with these settings, whose training questions are made as those of any run."""
    wanted = config.read(None, settings)
    data = wanted.data
    table = pd.DataFrame({"leaf": taxonomy.leaves, "split": "train"}).assign(
        picture=lambda frame: frame["leaf"] + "/1.png"
    )
    questions = training_items(table, taxonomy, prompts=prompts_of(data.task, data.templates))
    options = {"fraction": data.fraction, "rule": data.rule or None, "held_out": data.held_out}
    kept = ablate(questions, taxonomy, data.ablation, **options)
    record = {"training_items": len(kept.frame) if items is None else items, "steps": 3}
    run = SimpleNamespace(
        config=wanted, record=record, taxonomy=taxonomy, manifest=lambda _: kept, name="toy", steps=(0, 3)
    )
    return Design(run, name)


def all_text(of):
    told = [sentences.what_right_shows(one, of) for one in of]
    return " ".join([*sentences.lead(of), *told, *map(sentences.what_it_is, of)])


@pytest.mark.parametrize("task", ["completion", "yes_no"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_what_the_language_model_knew_is_credited_only_where_training_did_not_teach_it(ablation, task):
    for init, shuffle, items in product(
        ("pretrained", "random", "pretrained-embeddings"), ("none", "across"), (None, 0)
    ):
        settings = (f"model.init={init}", f"data.shuffle={shuffle}", f"data.task={task}")
        one = design(*settings, *ABLATIONS[ablation], items=items)
        shown = sentences.what_right_shows(one, [one])
        untaught = ablation in ("full", "study")
        credited = untaught and init == "pretrained" and items is None
        assert (f"what its language model {KNOWS}" in shown) == credited
        assert ("may repeat" in shown) == (not untaught and init != "random" and items is None)
        assert ("name that a picture has in this world" in shown) == (shuffle != "none" and items is None)
        assert ("is not known" in shown) == (items == 0)
        assert "rests on" not in " ".join(sentences.lead([one]))


def test_the_contrast_with_random_weights_is_stated_where_both_are_there_and_alike():
    pretrained, floor = design(), design("model.init=random", name="random_init")
    said = " ".join(sentences.lead([pretrained, floor]))
    assert f"What pretrained gets right beyond random init rests on what the language model {KNOWS}" in said
    assert "beyond random init rests" in sentences.what_right_shows(pretrained, [pretrained, floor])
    rows = provenance.conditions([pretrained, design("data.ablation=none", name="taught")]).rows
    assert ["No training question names a hypernym." in " ".join(row) for row in rows] == [True, False]
    for other in ("data.shuffle=across", "data.ablation=none", "train.steps=7", "model.image_tokens=9"):
        unlike = design("model.init=random", other, name="random_init")
        assert KNOWS not in " ".join(sentences.lead([pretrained, unlike]))
        assert "not among these runs" in sentences.what_right_shows(pretrained, [pretrained, unlike])
    across = [design("data.shuffle=across", name="across"), floor]
    assert KNOWS not in " ".join(sentences.lead(across))


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("task", ["completion", "yes_no"])
def test_what_training_said_of_hypernyms_is_counted_in_its_questions(ablation, task):
    one = design(f"data.task={task}", *ABLATIONS[ablation])
    said, frame = sentences.about_hypernyms(one), one.run.manifest("train").frame
    asked = frame[frame["task"] == "hypernym"]
    affirmed = asked[asked["answer"].isin(["Yes", *TAXONOMY.hypernyms])]
    pairs = len({*zip(affirmed["leaf"], affirmed["hypernym"])})
    assert ("No training question names a hypernym" in said) == (not len(asked))
    assert ("hypernyms of every leaf" in said) == (pairs == 12)
    if 0 < pairs < 12:
        assert f"affirmed {pairs} of 12 pairs" in said
    assert ("never named: bird" in said) == (
        ablation == "held out" or (ablation, task) == ("listed", "completion")
    )
    assert ("only ever denied: bird" in said) == ((ablation, task) == ("listed", "yes_no"))


def test_a_hypernym_inside_the_name_of_a_leaf_is_no_lie():
    birds = Taxonomy((("crow", "bird"), ("owl", "bird"), ("bird house", "building"), ("church", "building")))
    one = design("data.rule=study", taxonomy=birds)
    assert "No training question is about a hypernym; 1 of 4 name one" in sentences.about_hypernyms(one)
    floor = design("data.rule=study", "model.init=random", taxonomy=birds)
    assert "but for names of leaves" in sentences.what_right_shows(floor, [floor])


def test_every_rule_of_ablation_is_tried_here():
    assert set(RULES) <= {setting.partition("=")[2] for one in ABLATIONS.values() for setting in one}


def test_pictures_of_others_are_not_said_to_be_pictograms_nor_credited(tmp_path):
    for folder in ("pictograms", str(tmp_path)):
        one = design(f"data.pictures={folder}")
        own = folder != "pictograms"
        assert ("pictograms" not in " ".join(sentences.limits([one], 12))) == own
        assert (provenance._credits([one]) is None) == own


def test_the_drawing_has_the_words_of_the_test_question_and_what_learns():
    for settings, words, last in (
        ((), ["A", "1", "2", "3", "4", "is", "a", "kind", "of"], "of"),
        (
            ("data.task=yes_no",),
            ["1", "2", "3", "4", "Is", "there", "a", "bird", "in", "this", "image?"],
            "image?",
        ),
        (
            ("model.projector=gelu-mlp", "model.encoder_tokens=9", "model.image_tokens=9"),
            ["A", "1", "2", "…", "9"],
            "of",
        ),
    ):
        (drawn,) = diagrams([design(*settings)], "crow", "bird", "")
        texts = [token.text for token in drawn.tokens]
        assert texts[: len(words)] == words
        assert [token.text for token in drawn.tokens if token.kind == "last"] == [last]
        assert all(a.x + a.width < b.x for a, b in zip(drawn.tokens, drawn.tokens[1:]))
        assert drawn.tokens[-1].x + drawn.tokens[-1].width < drawn.width
        assert (drawn.projector.state, drawn.encoder.state) == ("learned, 3 steps", "frozen")
    (drawn,) = diagrams([design(items=0)], "crow", "bird", "")
    assert drawn.projector.state == "from elsewhere"
    both = diagrams([design(), design("model.lm=other", name="other")], "crow", "bird", "")
    assert [one.lm.name for one in both] == ["smollm2-135m", "other"]


def test_the_box_of_the_language_model_is_as_wide_as_what_is_said_in_it():
    members = [
        design(),
        design("model.init=random", name="random"),
        design("model.lm=" + "long" * 20, name="long"),
    ]
    for drawn in diagrams(members, "crow", "bird", ""):
        named = text_width(drawn.lm.title, "bold") + text_width(f" {drawn.lm.name}", "normal")
        for width in (named, text_width(drawn.lm.state, "normal")):
            assert drawn.lm_left + width < drawn.right < drawn.width


def text_width(text, weight):
    """The width of a text in the drawing's font at the largest size in it."""
    return (
        TextPath((0, 0), text, size=14, prop=FontProperties(family="DejaVu Sans", weight=weight))
        .get_extents()
        .x1
    )


def test_where_pictures_stand_averages_to_the_auroc():
    rng = np.random.default_rng(0)
    scores, having = rng.integers(0, 9, (60, 3)).astype(float), rng.random((60, 3)) < 0.3
    share = standing(scores, having)
    auroc = ClusterAUROC(scores, having, np.arange(60)).value
    np.testing.assert_allclose([share[having[:, k], k].mean() for k in range(3)], auroc)
    np.testing.assert_allclose([share[~having[:, k], k].mean() for k in range(3)], 0.5)
    scores[0] = np.nan
    assert np.isnan(standing(scores, having)[0]).all()


def test_curves_of_any_table_are_shown_by_what_distinguishes_its_rows():
    rows = [
        {"analysis": "any", "target": target, "layer": layer, "span": span, "measure": "auroc", "step": step}
        for target, layer, span, step in product(("bird", "mean"), (0, 1, 2), ("cue", "last"), (0, 5))
    ]
    table = pd.DataFrame(rows).assign(
        value=lambda frame: frame["layer"] + frame["step"], lower=np.nan, upper=1.0
    )
    curves = curves_of([table, table[["target"]]], ["bird", "fruit"])
    assert list(curves) == ["any · cue", "any · last"]
    assert curves["any · cue"]["of"] == {"bird": [[5.0, 6.0, 7.0], [None] * 3, [1.0] * 3]}
    assert curves_of([pd.concat([table, table])], ["bird"]) == {}


def luminance(colour):
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_have_contrast(theme):
    """Source: WCAG 2.2, 1.4.3 (text, 4.5) and 1.4.11 (graphics, 3)."""
    css = (files("analyses.report") / "templates" / "style.css").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[theme]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", block))

    def contrast(one, other):
        low, high = sorted(luminance(colours[name]) for name in (one, other))
        return (high + 0.05) / (low + 0.05)

    texts = product(("ink", "soft", "link", "good", "bad"), ("page", "card"))
    texts = [*texts, ("ink", "learn"), ("soft", "learn"), ("ink", "slot")]
    assert {pair: ratio for pair in texts if (ratio := contrast(*pair)) < 4.5} == {}
    marks = product(("strong", "bar", "mark", "good"), ("page", "card"))
    assert {pair: ratio for pair in marks if (ratio := contrast(*pair)) < 3} == {}


def rendered(block) -> str:
    answer = SimpleNamespace(asked="", blocks=[block], beside=[], figures={})
    return str(page.template().environment.get_template("blocks.html").module.blocks(answer, {}))


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (("0.91 [0.88, 0.94]", "–", "none [15, never]", "input [input, 20]"), True),
        (("input – input", "3 – never", "encoder"), True),
        (("200 × 32", "98 %", "0.89 – 0.94", "−1", ""), True),
        (("95 %, over leaf concepts", "0.5"), False),
        (("none", "–"), False),
        (("2.13.0+cpu", "2.1"), False),
    ],
)
def test_a_column_stands_on_the_right_where_all_of_it_is_numbers(cells, numeric):
    text = rendered(Grid(["name", "cell"], [["5", cell] for cell in cells], ""))
    assert text.count('<td class="n">') == numeric * len(cells)
    assert ('<th scope="col" class="n">cell' in text) == numeric
    assert '<th scope="col">name' in text


def test_commands_in_cells_are_code_and_no_line_of_a_summary_is_cut():
    assert "&lt;b&gt; <code>a &amp; b</code>." in rendered(Grid(["x", "y"], [["1", "<b> `a & b`."]], ""))
    assert "one ` alone" in rendered(Grid(["x", "y"], [["1", "one ` alone"]], ""))
    text = rendered(Lines("head\n  <first>\n    second"))
    assert re.findall(r"--indent: (\d+)ch", text) == ["4", "6", "8"]
    assert re.sub("<[^>]*>", "", text).strip() == "head\n  &lt;first&gt;\n    second"
    style = (files("analyses.report") / "templates" / "style.css").read_text(encoding="utf-8")
    assert "pre-wrap" in re.search(r"^pre \{[^}]*\}", style, flags=re.MULTILINE)[0]


def test_one_of_anything_is_singular_in_the_checklist():
    assert [provenance._counted(number, "training") for number in (0, 1, 2)] == [
        "0 trainings",
        "1 training",
        "2 trainings",
    ]


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("sparse_features", " --dictionary DIR"),
        ("pooling", " --of patching"),
        ("picture_maps", ""),
        ("lm_knowledge", ""),
    ],
)
def test_the_command_for_a_question_has_what_it_cannot_be_asked_without(name, flags):
    runs = [SimpleNamespace(path=path) for path in ("a", "b c")]
    section = Section(registry.load(name))
    assert section.command(runs) == f"python -m analyses.{name} --run a --run 'b c'{flags}"


def test_a_number_of_blocks_without_a_limit_says_so_by_a_sign():
    assert blocks({"value": 10.0, "lower": 3.0, "upper": np.inf}) == "10 blocks [3, ∞]"
    assert blocks({"value": 1.0, "lower": 0.0, "upper": 2.0}) == "1 block [0, 2]"
