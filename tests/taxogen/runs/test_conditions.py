"""Settings that make a condition, from the config to the scores: templates, chat, steps, matched leaves, init."""

import numpy as np
import pytest
import torch

from taxogen.answers import baselines, evaluate
from taxogen.answers.evaluate import Scores
from taxogen.models import lms
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from tests.world import toy_config, write_world

SMALL = ("capture.at=last", "capture.pictures_per_leaf=1", "capture.sites=hook_embed", "train.steps=6")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, asking_lm):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        yield (*write_world(folder, asking_lm), *SMALL)


def finished(path, settings, *more):
    run = Run.create(path, toy_config(settings, *more))
    bench = open_bench(run)
    pipeline.train_run(run, bench)
    pipeline.evaluate_run(run, bench)
    return run, bench


def test_several_templates_are_averaged_and_stand_apart(tmp_path, settings):
    run, _ = finished(tmp_path / "run", settings, "evaluate.templates=kind,type,the_called,called")
    scores = Scores.read(run)
    assert set(scores.apart) == {"kind", "type"}
    mean = (scores.of_template("kind").image_scores + scores.of_template("type").image_scores) / 2
    np.testing.assert_allclose(scores.image_scores, mean, rtol=1e-5, atol=1e-6)
    alone, _ = finished(tmp_path / "alone", settings)
    only = Scores.read(alone)
    assert not only.apart
    np.testing.assert_array_equal(only.image_scores, scores.of_template("kind").image_scores)
    np.testing.assert_array_equal(only.text_scores, scores.of_template("kind").text_scores)
    with pytest.raises(KeyError, match=r"'is_a' were asked for; apart are: kind, type"):
        scores.of_template("is_a")


def test_other_templates_are_scored_anew_and_the_same_ones_are_not(tmp_path, settings, monkeypatch):
    run, bench = finished(tmp_path / "run", settings)
    again = Run.create(run.path, toy_config(settings, "evaluate.templates=kind,type"))
    assert set(pipeline.evaluate_run(again, bench).apart) == {"kind", "type"}
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: pytest.fail("was scored already"))
    pipeline.evaluate_run(again, bench)


def test_training_asks_with_every_template(tmp_path, settings):
    run, _ = finished(tmp_path / "run", settings, "data.templates=called,known_as,type", "data.ablation=none")
    frame = run.manifest("train").frame.astype(str)
    asked = frame.groupby("task")["prompt"].unique().map(sorted).to_dict()
    assert asked == {"leaf": ["called", "known_as"], "hypernym": ["type"]}
    assert set(run.manifest("test").frame["prompt"]) == {"type"}


def test_a_completion_may_stand_in_a_chat(tmp_path, settings):
    run, bench = finished(tmp_path / "run", settings, "data.chat=true")
    vlm, row = bench.vlm, bench.rows(run.manifest("train"))[0]
    words = [vlm.lm.tokenizer.convert_ids_to_tokens(at) if at >= 0 else "*" for at in row.ids[: row.answer]]
    assert words == ["<s>", "user", "A", "*", "*", "is", "also", "called", "<unk>", "model"]
    assert row.ids[-1] == vlm.lm.tokenizer.eos_token_id
    assert np.isfinite(Scores.read(run).image_scores).all()


def test_matched_steps_are_those_of_the_data_before_the_ablation(tmp_path, settings):
    epochs = ("train.steps=0", "train.epochs=1", "train.match_steps=true")
    steps = {}
    for ablation in ("none", "full"):
        run, bench = finished(tmp_path / ablation, settings, *epochs, f"data.ablation={ablation}")
        steps[ablation] = run.record["steps"]
        assert len(run.table("training")) == run.record["steps"]
        assert bench.world.asked == 61 + 72  # pictures, and pairs of one and its hypernyms: 11 show tomatoes
    assert steps["none"] == steps["full"] == -(-bench.world.asked // 8)
    unmatched, _ = finished(tmp_path / "unmatched", settings, *epochs[:2])
    assert unmatched.record["steps"] == -(-unmatched.record["training_items"] // 8) < steps["full"]


def test_an_across_matched_world_is_scored_on_the_leaves_that_are_named(tmp_path, settings):
    run, _ = finished(tmp_path / "run", settings, "data.shuffle=across-matched")
    plain, _ = finished(tmp_path / "plain", settings, "data.shuffle=across")
    scores, whole = Scores.read(run), Scores.read(plain)
    np.testing.assert_array_equal(scores.raw, whole.image_scores)
    share = scores.image.assign(right=scores.leaf_correct).groupby("leaf")["right"].transform("mean")
    counted = (share >= 0.5).to_numpy()
    assert 0 < counted.sum() < len(counted), "the toy model names some leaves and not others"
    assert (np.isfinite(scores.image_scores).all(1) == counted).all()
    assert not np.isfinite(scores.image_scores[~counted]).any()
    assert np.isfinite(whole.image_scores).all()


def test_whole_leaves_may_be_held_out_from_training(tmp_path, settings):
    run, _ = finished(tmp_path / "run", settings, "data.split=leaf")
    leaves = {name: set(run.manifest(name).frame["leaf"]) for name in ("train", "test")}
    assert leaves["train"]
    assert leaves["test"]
    assert not leaves["train"] & leaves["test"]
    assert np.isfinite(Scores.read(run).image_scores).all()
    assert all(np.isfinite(values).all() for values in baselines.baselines(run).values())


def test_pretrained_embeddings_stand_around_random_blocks_in_a_run(tmp_path, settings, asking_lm):
    run, bench = finished(tmp_path / "run", settings, "model.init=pretrained-embeddings")
    whole = lms.load(str(asking_lm), dtype=torch.float32)
    tables = [lm.model.get_input_embeddings().weight for lm in (bench.vlm.lm, whole)]
    assert torch.equal(*tables)
    assert run.record["lm"]["weight_hash"] == bench.vlm.lm.weight_hash() != whole.weight_hash()
    fresh = open_bench(Run.create(tmp_path / "other", toy_config(settings, "model.init=random")))
    assert not torch.equal(fresh.vlm.lm.model.get_input_embeddings().weight, tables[1])


def test_a_leak_that_an_ablation_misses_stops_the_run(tmp_path, settings, monkeypatch):
    from taxogen.questions.ablation import Removal

    monkeypatch.setattr(Removal, "keeps", lambda self, frame: np.ones(len(frame), bool))
    for task in ("completion", "yes_no"):
        with pytest.raises(ValueError, match="name a held-out hypernym"):
            finished(tmp_path / task, settings, f"data.task={task}")
        assert not (tmp_path / task / "train.csv").exists()
