"""Runs of released vision-language models, against the models themselves and their own processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import normalizers

from probing.patching import Answers
from probing.patching.cells import Cell, Patch
from probing.patching.restart import Restart
from probing.patching.runs import Rows, keep, patched_by_hooks
from probing.sites import Site
from probing.store import MismatchError
from taxogen.answers.readout import log_odds, log_probs
from taxogen.exchange.llava import export_llava
from taxogen.models.rows import IMAGE, Row
from taxogen.questions import prompts
from taxogen.released import loading
from taxogen.released.vlm import ReleasedVlm
from taxogen.runs import config
from taxogen.runs.bench import open_bench, own_lm
from taxogen.runs.run import Run
from taxogen.stages import cards, pipeline, plan
from tests.probing import tiny_vlms

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
WORLD = ("data.leaves=8", "data.pictures_per_leaf=3", "capture.pictures_per_leaf=1", "model.dtype=float32")
NOTHING = torch.empty(0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlms")
    for name in tiny_vlms.VLMS:
        tiny_vlms.save(name, folder / name)
    return folder


def pictures(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 255, (16 + 8 * number, 20, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(params=tiny_vlms.VLMS)
def vlm(request: pytest.FixtureRequest, folders: Path) -> ReleasedVlm:
    return ReleasedVlm(loading.load(str(folders / request.param), "float32", "cpu"), pictures, chat=False)


def own_logits(
    vlm: ReleasedVlm, text: str, answer: str, picture: int | None
) -> tuple[torch.Tensor, list[int]]:
    """The log-probabilities of the answer's tokens, in one pass of the whole model over the processor's own output."""
    shown = {} if picture is None else {"images": [[pictures(picture)]]}
    inputs = vlm.released.processor(text=[text], **shown, return_tensors="pt", add_special_tokens=False)
    tokens = list(vlm.tokens(answer))
    start = [] if vlm.lm.start_token_id is None else [vlm.lm.start_token_id]
    ids = torch.cat([torch.tensor([start]).long(), inputs["input_ids"], torch.tensor([tokens])], 1)
    rest = {}
    for name, value in inputs.items():
        if name not in ("input_ids", "attention_mask"):
            same = value.shape == inputs["input_ids"].shape
            rest[name] = torch.nn.functional.pad(value, (len(start), len(tokens))) if same else value
    logits = vlm.released.model(input_ids=ids, attention_mask=torch.ones_like(ids), **rest).logits[0]
    return logits.log_softmax(-1)[-len(tokens) - 1 : -1], tokens


def mark(vlm: ReleasedVlm) -> str:
    return vlm._mark


@pytest.mark.parametrize("picture", [0, 2, None])
def test_scores_are_those_of_the_model_over_its_processors_output(
    vlm: ReleasedVlm, picture: int | None
) -> None:
    leaf, answers = "crow", [" bird", " musical instrument", " vehicle"]
    modality = "text" if picture is None else "image"
    segments = prompts.segments("kind", leaf=leaf, modality=modality)
    row = vlm.row("x", segments, -1 if picture is None else picture)
    found = log_probs(vlm, [row], NOTHING, [vlm.tokens(answer) for answer in answers])
    slot = f" {leaf}" if picture is None else mark(vlm)
    for at, answer in enumerate(answers):
        scores, tokens = own_logits(vlm, f"A{slot} is a kind of", answer, picture)
        expected = scores[torch.arange(len(tokens)), tokens].sum().item()
        assert found[0, at] == pytest.approx(expected, abs=2e-4)


def test_yes_and_no_are_read_behind_positions_of_the_models_own(vlm: ReleasedVlm) -> None:
    whole = vlm.row("x", prompts.segments("is_there", hypernym="bird"), 2)
    question = tuple(whole.ids[at] for at in whole.spans["cue"])
    found = log_odds(vlm, [whole.before_cue], NOTHING, [question], (5, 7))[0, 0]
    scores, _ = own_logits(vlm, f"{mark(vlm)} {prompts.question('bird')}", " x", 2)
    assert found == pytest.approx((scores[0, 5] - scores[0, 7]).item(), abs=2e-4)


def test_restarts_give_what_hooks_on_the_whole_pass_give(vlm: ReleasedVlm) -> None:
    rows = [vlm.row(str(n), prompts.segments("kind"), n) for n in (0, 0)]
    spans = {"slot": rows[0].spans["image"], **{name: rows[0].spans[name] for name in ("cue", "last")}}
    group = Rows(lambda: vlm.inputs(rows, NOTHING), spans)
    kept = keep(vlm.model, group)
    read = Answers.of(vlm.model, [3, 5])
    restart = Restart(vlm.model, kept)
    for span, length in (("slot", len(spans["slot"])), ("last", 1)):
        cell = Cell((Site("hook_resid_post", 1),), span)
        state = torch.randn(2, length, vlm.lm.width, generator=torch.Generator().manual_seed(0))
        patch = Patch(cell, {"blocks.1.hook_resid_post": state})
        expected = patched_by_hooks(vlm.model, group, patch, read)
        torch.testing.assert_close(restart.run([patch], read)[0], expected, rtol=1e-4, atol=1e-5)


def test_an_adopted_run_is_whole_and_is_opened_again(folders: Path, tmp_path: Path) -> None:
    run = adopted(folders / "qwen2_5_vl", tmp_path / "run")
    assert run.record["steps"] == 0
    assert run.steps == (0,)
    assert run.captured(None)
    bench = open_bench(Run.open(run.path))
    shown = bench.world.manifests["capture"].where(modality="image").frame
    row = bench.rows(bench.world.manifests["capture"].where(modality="image"))[0].prompt
    states = bench.vlm.model(
        **bench.vlm.inputs([row], bench.features), output_hidden_states=True
    ).hidden_states
    store = run.store(0)
    expected = states[1][0, list(row.spans["last"])].mean(0)
    found = store.read("blocks.0.hook_resid_post", "last")[
        list(store.item_ids).index(shown["item_id"].iloc[0])
    ]
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=2e-3)  # stored as float16


def adopted(folder: Path, path: Path, *settings: str) -> Run:
    run = Run.create(path, config.read(None, (f"model.vlm={folder}", *WORLD, *settings)))
    with run.alone():
        pipeline.train_run(run)
        pipeline.evaluate_run(run)
    return run


def test_other_weights_in_the_folder_are_refused(folders: Path, tmp_path: Path) -> None:
    folder = tiny_vlms.save("llava", tmp_path / "model")
    run = adopted(folder, tmp_path / "run")
    model = loading.load(str(folder), "float32", "cpu").model
    model.model.multi_modal_projector.linear_1.bias.data += 1
    model.save_pretrained(folder)
    with pytest.raises(MismatchError, match="encoder, projector or processing"):
        open_bench(Run.open(run.path))


def test_pictures_are_squashed_where_asked(folders: Path) -> None:
    released = loading.load(str(folders / "qwen2_5_vl"), "float32", "cpu")
    apart = {len(ReleasedVlm(released, pictures, chat=False).slot(n)) for n in range(4)}
    alike = {len(ReleasedVlm(released, pictures, chat=False, side=24).slot(n)) for n in range(4)}
    assert len(apart) > 1
    assert len(alike) == 1


def test_a_chat_template_puts_the_picture_where_the_prompt_has_it(folders: Path) -> None:
    vlm = ReleasedVlm(loading.load(str(folders / "llava"), "float32", "cpu"), pictures, chat=True)
    row: Row = vlm.row("x", prompts.segments("kind"), 0)
    text = vlm.lm.tokenizer.decode([id for id in row.ids if id >= 0])
    assert text.startswith("USER: A is a kind of")
    assert "ASSISTANT:" in text


def test_an_adopted_run_is_not_exported(folders: Path, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config.read(None, (f"model.vlm={folders / 'llava'}", *WORLD)))
    with pytest.raises(ValueError, match=r"nothing was trained; transformers opens .*llava as it is"):
        export_llava(run, tmp_path / "out", None)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.steps=10", "train.steps"),
        ("data.shuffle=within", "data.shuffle"),
        ("model.lm=other", "model.lm"),
        ("model.projector=gelu-mlp", "model.projector"),
    ],
)
def test_settings_that_decide_nothing_are_refused(setting: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}.*model.vlm"):
        config.read(None, ("model.vlm=somewhere", setting))


def test_a_side_without_a_released_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.picture_side.*model.vlm"):
        config.read(None, ("model.picture_side=64",))


def test_a_language_model_is_not_taken_for_one_that_sees(tmp_path: Path) -> None:
    import transformers as hf

    size: dict[str, Any] = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=50000, **size)).save_pretrained(tmp_path)
    tiny_vlms.VLMS["llava"]()[1].tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="reads no pictures"):
        loading.load(str(tmp_path), "float32", "cpu")


def test_chat_prompts_about_words_are_read_as_a_whole(folders: Path) -> None:
    vlm = ReleasedVlm(loading.load(str(folders / "llava"), "float32", "cpu"), pictures, chat=True)
    row = vlm.row("x", prompts.segments("is_there", leaf="crow", hypernym="bird", modality="text")).prompt
    text = vlm.lm.tokenizer.decode(row.ids)
    assert text.startswith("USER: This image shows a crow. Is there a bird")
    assert list(row.ids) == vlm.lm.tokenizer(text, add_special_tokens=False).input_ids


def test_logits_are_capped_where_the_whole_model_caps_them_and_only_there(tmp_path: Path) -> None:
    model, processor = tiny_vlms.VLMS["gemma3"]()
    model.config.text_config.final_logit_softcapping = 2.0  # which the whole model does not read
    model.lm_head.weight.data *= 20
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    vlm = ReleasedVlm(loading.load(str(tmp_path), "float32", "cpu"), pictures, chat=False)
    row = vlm.row("x", prompts.segments("kind"), 0)
    found = log_probs(vlm, [row], NOTHING, [vlm.tokens(" bird")])[0, 0]
    scores, (token,) = own_logits(vlm, f"A{mark(vlm)} is a kind of", " bird", 0)
    assert found == pytest.approx(scores[0, token].item(), abs=1e-3)


def test_a_prompt_that_holds_the_picture_token_is_refused(folders: Path) -> None:
    vlm = ReleasedVlm(loading.load(str(folders / "llava"), "float32", "cpu"), pictures, chat=False)
    with pytest.raises(ValueError, match="stands for a picture"):
        vlm.row("x", prompts.segments("study", hypernym="bird"), 0)


def test_the_language_model_of_an_adopted_run_is_its_decoder(folders: Path, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config.read(None, (f"model.vlm={folders / 'gemma3'}", *WORLD)))
    assert own_lm(run).width == 32


def test_a_released_models_cost_is_not_planned() -> None:
    with pytest.raises(ValueError, match="adopt"):
        plan.plan(config.read(None, ("model.vlm=somewhere",)), cards.card("h100"))


def test_special_tokens_around_a_text_are_found_where_texts_get_a_space(folders: Path) -> None:
    vlm = ReleasedVlm(loading.load(str(folders / "llava"), "float32", "cpu"), pictures, chat=False)
    vlm.lm.tokenizer.backend_tokenizer.normalizer = normalizers.Prepend(" ")
    assert vlm._around == (0, 0)
    assert set(vlm.slot(0)) == {IMAGE}
