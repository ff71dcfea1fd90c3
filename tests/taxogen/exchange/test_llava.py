"""Export: a run and its checkpoint, loaded with transformers' auto classes, give the same logits."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Gemma2Config,
    LlavaForConditionalGeneration,
)

from probing.store import MismatchError
from taxogen.__main__ import main
from taxogen.exchange.llava import export_llava
from taxogen.exchange.picture_token import with_picture_token
from taxogen.models.rows import IMAGE
from taxogen.questions import prompts
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run

EXACT = {"rtol": 1e-5, "atol": 1e-5}


def logits_of_run(run: Run, template: str, pictures: list[str]) -> tuple[list[int], torch.Tensor]:
    """The ids of a template's question (IMAGE in the slot) and the run's own next-token logits, per picture."""
    bench = open_bench(run)
    bench.vlm.projector.load_state_dict(load_file(run.snapshot(0)))
    about = {"leaf": run.taxonomy.leaves[0], "hypernym": run.taxonomy.hypernyms[0]}
    rows = [
        bench.vlm.row("", prompts.segments(template, **about), bench.picture_index[picture]).prompt
        for picture in pictures
    ]
    with torch.no_grad():
        hidden, _ = bench.vlm.hidden(rows, bench.features)
        return list(rows[0].ids), torch.stack([bench.vlm.logits(one) for one in hidden])


def checked(
    run: Run, out: Path
) -> tuple[LlavaForConditionalGeneration, AutoProcessor, dict[str, str | None]]:
    """The checkpoint of a run, whose ids and logits of every template are the run's, for square and wide pictures."""
    exported = export_llava(run, out)
    assert exported.difference < 1e-5
    model = AutoModelForImageTextToText.from_pretrained(out)
    processor = AutoProcessor.from_pretrained(out)
    assert type(model) is LlavaForConditionalGeneration
    table = open_bench(run).world.table
    chosen = table["picture"][table["split"] == "test"].iloc[:5].tolist()
    collection = open_bench(run).world.pictures
    pictures = [collection.open(name) for name in chosen]
    assert len({picture.size for picture in pictures}) == 2
    assert exported.prompts
    for template, text in exported.prompts.items():
        ids, expected = logits_of_run(run, template, chosen)
        inputs = processor(images=pictures, text=[text] * len(pictures), return_tensors="pt")
        image = model.config.image_token_id
        assert inputs["input_ids"][0].tolist() == [image if one == IMAGE else one for one in ids]
        with torch.no_grad():
            logits = model(**inputs).logits
        torch.testing.assert_close(logits[..., : expected.shape[-1]], expected, **EXACT)
        assert (expected[0] - expected[1]).abs().max() > 1e-3  # what the pictures show counts
    return model, processor, exported.prompts


@pytest.mark.parametrize("projector", ["linear", "gelu-mlp"])
@pytest.mark.parametrize("encoder", ["dinov2", "clip", "clip#final", "siglip", "vit"])
def test_logits_are_those_of_the_run(toy_run, toy_lm, tmp_path, encoder, projector):
    run = toy_run(toy_lm, encoder, f"model.projector={projector}")
    model, _, texts = checked(run, tmp_path / "out")
    assert texts == {"called": "<s>A<image> is also called", "kind": "<s>A<image> is a kind of"}
    assert model.config.image_seq_length == 16


@pytest.mark.parametrize(
    "settings", [("model.standardise=false",), ("model.hidden=9",), ("model.hidden=32",)]
)
def test_features_as_they_are_and_narrower_hidden_layers(toy_run, toy_lm, tmp_path, settings):
    checked(toy_run(toy_lm, "dinov2", *settings), tmp_path / "out")


def test_a_picture_after_the_first_token(toy_run, asking_lm, tmp_path):
    run = toy_run(asking_lm, "dinov2", "data.task=yes_no", "data.templates=study_leaf,study")
    *_, texts = checked(run, tmp_path / "out")
    assert texts["study"] == "<s><|image|><image>\nIs there a bird in this image?"


def test_questions_in_a_chat_template(toy_run, asking_lm, tmp_path):
    run = toy_run(asking_lm, "dinov2", "data.task=yes_no", "data.chat=true")
    _, processor, texts = checked(run, tmp_path / "out")
    asked = [{"type": "image"}, {"type": "text", "text": " Is there a bird in this image?"}]
    written = processor.apply_chat_template([{"role": "user", "content": asked}], add_generation_prompt=True)
    assert written == texts["is_there"] == "<s> user <|image|> Is there a bird in this image? <unk> model"


