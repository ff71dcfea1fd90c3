"""GGUF files as language models: one model for the same bytes; everything that is not whole refused in one line."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from tokenizers import normalizers
from transformers import AutoModelForCausalLM, LlamaConfig

from probing.store import MismatchError
from taxogen.__main__ import main
from taxogen.models import lms, shapes
from taxogen.models.lms import reading
from taxogen.models.lms.reading import Reading
from taxogen.models.tokenizers import lost
from tests import world
from tests.taxogen.models.lms import written

TOKENS = written.byte_level()[0]
CONFIG = LlamaConfig(
    vocab_size=len(TOKENS),
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(CONFIG).eval()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXOPROBE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def heard(monkeypatch):
    """Random weights pass for a model of English."""
    monkeypatch.setattr(Reading, "is_noise", False)


@pytest.fixture
def path(model, tmp_path):
    return written.write(tmp_path / "tiny.gguf", model, "llama")


def refused(path, kind, said, cache):
    with pytest.raises(kind, match=said) as refusal:
        lms.load(str(path))
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"The language model {str(path)!r} was asked for; ")
    assert not list(cache.glob("lms/*/*"))


def test_the_same_bytes_are_one_model_wherever_they_lie(path, tmp_path, cache, heard):
    (tmp_path / "there").mkdir()
    first = lms.load(str(shutil.copy(path, tmp_path / "there" / "other name.bin")))
    second = lms.load(str(path))
    assert {**first.identity, "name": ""} == {**second.identity, "name": ""}
    assert first.revision.startswith("gguf ")
    assert len(list(cache.glob("lms/*/model.safetensors"))) == 1


def test_other_bytes_at_the_same_path_are_another_model(path, model, heard):
    first = lms.load(str(path))
    changed = model.get_output_embeddings().weight + 0.01
    written.write(path, model, "llama", tensors={"output.weight": changed.detach().numpy()})
    second = lms.load(str(path))
    assert second.revision != first.revision
    assert second.weight_hash() != first.weight_hash()


def test_files_beside_a_model_are_not_read(path, heard):
    template = {"tokenizer_class": "LlamaTokenizer", "bos_token": "crow", "chat_template": "{{ 'x' }}"}
    for name in ("tokenizer_config.json", "config.json", "special_tokens_map.json", "generation_config.json"):
        (path.parent / name).write_text(json.dumps(template))
    (path.parent / "chat_template.jinja").write_text("{{ 'x' }}")
    tokenizer = lms.load(str(path)).tokenizer
    assert (tokenizer.bos_token, tokenizer.chat_template) == (written.END, None)


@pytest.mark.parametrize("init", ["random", "pretrained-embeddings"])
def test_the_other_inits_are_of_the_same_file(init, path, model, heard):
    pretrained, other = (lms.load(str(path), init=kind, dtype=torch.float32) for kind in ("pretrained", init))
    assert other.revision == pretrained.revision
    assert other.weight_hash() != pretrained.weight_hash()
    same = torch.equal(other.model.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert same == (init == "pretrained-embeddings")


def test_its_sizes_are_known_to_a_plan(path, model, heard):
    shape = shapes.lm_shape(str(path))
    assert (shape.blocks, shape.width, shape.vocabulary) == (2, 32, len(TOKENS))
    assert shape.weights == sum(weight.numel() for weight in model.parameters())
    assert shapes.tokenizer(str(path)).bos_token == written.END  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip", b"# a note\n"])
def test_what_is_no_gguf_file_is_refused(content, tmp_path, cache):
    for name in ("x.gguf", "x.GGUF", "x.bin"):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, ValueError, "it is no GGUF file: it begins with b'", cache)


def test_a_missing_file_is_refused_without_asking_the_hub(tmp_path, cache):
    for name in ("x.gguf", "x.GGUF"):
        refused(
            tmp_path / name, FileNotFoundError, "there is no such file. Give the path of a GGUF file", cache
        )


def test_a_file_that_is_cut_short_is_refused_wherever_it_was_cut(path, cache):
    whole = path.read_bytes()
    for size in [5, 23, 40, *np.random.default_rng(0).integers(64, len(whole) - 4, 4), len(whole) - 40]:
        path.write_bytes(whole[: int(size)])
        refused(path, ValueError, r"it is cut short or damaged \(.+\)\. Get it again", cache)


@pytest.mark.parametrize("architecture", ["clip", "gemma", "t5", "lama", "general"])
def test_an_unknown_architecture_is_refused_with_those_that_are_known(architecture, model, tmp_path, cache):
    path = written.write(tmp_path / "x.gguf", model, "llama", {"general.architecture": architecture})
    refused(
        path,
        ValueError,
        f"architecture '{architecture}', and transformers reads .*gemma3, .*llama, .*qwen3,",
        cache,
    )


def test_a_part_of_a_split_model_is_refused_with_the_command_that_joins(model, tmp_path, cache):
    parts = {"split.no": 1, "split.count": 3, "general.architecture": ""}
    path = written.write(tmp_path / "x-00002-of-00003.gguf", model, "llama", parts)
    refused(
        path, ValueError, "it is part 2 of 3 of a split model. Join .*llama-gguf-split --merge FIRST", cache
    )


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"model": "rwkv"}, ValueError, r"transformers cannot read it \(.*tokenizer 'rwkv'"),
        ({"tokens": None}, ValueError, r"transformers cannot read it \(.*tokens"),
        ({"merges": None}, ValueError, r"transformers cannot read it \(.*scores"),
        ({"tokens": [*TOKENS, "crow"]}, MismatchError, "501 tokens with ids up to 500 and embeddings of 500"),
        ({"tokens": list(TOKENS[:-1])}, ValueError, "transformers cannot read it"),
        ({"tokens": ["zz" if token == "Ã" else token for token in TOKENS]}, ValueError, "does not give back"),
        ({"tokens": ["zz" if token == "q" else token for token in TOKENS]}, ValueError, "does not give back"),
        (
            {"bos_token_id": 3, "tokens": [*TOKENS[:3], "a", *TOKENS[4:]]},
            MismatchError,
            "its start token is 3",
        ),
    ],
)
def test_a_tokenizer_that_is_not_whole_is_refused(fields, kind, said, model, tmp_path, cache):
    fields = {
        f"tokenizer.ggml.{key}": value and list(value) if key == "tokens" else value
        for key, value in fields.items()
    }
    refused(written.write(tmp_path / "x.gguf", model, "llama", fields), kind, said, cache)


def test_a_space_before_a_text_is_refused_where_the_file_declares_none(tmp_path, cache, heard):
    size = {**CONFIG.to_diff_dict(), "vocab_size": len(written.PIECES)}
    llama = AutoModelForCausalLM.from_config(LlamaConfig(**size)).eval()
    pieces = {**written.sentencepiece(), "tokenizer.ggml.merges": None}
    path = written.write(tmp_path / "no.gguf", llama, "llama", pieces)
    refused(path, ValueError, "declares no space before a text, and transformers' tokenizer puts one", cache)
    pieces["tokenizer.ggml.add_space_prefix"] = True
    tokenizer = lms.load(str(written.write(tmp_path / "yes.gguf", llama, "llama", pieces))).tokenizer
    assert tokenizer.tokenize("the the") == ["▁the", "▁the"]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"blk.1.ffn_up.weight": None}, r"\(missing: 1, first 'model.layers.1.mlp.up_proj.weight'\)"),
        (
            {"blk.1.ffn_up.weight": np.ones((40, 32), np.float32)},
            "of another shape: 1, first 'model.layers.1.mlp",
        ),
        (
            {"blk.0.attn_q.bias": np.ones(32, np.float32)},
            "holds 47,552 weights and transformers' LlamaForCausalLM 47,520",
        ),
        ({"blk.0.ffn_gate_inp.weight": np.ones((4, 32), np.float32)}, "some of them would be left out"),
    ],
)
def test_weights_that_are_not_those_of_the_architecture_are_refused(tensors, said, model, tmp_path, cache):
    refused(written.write(tmp_path / "x.gguf", model, "llama", tensors=tensors), MismatchError, said, cache)


def test_random_weights_are_refused_as_noise(path, cache):
    refused(
        path,
        ValueError,
        r"it reads like noise: 6\.\d+ nats a token .*; below 1.48 a character and half",
        cache,
    )


@pytest.mark.parametrize(
    ("once", "character", "again", "noise"),
    [
        (2.97, 0.64, 0.40, False),  # SmolLM2-135M
        (3.44, 0.74, 0.56, False),  # after no start token
        (2.68, 0.57, 0.36, False),  # Gemma 3 270M
        (7.65, 1.64, 2.12, True),  # after no start token, without which it reads nothing
        (3.97, 0.85, 3.23, True),  # SmolLM2 with the rows of queries and keys as llama.cpp has them
        (3.57, 0.76, 2.29, True),  # put back twice
        (6.50, 1.39, 4.80, True),  # Gemma with rows that Llama's would have
        (5.19, 1.11, 4.26, True),  # without the norms of queries and keys
        (11.16, 2.39, 2.00, True),  # each token with the embedding of the next one
        (10.91, 2.34, 10.91, True),  # random weights
    ],
)
def test_real_models_are_told_from_wrong_ones_at_what_was_measured(once, character, again, noise):
    assert Reading(once, character, again, "").is_noise == noise
    assert not math.isclose(again, once / 2, rel_tol=0.2)


def test_a_reading_is_that_of_the_models_own_loss(model, path, heard):
    lm = lms.load(str(path), dtype=torch.float32)
    start, other = lm.start_token_id, None
    got = reading.read(lm.model, lm.tokenizer, start, other)
    nats, tokens, letters, second = 0.0, 0, 0, 0.0
    for sentence in reading.SENTENCES:
        ids = lm.tokenizer(sentence, add_special_tokens=False).input_ids
        row = torch.tensor([[start, *ids, *ids]])
        for at, kind in ((range(2, len(ids) + 1), 0), (range(len(ids) + 2, 2 * len(ids) + 1), 1)):
            labels = torch.full_like(row, -100)
            labels[0, at.start : at.stop] = row[0, at.start : at.stop]
            loss = model(row, labels=labels).loss.item() * len(at)
            nats, second = (nats + loss, second) if kind == 0 else (nats, second + loss)
        tokens += len(ids) - 1
        letters += len(lm.tokenizer.decode(ids[1:]))
    np.testing.assert_allclose(
        (got.nats_per_token, got.nats_per_character, got.again),
        (nats / tokens, nats / letters, second / tokens),
        rtol=1e-5,
    )


def test_texts_that_tokens_lose_are_named_with_what_they_give(path, heard):
    tokenizer = lms.load(str(path)).tokenizer
    assert lost(tokenizer, ["crow", "Ærø", " two  spaces"]) == {}
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    assert lost(tokenizer, ["crow", "Crow"]) == {"Crow": "crow"}


def test_commands_refuse_in_one_line_and_a_run_goes_on_with_the_same_bytes_alone(
    path, model, toy_lm, tmp_path, heard, caplog
):
    settings = (*world.write_world(tmp_path, toy_lm), f"model.lm={path}")
    words = [word for setting in settings for word in ("--set", setting)]
    run, whole = tmp_path / "run", path.read_bytes()

    def error(*command):
        caplog.clear()
        assert main([*command, "--run", str(run)]) == 2
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert "\n" not in line
        return line

    path.write_bytes(whole[:999])
    for command in (["prepare", *words], ["train", *words], ["adopt", "--lm", str(path)]):
        assert "it is cut short or damaged" in error(*command)
    assert not (run / "world.json").exists()
    path.write_bytes(whole)
    assert main(["prepare", "--run", str(run), *words]) == 0
    assert json.loads((run / "world.json").read_text())["lm"]["revision"].startswith("gguf ")
    assert main(["doctor", "--run", str(run)]) == 0
    written.write(path, model, "llama", {"llama.attention.layer_norm_rms_epsilon": 0.1})
    assert "was prepared with another language model than" in error("train")
