"""Every read-out keeps the contract that evaluation and analyses rest on."""

import numpy as np
import pytest
import torch

from taxogen.answers import READOUTS, readout_about, words
from taxogen.answers.evaluate import templates_of
from taxogen.models.rows import IMAGE
from taxogen.models.vlm import answer_tokens
from taxogen.questions import prompts
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from tests.world import toy_config, write_world

DECISIONS = {"prevalence", "calibrated", "zero"}


def test_every_format_has_a_read_out_and_every_read_out_a_format():
    assert tuple(READOUTS) == tuple(prompts.FORMATS)
    assert len({kind.about for kind in READOUTS.values()}) == len(READOUTS)
    assert {template.format for template in prompts.TEMPLATES.values()} == set(prompts.FORMATS)


@pytest.mark.parametrize("name", READOUTS)
def test_default_templates_are_of_the_format_and_of_their_task(name):
    for task, templates in prompts.FORMATS[name].prompts.items():
        for template in templates:
            assert prompts.template(template).format == name
            assert prompts.template(template).task == task
            assert template in prompts.names(task, name)


@pytest.mark.parametrize("name", READOUTS)
def test_a_read_out_is_known_by_what_its_scores_say_of_themselves(name):
    kind = READOUTS[name]
    assert kind.format == name
    assert set(kind.decisions) <= DECISIONS
    assert ("zero" in kind.decisions) == kind.calibrates() == bool(prompts.FORMATS[name].answers)
    assert readout_about(kind.about) is kind


def test_scores_of_an_unknown_read_out_are_refused():
    with pytest.raises(KeyError, match=r"unknown read-out 'riddles'; known: read-outs in nats: log P"):
        readout_about("riddles")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, asking_lm):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        yield write_world(folder, asking_lm)


@pytest.fixture(scope="module", params=READOUTS)
def readout(request, settings, tmp_path_factory):
    """A read-out of a toy run that is not trained."""
    path = tmp_path_factory.mktemp(request.param) / "run"
    run = Run.create(path, toy_config(settings, f"data.task={request.param}"))
    bench = open_bench(run)
    return READOUTS[request.param](run, bench.vlm, bench.features, bench.picture_index)


def test_every_subject_gets_a_finite_number_for_every_candidate_of_its_own(readout):
    run, templates = readout.run, templates_of(readout.run)
    shown, leaves = list(readout.picture_index)[:4], run.taxonomy.leaves
    pictures = readout.hypernyms_of_pictures(shown, templates["hypernym"][0])
    names = readout.hypernyms_of_names(leaves, templates["hypernym"][0])
    assert pictures.shape == (4, len(run.taxonomy.hypernyms))
    assert names.shape == (len(leaves), len(run.taxonomy.hypernyms))
    for scores in (pictures, names):
        assert np.isfinite(scores).all()
        assert (scores.std(0) > 0).all(), "every subject is read alike"
    offered = np.random.default_rng(0).random((4, len(leaves))) < 0.5
    assert (np.isfinite(readout.names_of_pictures(shown, templates["leaf"][0], offered)) == offered).all()


def test_the_name_that_is_read_highest_is_the_best_name_or_none_is_given(readout):
    shown, leaves = list(readout.picture_index)[:4], readout.run.taxonomy.leaves
    prompt = templates_of(readout.run)["leaf"][0]
    best = readout.best_names(shown, prompt)
    every = readout.names_of_pictures(shown, prompt, np.ones((4, len(leaves)), bool))
    assert best is None or best.tolist() == every.argmax(1).tolist()
    assert (best is None) == (readout.format == "yes_no")


def test_a_picture_and_a_name_stand_in_the_same_slot(readout):
    for task in ("leaf", "hypernym"):
        prompt = templates_of(readout.run)[task][0]
        picture = readout.picture_row(prompt, next(iter(readout.picture_index)))
        name = readout.name_row(prompt, "crow")
        assert picture.ids.count(IMAGE) == len(picture.spans["image"])
        assert "image" not in name.spans
        assert name.spans["noun"][0] == picture.spans["image"][0]
        assert readout.vlm.tokens("crow")[0] in [name.ids[at] for at in name.spans["noun"]]


def test_closed_questions_have_two_answers_that_the_tokenizer_distinguishes(readout):
    answers = prompts.FORMATS[readout.format].answers
    if not answers:
        assert readout.decisions == ("prevalence",), "a read-out against a mean has no threshold of its own"
        return
    yes, no = answer_tokens(readout.vlm, readout.format)
    assert [readout.vlm.lm.tokenizer.decode([token]).strip() for token in (yes, no)] == list(answers)


@pytest.fixture
def asked(readout, monkeypatch, tmp_path):
    """A read-out with an empty cache, and the names that its language model is asked about from now on."""
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    kind, questions = type(readout), []
    compute = kind.hypernyms_of_names
    monkeypatch.setattr(
        kind,
        "hypernyms_of_names",
        lambda self, names, prompt: questions.append((tuple(names), prompt)) or compute(self, names, prompt),
    )
    return questions


def test_a_language_model_is_asked_about_a_name_once_for_all_its_runs(readout, asked):
    leaves, (prompt, *_) = readout.run.taxonomy.leaves, templates_of(readout.run)["hypernym"]
    first = words.hypernyms_of_names(readout, leaves, prompt)
    with torch.no_grad():  # another projector: another run of the same language model
        for weight in readout.vlm.projector.parameters():
            weight.add_(1)
    again = words.hypernyms_of_names(readout, leaves, prompt)
    assert len(asked) == 1
    assert first.dtype == again.dtype
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(first, readout.hypernyms_of_names(leaves, prompt))


def test_what_changes_the_answer_about_a_name_is_asked_anew(readout, asked):
    leaves, (prompt, *_) = readout.run.taxonomy.leaves, templates_of(readout.run)["hypernym"]
    words.hypernyms_of_names(readout, leaves, prompt)
    words.hypernyms_of_names(readout, leaves[::-1], prompt)
    words.hypernyms_of_names(readout, leaves[:-1], prompt)
    weight = next(readout.vlm.model.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.25)
    other = words.hypernyms_of_names(readout, leaves, prompt)
    np.testing.assert_array_equal(other, readout.hypernyms_of_names(leaves, prompt))
    with torch.no_grad():
        weight.copy_(before)
    assert len(asked) == 5
    words.hypernyms_of_names(readout, leaves, prompt)
    assert len(asked) == 5


def test_a_damaged_entry_is_made_again(readout, asked, tmp_path, caplog):
    leaves, (prompt, *_) = readout.run.taxonomy.leaves, templates_of(readout.run)["hypernym"]
    first = words.hypernyms_of_names(readout, leaves, prompt)
    (entry,) = (tmp_path / "cache/words").glob("*/readouts.npy")
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)
    np.testing.assert_array_equal(words.hypernyms_of_names(readout, leaves, prompt), first)
    assert len(asked) == 2
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(words.hypernyms_of_names(readout, leaves, prompt), first)
    assert len(asked) == 2