def test_the_template_writes_messages_without_more_than_they_have(toy_run, toy_lm, tmp_path):
    _, processor, texts = checked(toy_run(toy_lm), tmp_path / "out")
    parts = [{"type": "text", "text": "A"}, {"type": "image"}, {"type": "text", "text": " is a kind of"}]
    assert processor.apply_chat_template([{"role": "user", "content": parts}]) == texts["kind"]


def test_a_tokenizer_that_adds_its_start_token_is_not_given_another(toy_run, toy_lm, tmp_path):
    tokenizer: Any = AutoTokenizer.from_pretrained(toy_lm)
    adding = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = adding
    AutoModelForCausalLM.from_pretrained(toy_lm).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    _, processor, texts = checked(toy_run(tmp_path / "lm"), tmp_path / "out")
    assert texts["kind"] == "A<image> is a kind of"
    parts = [{"type": "text", "text": "A"}, {"type": "image"}, {"type": "text", "text": " is a kind of"}]
    assert processor.apply_chat_template([{"role": "user", "content": parts}]) == texts["kind"]


def test_ids_that_no_text_gives_are_said_to_have_none(toy_run, toy_lm, tmp_path, monkeypatch):
    monkeypatch.setattr("taxogen.exchange.likeness.spelling", lambda *_: None)
    exported = export_llava(toy_run(toy_lm), tmp_path / "out")
    assert exported.prompts == {"called": None, "kind": None}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| kind | no text gives the ids of these rows" in card


def test_generate_goes_on_greedily_and_never_says_the_image_token(toy_run, toy_lm, tmp_path):
    run = toy_run(toy_lm)
    model, processor, texts = checked(run, tmp_path / "out")
    table = open_bench(run).world.table
    pictures = [open_bench(run).world.pictures.open(name) for name in table["picture"][:2]]
    inputs = processor(
        images=pictures, text=["A" + str(texts["kind"]), texts["kind"]], padding=True, return_tensors="pt"
    )
    both = model.generate(**inputs, max_new_tokens=4)[:, inputs["input_ids"].shape[1] :]
    alone = processor(images=pictures[1], text=texts["kind"], return_tensors="pt")
    step = model(**alone).logits[0, -1]
    assert both[1, 0] == step[: model.config.image_token_id].argmax()
    torch.testing.assert_close(
        model.generate(**alone, max_new_tokens=4)[0, alone["input_ids"].shape[1] :], both[1]
    )
    image = model.config.image_token_id
    with torch.no_grad():
        last = model.model(**alone).last_hidden_state[0, -1]
        model.lm_head.weight[image] = 100 * last
        assert model(**alone).logits[0, -1].argmax() == image
    assert not (model.generate(**alone, max_new_tokens=4)[0, alone["input_ids"].shape[1] :] == image).any()


@pytest.mark.parametrize("rows", [0, 5])
def test_where_the_image_token_comes_from(toy_run, toy_lm, tmp_path, rows):
    """A row of the table that no token has, else a special token without a role, whose name changes."""
    tokenizer = AutoTokenizer.from_pretrained(toy_lm)
    tokenizer.add_tokens(
        [*(AddedToken(name, special=True) for name in ("<kept>", "<spare>")), AddedToken("bird's")]
    )
    config = AutoConfig.from_pretrained(toy_lm)
    config.vocab_size = len(tokenizer) + rows
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    model, processor, _ = checked(toy_run(tmp_path / "lm"), tmp_path / "out")
    assert model.config.text_config.vocab_size == config.vocab_size
    assert model.config.image_token_id == len(tokenizer) - (0 if rows else 2)
    known = processor.tokenizer.get_vocab()
    assert ("<spare>" in known) == bool(rows)
    assert "<kept>" in known
    assert known["bird's"] == len(tokenizer) - 1


@pytest.mark.parametrize("role", ["used", "template", "role", "none"])
def test_a_special_token_that_has_a_part_is_left_to_it(toy_lm, tmp_path, role):
    tokenizer: Any = AutoTokenizer.from_pretrained(toy_lm)
    tokenizer.add_tokens([AddedToken("<spare>", special=True)])
    spare, rows = len(tokenizer) - 1, len(tokenizer)
    if role == "template":
        tokenizer.chat_template = "<spare>"
    if role == "role":
        tokenizer.pad_token = "<spare>"
    token = with_picture_token(tokenizer, rows, ["<image> A"], [spare] if role == "used" else [2], tmp_path)
    assert token.text == "<|image|>"
    assert (token.id, token.instead_of) == ((spare, "<spare>") if role == "none" else (rows, ""))


