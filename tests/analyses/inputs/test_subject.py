"""Subject: each run is asked in its own words and read by the tokens that its evaluation scores, or refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import erasure, knockout, lens
from analyses.inputs import subject as subjects
from analyses.inputs.subject import TASKS, Candidates, Question, Subject, draw_leaves, shown_pictures
from analyses.lens.tokens import token_states
from taxogen.answers.completion import Completions
from taxogen.answers.evaluate import templates_of
from taxogen.answers.readout import log_probs
from taxogen.models.vlm import Vlm
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.conftest import LEAVES
from tests.world import toy_config, write_world

SHARED = {"crow": "thing bird", "duck": "thing bird", "pear": "thing item", "apple": "thing item"}
"""Two more hypernyms in the taxonomy "shared", which begin with the same token."""


@pytest.fixture(scope="module")
def world(tmp_path_factory, asking_lm):
    """The settings of a toy world whose language model has a chat template, and the folder of its runs."""
    folder = tmp_path_factory.mktemp("subject")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        settings = write_world(folder, asking_lm)
        rows = [f"{leaf},{name}" for name, leaves in LEAVES.items() for leaf in leaves]
        rows += [f"{leaf},{name}" for leaf, name in SHARED.items()]
        (folder / "shared.csv").write_text(
            "\n".join(["leaf,hypernym", *sorted(rows)]) + "\n", encoding="utf-8"
        )
        yield folder, settings


@pytest.fixture(scope="module")
def subject_of(world):
    """A function that makes the subject of an untrained run with some settings."""
    folder, settings = world
    subjects_of: dict[tuple[str, ...], Subject] = {}

    def make(*own: str) -> Subject:
        if own not in subjects_of:
            run = Run.create(folder / f"run-{len(subjects_of)}", toy_config(settings, *own))
            subjects_of[own] = Subject(open_bench(run), 0)
        return subjects_of[own]

    return make


WAYS = {
    "as it is": (),
    "chat": ("data.chat=true",),
    "other templates to evaluate": ("evaluate.templates=type,the_called",),
    "other templates to train": ("data.templates=the_kind,the_called",),
    "other templates in a chat": ("data.chat=true", "evaluate.templates=type,the_called"),
}
TEMPLATES = {
    "as it is": ("kind", "called"),
    "chat": ("kind", "called"),
    "other templates to evaluate": ("type", "the_called"),
    "other templates to train": ("the_kind", "the_called"),
    "other templates in a chat": ("type", "the_called"),
}


@pytest.mark.parametrize("way", WAYS)
def test_rows_and_first_tokens_are_those_that_evaluation_puts_and_scores(way, subject_of):
    subject = subject_of(*WAYS[way])
    bench = subject.bench
    scored = Completions(bench.run, bench.vlm, bench.features, bench.picture_index)
    assert tuple(subject.template(task) for task in TASKS) == TEMPLATES[way]
    answers = {"hypernym": scored._hypernyms, "leaf": scored._names}
    names = {"hypernym": bench.run.taxonomy.hypernyms, "leaf": bench.run.taxonomy.leaves}
    shown = shown_pictures(bench.run)
    for task in TASKS:
        template = templates_of(bench.run)[task][0]
        expected = {
            name: answer[0] for name, answer in zip(names[task], answers[task](template), strict=True)
        }
        assert subject.candidates(task).token_of == expected
        for picture, leaf in zip(shown["picture"], shown["leaf"]):
            ours, theirs = subject.row(task, leaf, picture), scored.picture_row(template, picture)
            assert (ours.ids, ours.spans, ours.picture) == (theirs.ids, theirs.spans, theirs.picture)
            assert subject.row(task, leaf).ids == scored.name_row(template, leaf).prompt.ids


@pytest.mark.parametrize("way", WAYS)
def test_logits_of_the_names_differ_as_the_log_probabilities_that_evaluation_scores(way, subject_of):
    subject = subject_of(*WAYS[way])
    bench, shown = subject.bench, shown_pictures(subject.run)
    scored = Completions(bench.run, bench.vlm, bench.features, bench.picture_index)
    for task in TASKS:
        question = subject.ask(task, shown)
        template = templates_of(bench.run)[task][0]
        rows = [scored.picture_row(template, picture) for picture in shown["picture"]]
        first = [(token,) for token in question.candidates.tokens.tolist()]
        expected = log_probs(bench.vlm, rows, bench.features, first)
        with torch.no_grad():
            logits = question.read(question.clean.hidden[:, -1]).numpy()
        assert np.ptp(expected, axis=1).min() > 0.01
        np.testing.assert_allclose(logits - logits[:, :1], expected - expected[:, :1], atol=1e-4)


def test_in_a_chat_names_are_read_without_the_space_before_them(subject_of, monkeypatch):
    """A tokenizer in which a leading space is a token of its own: outside a chat all names would begin alike."""
    bench = subject_of("data.chat=true").bench
    whole = Vlm.tokens

    def tokens(vlm, text):
        return ((0, *whole(vlm, text[1:])) if text.startswith(" ") else whole(vlm, text)) if text else ()

    monkeypatch.setattr(Vlm, "tokens", tokens)
    names = Subject(bench, 0).candidates("hypernym")
    assert names.tokens.tolist() == [whole(bench.vlm, name)[0] for name in names.names]
    assert len(names.names) == 3
    with pytest.raises(ValueError, match="cannot be read by their first token"):
        Subject(subject_of().bench, 0).candidates("hypernym")


def test_the_lens_looks_at_the_tokens_of_the_run_s_own_template(subject_of):
    subject = subject_of("evaluate.templates=type,the_called")
    shown = pd.DataFrame({"picture": [""], "leaf": ["crow"]})
    tokens = token_states(subject, shown, "text", ["hook_embed"])
    ids = subject.bench.vlm.tokens(" crow is a type of")
    expected = subject.bench.vlm.embedding.weight[list(ids)]
    torch.testing.assert_close(tokens.states["hook_embed"], expected)


def test_hypernyms_that_begin_with_the_same_token_are_left_out(subject_of, world):
    subject = subject_of(f"data.taxonomy={world[0] / 'shared.csv'}")
    assert set(subject.run.taxonomy.hypernyms) == {*LEAVES, *SHARED.values()}
    assert subject.candidates("hypernym").names == ("bird", "fruit", "vegetable")
    leaves = np.array(["crow", "owl", "tomato"])
    np.testing.assert_array_equal(subject.own("hypernym", leaves), [[1, 0, 0], [1, 0, 0], [0, 1, 1]])
    assert subject.wording["wording"]["unread"] == ["thing bird", "thing item"]
    with pytest.raises(ValueError, match="'thing bird' begins with the same token as another"):
        erasure.hypernyms_of(subject, erasure.Options(hypernyms=("thing bird",)))


def test_a_template_whose_answers_all_begin_with_an_article_is_refused(subject_of):
    subject = subject_of("evaluate.templates=is_a,called")
    refusal = r"puts the hypernym question as 'is_a'.* evaluate with another template \(evaluate\.templates\)"
    with pytest.raises(ValueError, match=refusal):
        subject.candidates("hypernym")
    with pytest.raises(ValueError, match="'known_as'"):
        subject_of("evaluate.templates=kind,known_as").wording  # noqa: B018


def test_parts_on_disk_know_how_the_question_was_put_where_that_is_not_the_usual_way(subject_of):
    assert subject_of().wording == {}
    ways = [subject_of(*WAYS[way]).wording for way in WAYS if way != "as it is"]
    assert len({str(way) for way in ways}) == len(ways)
    assert ways[0]["wording"]["chat"]
    assert ways[1]["wording"]["templates"] == {"hypernym": "type", "leaf": "the_called"}


def test_an_unknown_task_is_refused(subject_of):
    with pytest.raises(KeyError, match="known: hypernym, leaf"):
        subject_of().template("colour")


@pytest.fixture(scope="module")
def yes_no(world):
    """A trained yes/no run."""
    folder, settings = world
    run = Run.create(
        folder / "asked", toy_config(settings, "data.task=yes_no", "train.steps=1", "capture.at=last")
    )
    train_run(run)
    return run


@pytest.mark.parametrize("analysis", [lens, knockout, erasure])
def test_a_yes_no_run_is_refused_in_one_line_before_a_model_is_loaded(analysis, yes_no, monkeypatch, capsys):
    def opened(run):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(subjects, "open_bench", opened)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        analysis.main(["--run", str(yes_no.path)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.task=yes_no" in line
    assert "give a run of data.task=completion" in line


def test_the_margin_is_the_mean_logit_of_right_names_less_that_of_wrong_ones():
    names = Candidates(("bird", "fruit", "food", "fool"), np.array([3, 5, 7, 7]))
    own = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)
    question = Question("hypernym", names, np.array(["crow", "pear", "jester"]), own, None, None, None)  # pyright: ignore[reportArgumentType]
    logits = np.array([[4.0, 1.0, 2.0, 3.0], [1.0, 5.0, 7.0, 100.0], [0.0, 2.0, 50.0, 9.0]])
    # "fool" is left out where "food" is right, and the other way round: they begin alike.
    assert question.alike.tolist() == [[False] * 4, [False, False, False, True], [False, False, True, False]]
    np.testing.assert_allclose(question.margin(logits), [4 - 2, 6 - 1, 9 - 1])
    np.testing.assert_allclose(question.margin(logits[None] * 2), [[4, 10, 16]])
    without = question.margin(logits, without=("fruit", "bird"))
    np.testing.assert_allclose(without, [np.nan, np.nan, np.nan])
    np.testing.assert_allclose(question.margin(logits, without=("fruit",)), [4 - 2.5, 7 - 1, 9 - 0])


def test_pictures_and_leaves_are_seeded_draws_of_which_a_larger_contains_a_smaller(subject_of):
    run = subject_of().run
    two, one = shown_pictures(run, per_leaf=2), shown_pictures(run)
    assert one["leaf"].tolist() == sorted(run.taxonomy.leaves)
    assert set(one["picture"]) < set(two["picture"])
    assert (two.groupby("leaf").size() == 2).all()
    pd.testing.assert_frame_equal(two.groupby("leaf").head(1).reset_index(drop=True), one)
    assert set(shown_pictures(run, ["crow", "owl"])["leaf"]) == {"crow", "owl"}
    few, more = draw_leaves(run, 3), draw_leaves(run, 6)
    assert set(few) < set(more) < set(draw_leaves(run, 0))
    assert len(draw_leaves(run, 0)) == 11
