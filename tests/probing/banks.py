"""Banks of a tiny language model for tests of lenses: a tokenizer of whole words, and sentences that have them."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = ("<pad>", "<s>", "the", "old", "crow", "left", "house", "sea", "lion", "slept", ".")
SENTENCES = (
    "the old crow left the house .",
    "the old crow slept .",
    "the sea lion left .",
    "the house slept .",
)
SITES = ("hook_embed", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def tokenizer(words=WORDS):
    """One token a word."""
    built = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token=words[0]))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=built, pad_token=words[0])