def test_a_tied_table_and_one_of_its_own_stay_so(toy_run, toy_lm, tmp_path):
    tied, *_ = checked(toy_run(toy_lm), tmp_path / "out")
    assert tied.lm_head.weight.data_ptr() == tied.get_input_embeddings().weight.data_ptr()
    config = AutoConfig.from_pretrained(toy_lm)
    config.tie_word_embeddings = False
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "lm")
    AutoTokenizer.from_pretrained(toy_lm).save_pretrained(tmp_path / "lm")
    own, *_ = checked(toy_run(tmp_path / "lm", name="own"), tmp_path / "own_out")
    assert own.lm_head.weight.data_ptr() != own.get_input_embeddings().weight.data_ptr()


def test_a_language_model_that_computed_in_bfloat16_is_exported_with_its_rounded_weights(
    toy_run, toy_lm, tmp_path
):
    run = toy_run(toy_lm, "dinov2", "model.dtype=bfloat16")
    assert export_llava(run, tmp_path / "out").difference < 1e-5
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    table = model.get_input_embeddings().weight
    assert table.dtype is torch.float32
    assert torch.equal(table, table.bfloat16().float())


def test_the_card_names_what_it_was_made_from(toy_run, toy_lm, tmp_path):
    run = toy_run(toy_lm)
    export_llava(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"`{run.config.hash}` (config), `{run.world['digest'][:16]}` (world)" in card
    assert "| kind | `<s>A<image> is a kind of` |" in card
    assert f"{run.config.model.encoder}, revision `{run.world['encoder']['revision']}`" in card
    assert "| pictures | not recorded | 61 |" in card
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("model.projector=flat-gelu-mlp",), "--set model.projector=gelu-mlp"),
        (("model.projector=fused-gelu-mlp",), "--set model.projector=gelu-mlp"),
        (("model.normalise=true",), "--set model.normalise=false"),
        (("model.hidden=33",), "--set model.hidden=0"),
        (("model.image_tokens=4",), "--set model.image_tokens=16"),
        (
            ("model.encoder_tokens=4", "model.image_tokens=4"),
            "--set model.encoder_tokens=16 --set model.image_tokens=16",
        ),
    ],
)
def test_what_llava_cannot_compute_is_refused_with_the_settings_that_it_can(
    toy_run, toy_lm, tmp_path, settings, named
):
    run = toy_run(toy_lm, "dinov2", *settings)
    with pytest.raises(ValueError, match=f"no counterpart of {settings[0]}.* train another run") as refusal:
        export_llava(run, tmp_path / "out")
    assert f"`{named}`" in str(refusal.value)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        ("dinov2#final", "are normed after the last block; take '.*dinov2'"),
        ("siglip#final", "are normed after the last block"),
        ("registers", r"have 5 tokens before the patches \(registers\); take one without"),
    ],
)
def test_features_that_llava_cannot_take_are_refused(toy_run, toy_lm, tmp_path, encoder, why):
    with pytest.raises(ValueError, match=why):
        export_llava(toy_run(toy_lm, encoder), tmp_path / "out")


def test_an_encoder_without_a_class_is_refused_before_it_is_loaded(toy_run, toy_lm, tmp_path):
    run = toy_run(toy_lm)
    wanted = (
        "--set model.encoder=vit-s14-saliency --set model.encoder_tokens=256 --set model.image_tokens=256`"
    )
    for name in ("efficientnet-lite2", "timm:vit"):
        object.__setattr__(run.config.model, "encoder", name)
        with pytest.raises(ValueError, match=wanted):
            export_llava(run, tmp_path / "out")


def test_a_model_with_capped_logits_is_written_nowhere(toy_run, toy_lm, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(toy_lm)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.5,
        initializer_range=0.3,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    with pytest.raises(MismatchError, match="does not compute what Gemma2Model has beside its blocks"):
        export_llava(toy_run(tmp_path / "lm"), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_a_folder_that_is_there_is_left_as_it_is(toy_run, toy_lm, tmp_path):
    run = toy_run(toy_lm)
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="out is there already: give another --out"):
        export_llava(run, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_command_ends_with_what_it_wrote_and_how_that_is_taken_back(toy_run, toy_lm, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", "--run", str(toy_run(toy_lm).path), "--out", str(out)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = r"(\S+) is written, its logits differ from the run's by (\S+) of the largest; next: (.+)"
    found = re.fullmatch(said, line)
    assert found is not None
    assert (found[1], found[3]) == (str(out), f"taxoprobe adopt --vlm {out}")
    assert float(found[2]) < 1e-5


def test_a_run_that_is_not_trained_is_refused(toy_run, toy_lm, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not complete"):
        export_llava(toy_run(toy_lm, finished=False), tmp_path / "out")
