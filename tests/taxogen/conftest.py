from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoConfig, AutoModelForCausalLM

from taxogen.taxonomy import Taxonomy
from tests.conftest import toy_tokenizer

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


@pytest.fixture
def toy_taxonomy() -> Taxonomy:
    """3 hypernyms x 4 leaves; tomato stands under two of them (so 11 leaves)."""
    below = {
        "bird": ("crow", "duck", "eagle", "owl"),
        "fruit": ("apple", "banana", "pear", "tomato"),
        "vegetable": ("carrot", "onion", "pea", "tomato"),
    }
    return Taxonomy(tuple((leaf, hypernym) for hypernym, leaves in below.items() for leaf in leaves))


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
