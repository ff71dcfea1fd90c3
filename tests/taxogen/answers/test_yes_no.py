import h5py
import numpy as np
import pytest
import torch

from probing.capture import capture
from taxogen.answers import baselines, calibration
from taxogen.answers.evaluate import Scores
from taxogen.answers.yes_no import YesNo
from taxogen.models import lms
from taxogen.models.projectors import Projector
from taxogen.models.rows import IMAGE
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from taxogen.stages.capture_batches import capture_batches
from tests.world import toy_config, write_world

YES_NO = ("data.task=yes_no", "capture.at=0,last", "capture.pictures_per_leaf=1")
STUDY = (*YES_NO, "data.templates=study,study_leaf", "data.ablation=none", "data.negatives=hard")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, asking_lm):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        yield write_world(folder, asking_lm)


def finished(path, settings, *more):
    run = Run.create(path, toy_config(settings, *more))
    bench = open_bench(run)
    pipeline.train_run(run, bench)
    pipeline.evaluate_run(run, bench)
    return run, bench


@pytest.fixture(scope="module")
def done(settings, tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs") / "default", settings, *YES_NO)


@pytest.fixture(scope="module")
def study(settings, tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs") / "study", settings, *STUDY)


def plainly(vlm, words, picture, features):
    """logit(Yes) − logit(No) from one forward pass over the whole sequence, without cache or padding."""
    row = vlm.row("", words, picture).prompt
    ids = torch.tensor([row.ids])
    embedded = vlm.embedding(ids.clamp(min=0))
    if row.picture >= 0:
        embedded[ids == IMAGE] = vlm.projector(features[[row.picture]])[0]
    logits = vlm.model(inputs_embeds=embedded).logits[0, -1]
    yes, no = (
        vlm.answer(prompts.segments("is_there", hypernym="x", answer=word))[0] for word in ("Yes", "No")
    )
    return (logits[yes] - logits[no]).item()


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(("prompt", "leaf_prompt"), [("is_there", "is_there_leaf"), ("study", "study_leaf")])
def test_read_outs_equal_plain_forward_passes(done, asking_lm, prompt, leaf_prompt, chat):
    run, bench = done
    torch.manual_seed(1)
    vlm = Vlm(
        lms.load(str(asking_lm), dtype=torch.float32),
        Projector("flat-linear", (1, 16), (3, 32), 8, 0.2),
        chat,
    )
    ask = YesNo(run, vlm, bench.features, bench.picture_index)
    shown, leaves, hypernyms = list(bench.picture_index)[:5], run.taxonomy.leaves, run.taxonomy.hypernyms
    asked = np.random.default_rng(0).random((5, len(leaves))) < 0.5
    found = {
        "image": ask.hypernyms_of_pictures(shown, prompt),
        "text": ask.hypernyms_of_names(leaves, prompt),
        "leaf": ask.names_of_pictures(shown, leaf_prompt, asked),
    }
    assert (np.isfinite(found["leaf"]) == asked).all()
    for at, picture in enumerate(shown):
        place = bench.picture_index[picture]
        for column, name in enumerate(hypernyms):
            words = prompts.segments(prompt, hypernym=name)
            expected = plainly(vlm, words, place, bench.features)
            assert found["image"][at, column] == pytest.approx(expected, rel=1e-4, abs=1e-5)
        for column in np.flatnonzero(asked[at]):
            words = prompts.segments(leaf_prompt, leaf=leaves[column])
            expected = plainly(vlm, words, place, bench.features)
            assert found["leaf"][at, column] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for at, leaf in enumerate(leaves[:3]):
        words = prompts.segments(prompt, leaf=leaf, hypernym=hypernyms[1], modality="text")
        expected = plainly(vlm, words, -1, bench.features)
        assert found["text"][at, 1] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert np.ptp(found["image"], axis=0).min() > 1e-3, "the picture makes a difference"


def test_training_rows_end_with_the_answer_and_the_end_token_and_nothing_else_is_scored(done):
    run, bench = done
    end = bench.vlm.lm.tokenizer.eos_token_id
    rows = bench.rows(run.manifest("train"))
    said = {row.ids[row.answer :] for row in rows}
    yes, no = (bench.vlm.tokens(f" {word}") for word in ("Yes", "No"))
    assert said == {(*yes, end), (*no, end)}


def test_no_question_of_a_held_out_hypernym_is_trained_on_and_all_are_tested(done):
    run, _ = done
    train, test = run.manifest("train").frame.astype(str), run.manifest("test").frame.astype(str)
    assert set(train["task"]) == {"leaf"}
    assert set(train["answer"]) == {"Yes", "No"}
    assert not set(train["asked"]) & set(run.taxonomy.hypernyms)
    image = test[test["modality"] == "image"]
    assert len(image) == image["picture"].nunique() * 3


def test_scores_have_a_row_for_each_picture_and_calibrated_thresholds(done):
    run, bench = done
    scores = Scores.read(run)
    assert scores.about == "read-outs in nats: logit(Yes) minus logit(No)"
    assert scores.image_scores.shape == (scores.image["picture"].nunique(), 3) == (len(scores.image), 3)
    assert np.isfinite(scores.image_scores).all()
    validation = run.manifest("validation").frame.astype(str)
    shown = validation[validation["modality"] == "image"].drop_duplicates("picture")
    ask = YesNo(run, bench.vlm, bench.features, bench.picture_index)
    values = ask.hypernyms_of_pictures(shown["picture"].tolist(), "is_there")
    expected = calibration.thresholds(values, run.taxonomy.labels(shown["leaf"].tolist()))
    np.testing.assert_allclose(scores.thresholds, expected)
    np.testing.assert_allclose(scores.calibrated, scores.image_scores - expected)
    with h5py.File(run.file("scores.h5")) as stored:
        assert stored.attrs["about"] == scores.about


def test_baselines_stand_beside_yes_no_scores_too(done):
    run, _ = done
    found = baselines.baselines(run)
    assert {values.shape for values in found.values()} == {Scores.read(run).image_scores.shape}


def test_two_questions_a_picture_are_captured_one_of_each_answer(done):
    run, _ = done
    image, text = run.store(12), run.store(None, "text")
    columns = image.columns
    assert set(columns.groupby("picture")["answer"].agg(lambda given: " ".join(sorted(given)))) == {"No Yes"}
    assert set(text.columns.groupby("leaf")["answer"].agg(lambda given: " ".join(sorted(given)))) == {
        "No Yes"
    }
    assert set(image.columns["leaf"]) == set(text.columns["leaf"])
    truth = [answer == "Yes" for answer in columns["answer"]]
    member = run.taxonomy.labels(columns["leaf"].tolist())
    places = [run.taxonomy.hypernyms.index(name) for name in columns["hypernym"]]
    assert member[np.arange(len(places)), places].tolist() == truth


@pytest.mark.parametrize("which", ["done", "study"])
def test_a_picture_of_two_questions_is_read_once_and_gives_the_values_of_whole_rows(request, tmp_path, which):
    run, bench = request.getfixturevalue(which)
    manifest = run.manifest("capture").where(modality="image")
    rows, spans = bench.rows(manifest), ["image", "cue", "last"]
    pipeline.load_projector(bench.vlm.projector, run.snapshot(12))
    table = manifest.frame.astype(str)
    shared = capture_batches(bench.vlm, bench.features, rows, spans, table)
    assert sum(prefix_rows(batch) for batch in shared) == len(rows) / 2
    pooling = {"image": "all"}
    one = capture(bench.vlm.model, shared, tmp_path / "shared", sites="blocks.*.*", pooling=pooling)
    plain = [
        capture_batches(bench.vlm, bench.features, rows[i : i + 1], spans, table[i : i + 1])[0]
        for i in range(len(rows))
    ]
    assert {batch.prefix for batch in plain} == {None}
    alone = capture(bench.vlm.model, plain, tmp_path / "alone", sites="blocks.*.*", pooling=pooling)
    for site in one.sites:
        for span in spans:
            a, b = one.read(site, span), alone.read(site, span)
            assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def prefix_rows(batch):
    return len(batch.prefix()["inputs_embeds"])


def test_the_study_puts_the_picture_behind_the_first_token_everywhere(study):
    run, bench = study
    train = bench.rows(run.manifest("train"))
    captured = bench.rows(run.manifest("capture").where(modality="image"))
    for row in (*train, *captured):
        assert row.ids[0] == bench.vlm.lm.start_token_id
        assert row.spans["image"] == (1, 2)
        assert row.ids[3] == bench.vlm.tokens("<image>")[0]
    assert run.complete
    assert run.captured(12)
    assert np.isfinite(Scores.read(run).image_scores).all()


def test_hard_negatives_are_those_of_the_config(study):
    run, _ = study
    provenance = run.manifest("train").provenance
    assert provenance[0]["negatives"] == "hard"


def test_the_loss_falls(tmp_path, settings):
    more = ("train.steps=50", "train.lr=0.01", "data.ablation=none", "capture.at=last")
    run, _ = finished(tmp_path / "longer", settings, *YES_NO, *more)
    losses = run.table("training")["loss"]
    assert losses.tail(20).mean() < losses.head(5).mean() - 0.2


def test_templates_of_the_other_task_are_refused(tmp_path, settings):
    with pytest.raises(
        ValueError, match=r"templates \['kind'\] do not go with data.task=yes_no; those that do: is_"
    ):
        finished(tmp_path / "run", settings, *YES_NO, "data.templates=kind")
    with pytest.raises(KeyError, match=r"data.task 'riddle' was asked for; known: completion, yes_no"):
        finished(tmp_path / "run", settings, "data.task=riddle")


def test_answers_that_begin_alike_are_refused(tmp_path, settings, toy_lm):
    with pytest.raises(ValueError, match="begins Yes and No with the same token"):
        finished(tmp_path / "run", settings, *YES_NO, f"model.lm={toy_lm}")
    assert not (tmp_path / "run" / "projector").exists(), "refused before training"


def test_a_chat_template_that_is_not_there_is_refused(tmp_path, settings, toy_lm):
    with pytest.raises(ValueError, match=r"has no chat template.*data\.chat=false"):
        finished(tmp_path / "run", settings, f"model.lm={toy_lm}", "data.chat=true")
