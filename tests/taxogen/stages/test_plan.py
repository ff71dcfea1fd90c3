"""A plan counts what training really does: items, steps, tokens, FLOPs and bytes; what it cannot count it refuses."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, Qwen3Config

from taxogen.__main__ import main
from taxogen.models import lms, shapes
from taxogen.models.rows import common_prefix
from taxogen.models.shapes import LmShape
from taxogen.runs import config, presets
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import cards, plan
from taxogen.stages.counting import STEPS_LOOKED_AT, Work, guessed
from taxogen.stages.train import batch_indices, subjects, total_steps
from tests.world import toy_config, toy_folder

TINY = LmShape(1, 4, 2, 1, 2, 8, 10, True)
YES_NO = ("data.task=yes_no", "data.ablation=none")
ONE_EPOCH = ("train.steps=0", "train.epochs=1", "train.batch=32")
PATCHES = ("model.projector=gelu-mlp", "model.encoder_tokens=4", "model.image_tokens=4")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, asking_lm):
    with toy_folder(tmp_path_factory.mktemp("plan"), asking_lm) as made:
        yield made


def the_bench(settings, folder, *more):
    run = Run(folder / "run", toy_config(settings, *more))
    with run.alone():
        return open_bench(run)


@pytest.mark.parametrize(
    "more",
    [
        (),
        PATCHES,
        (*YES_NO, *PATCHES),
        (*YES_NO, "train.order=items"),
        (*YES_NO, *PATCHES, "data.templates=study_leaf,study", *ONE_EPOCH),
        ("data.task=yes_no", "data.chat=true", "train.match_steps=true", *ONE_EPOCH),
    ],
)
def test_counts_are_those_of_the_prepared_run(settings, tmp_path, more):
    bench = the_bench(settings, tmp_path, *more)
    wanted = bench.run.config
    planned = plan.plan(wanted, cards.card("h100"))
    rows, together = bench.rows(bench.world.manifests["train"]), wanted.train.order
    asked = bench.world.asked if wanted.train.match_steps else len(rows)
    steps = total_steps(wanted.train, asked)
    assert (planned.counted.items, planned.counted.steps, planned.counted.pictures) == (
        len(rows),
        steps,
        len(bench.world.table),
    )
    assert steps <= STEPS_LOOKED_AT, "all steps are looked at, so that the mean is exact"
    vlm, sizes, pictures, answers = bench.vlm, [], [], []
    vlm.use_prefix(common_prefix(rows))
    for step in range(steps):
        chosen = batch_indices(subjects(rows, together), wanted.train.batch, step, wanted.seed)
        batch = [rows[at] for at in chosen]
        layout = vlm._layout([row.without_last for row in batch])
        sizes.append(layout.ids.numel())
        pictures.append(int((layout.ids < 0).sum()))
        answers.append(sum(len(row.ids) - row.answer for row in batch))
    assert planned.counted.step.tokens == pytest.approx(sum(sizes) / steps)
    assert planned.counted.step.image == pytest.approx(sum(pictures) / steps)
    assert planned.counted.step.outputs == pytest.approx(sum(answers) / steps)
    assert 0 < planned.counted.step.text <= planned.counted.step.tokens - planned.counted.step.image
    assert not planned.counted.estimated


@pytest.mark.parametrize(
    "more", [(), ("model.projector=linear", "model.hidden=1024", *PATCHES[1:]), (*YES_NO, *PATCHES)]
)
def test_flops_and_kept_bytes_are_those_of_a_step(settings, tmp_path, more):
    """Torch counts the products of a step, and what autograd keeps for the way back."""
    bench = the_bench(settings, tmp_path, "train.steps=1", "capture.at=last", *more)
    planned = plan.plan(bench.run.config, cards.card("h100"))
    vlm, train = bench.vlm, bench.run.config.train
    rows = bench.rows(bench.world.manifests["train"])
    vlm.use_prefix(common_prefix(rows))
    chosen = batch_indices(subjects(rows, train.order), train.batch, 0, bench.run.config.seed)
    weights = {
        weight.untyped_storage().data_ptr()
        for weight in (*vlm.model.parameters(), *vlm.projector.parameters())
    }
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    assert vlm.packs  # tried before anything is counted
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda it: it),
    ):
        loss = vlm.answer_loss([rows[at] for at in chosen], bench.features)
        bytes_kept = sum(kept.values())
        loss.backward()
    assert planned.step_flops == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert planned.bytes["activations"] == pytest.approx(bytes_kept, rel=0.2)


def test_flops_of_a_tiny_model_by_hand():
    # Queries and output 4 × 4, keys and values 4 × 2, three matrices of 4 × 8.
    assert TINY.in_blocks == 16 + 16 + 8 + 8 + 96
    assert TINY.weights == 144 + 40
    work = Work(tokens=5, image=2, text=3, pairs=25, outputs=2, pictures=1)
    matrices, output, attention = 2 * 144 * 5, 2 * 40 * 2, 2 * 2 * 4 * 25
    assert work.forward(TINY) == matrices + output + attention
    assert work.training(TINY) == 2 * matrices + 2 * output + 3 * attention
    assert TINY.kept_bytes(5, 25, 2) == 5 * (2 * 4 * 4 + 2 * (3 * 4 + 3 * 8)) + 25 * 2 * (4 + 2)
    assert (0.5 * (work + work)).tokens == 5


@pytest.mark.parametrize("name", shapes.LMS)
def test_sizes_known_by_name_are_those_of_a_config(name):
    size = shapes.LMS[name]
    kind = Qwen3Config if size.normed_heads else LlamaConfig
    model = kind(
        hidden_size=size.width,
        num_hidden_layers=size.blocks,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_width,
        intermediate_size=size.inner,
        vocab_size=size.vocabulary,
        tie_word_embeddings=size.tied,
    )
    assert size.weights == pytest.approx(lms.parameters(model), rel=1e-3)


def test_sizes_of_a_folder_are_read_from_its_config(asking_lm, settings):
    size = shapes.lm_shape(str(asking_lm))
    assert (size.blocks, size.width, size.heads, size.kv_heads, size.head_width, size.inner) == (
        2,
        32,
        4,
        2,
        8,
        64,
    )
    derived = LmShape(2, 32, 4, 2, 8, 64, size.vocabulary, True)
    assert size.in_blocks == derived.in_blocks + 5 * 32  # and the norms
    encoder = shapes.encoder_shape("world/encoder")
    assert (encoder.width, encoder.tokens) == (16, 4)


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if name.startswith("study-")])
def test_a_preset_of_the_study_is_a_config_whose_sizes_are_known(name, capsys, tmp_path):
    assert main(["config", "--preset", name]) == 0
    path = tmp_path / "study.toml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    found, model = config.read(path), config.read(path).model
    assert found == config.read(None, (), presets.preset(name))
    assert found.name == name
    lm, encoder = shapes.LMS[model.lm], shapes.ENCODERS[model.encoder]
    assert model.encoder_tokens == model.image_tokens == encoder.tokens
    assert (model.standardise, model.normalise, model.dtype) == (False, False, "bfloat16")
    matrices = plan._matrices(found, lm, encoder)
    tokens, width = encoder.tokens, lm.width
    assert matrices == ((tokens, encoder.width, width), (tokens, width, width))
    study = config.read(None, (), presets.preset("study"))
    assert (found.data, found.train) == (study.data, study.train)


def test_the_command_prints_a_plan_and_makes_nothing(settings, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(lms, "load", lambda *_: pytest.fail("a language model was loaded"))
    words = [word for setting in (*settings, "name=planned") for word in ("--set", setting)]
    assert main(["plan", *words, "--card", "t4"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["steps"] == "12 of 8 items, order pictures"
    assert re.match(r"\d+ training questions about 96 pictures of all splits", lines["items"])
    assert lines["card"].endswith("0.40 of them assumed")
    assert "24 pictures × 3 hypernyms" in lines["scoring"]


def test_words_are_estimated_where_the_tokenizer_is_not_there(settings, monkeypatch):
    exact = plan.plan(toy_config(settings), cards.card("h100"))
    monkeypatch.setattr(shapes, "tokenizer", lambda name: None)
    rough = plan.plan(toy_config(settings), cards.card("h100"))
    assert rough.counted.estimated
    assert rough.counted.step.image == exact.counted.step.image
    assert "estimated at 1.3 a word" in plan.text(rough)
    assert len(guessed("Is there a crow in this image of ten words?")) == 13
    assert guessed("Is there a crow")[:2] == guessed("Is there food")[:2]
    assert guessed("") == ()


def test_a_card_without_a_number_type_is_planned_in_float32_and_too_little_memory_is_said(settings):
    t4, h100 = cards.card("t4"), cards.card("h100")
    assert t4.rate("bfloat16") == t4.rate("float32") == pytest.approx(0.4 * 8.1e12)
    assert (t4.native, h100.native) == ("float32", "bfloat16")
    small = cards.Card("toy", 1e3, {"float32": 1e12}, "float32", 0.5, "made up")
    assert re.search(
        r"GB at the peak .*; \d+\.\d GB too few", plan.text(plan.plan(toy_config(settings), small))
    )


def test_this_machine_is_measured():
    here = cards.card("cpu")
    assert here.rate(here.native) == pytest.approx(0.65 * here.peaks[here.native])
    assert all(1e9 < peak < 1e14 for peak in here.peaks.values())
    assert here.memory > 1e9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--card", "b300"), "card 'b300' was asked for; known: h100, h200, a100, l40s, rtx4090, t4, cpu"),
        (
            ("--set", "model.lm=nobody/knows"),
            "language model 'nobody/knows' was asked for; it is neither a folder",
        ),
        (
            ("--set", "model.encoder=nobody/knows"),
            "image encoder 'nobody/knows' was asked for; it is neither",
        ),
        (("--set", "model.lm=world"), "its folder has no config.json"),
        (("--set", "model.encoder=lm"), "has no square patches to count"),
        (("--set", "model.encoder_tokens=3"), "tokens=3 was asked for; a grid of 2 × 2 gives one of 1, 4"),
        (("--set", "model.dtype=float64"), "model.dtype=float64 was asked for"),
        (("--set", "data.pictures=nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_a_line(settings, words, message, caplog):
    given = [word for setting in settings for word in ("--set", setting)]
    assert main(["plan", *given, "--card", "h100", *words]) == 2
    (refusal,) = [record.getMessage() for record in caplog.records if record.name == "taxogen"]
    assert message in refusal
    assert "\n" not in refusal


def test_an_unknown_preset_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["plan", "--preset", "thesis"])
    assert refusal.value.code == 2
    assert "study-qwen3-0.6b" in capsys.readouterr().err
