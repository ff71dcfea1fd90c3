"""A toy world that needs no download: a two-block language model and a tokenizer that knows its words."""

from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

LEAVES = {
    "bird": ("crow", "duck", "eagle", "owl"),
    "fruit": ("apple", "banana", "pear", "tomato"),
    "vegetable": ("carrot", "onion", "pea", "tomato"),
}
WORDS = [
    "<|endoftext|>",
    "<unk>",
    "<s>",
    "A",
    "An",
    "The",
    "is",
    "also",
    "called",
    "a",
    "kind",
    "of",
    "type",
    "thing",
]
WORDS += ["object", "item", ".", *LEAVES, *sorted({leaf for leaves in LEAVES.values() for leaf in leaves})]
QUESTION_WORDS = (
    "Is",
    "there",
    "in",
    "this",
    "image?",
    "This",
    "image",
    "shows",
    "Yes",
    "No",
    "user",
    "model",
)


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; `tea pot` would be two."""
    built = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>", eos_token="<|endoftext|>")


@pytest.fixture(scope="session")
def toy_lm(tmp_path_factory) -> Path:
    """The folder of a Llama with 2 blocks of width 32 and random weights."""
    folder = tmp_path_factory.mktemp("toy_lm")
    torch.manual_seed(7)  # not that of a random init
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def asking_lm(toy_lm, tmp_path_factory) -> Path:
    """The folder of a toy language model that knows the words of yes/no questions and has a chat template."""
    folder = tmp_path_factory.mktemp("asking_lm")
    tokenizer = toy_tokenizer()
    tokenizer.add_tokens([AddedToken(word, single_word=True) for word in QUESTION_WORDS])
    tokenizer.add_tokens([AddedToken("<image>"), AddedToken(".")])
    tokenizer.chat_template = (
        "{% for message in messages %}<s> {{ message['role'] }} {{ message['content'] }} <unk>{% endfor %}"
        "{% if add_generation_prompt %} model{% endif %}"
    )
    size = AutoConfig.from_pretrained(toy_lm)
    size.vocab_size = len(tokenizer)
    torch.manual_seed(8)
    AutoModelForCausalLM.from_config(size).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pytest_addoption(parser):
    parser.addoption(
        "--freeze", action="store_true", help="record the frozen tables of tests/test_frozen.py anew"
    )
