"""The identity of a tokenizer: the same for every use and process, another for everything that moves an id."""

import os
import subprocess
import sys
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, CTRLTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from taxogen.models import lms
from taxogen.models.tokenizers import following, opening, tokenizer_hash

LETTERS = "abcdefgh"
VOCABULARY = {token: at for at, token in enumerate(["<s>", "</s>", *LETTERS, "ab", "abc", "Ġa", "Ġ"])}
MERGES: list[Any] = [("a", "b"), ("ab", "c"), ("Ġ", "a")]
TEMPLATE = "{% for message in messages %}<s>{{ message['content'] }}{% endfor %}"


def built(vocabulary=VOCABULARY, merges=MERGES, prefix=False, **special):
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{"bos_token": "<s>", "eos_token": "</s>"} | special
    )


def changed(change):
    tokenizer = built()
    change(tokenizer)
    return tokenizer


def lower(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def surround(tokenizer):
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )


OTHERS = {
    "one merge less": lambda: built(merges=MERGES[:-1]),
    "merges in another order": lambda: built(merges=[MERGES[2], *MERGES[:2]]),
    "two ids exchanged": lambda: built({**VOCABULARY, "a": VOCABULARY["b"], "b": VOCABULARY["a"]}),
    "one more entry": lambda: built({**VOCABULARY, "zz": 14}),
    "another start token": lambda: built(bos_token="a"),
    "a padding token": lambda: built(pad_token="</s>"),
    "a space before the text": lambda: built(prefix=True),
    "a chat template": lambda: built(chat_template=TEMPLATE),
    "special tokens as text": lambda: built(split_special_tokens=True),
    "an added token": lambda: changed(lambda tokenizer: tokenizer.add_tokens(["<image>"])),
    "an added token that eats space": lambda: changed(
        lambda tokenizer: tokenizer.add_tokens([AddedToken("<image>", lstrip=True)])
    ),
    "lower case": lambda: changed(lower),
    "a start token in every text": lambda: changed(surround),
}


@pytest.mark.parametrize("name", OTHERS)
def test_everything_that_moves_an_id_changes_the_hash(name):
    others = {key: tokenizer_hash(make()) for key, make in OTHERS.items()}
    assert others[name] != tokenizer_hash(built())
    assert len(set(others.values())) == len(OTHERS)


def test_a_word_of_the_chat_template_changes_the_hash():
    hashes = {tokenizer_hash(built(chat_template=text)) for text in (TEMPLATE, TEMPLATE.replace("<s>", ""))}
    assert len(hashes) == 2


def test_use_saving_and_loading_leave_the_hash(tmp_path):
    tokenizer = built(chat_template=TEMPLATE, pad_token="</s>")
    before = tokenizer_hash(tokenizer)
    tokenizer(["abc", "a b"], padding="max_length", max_length=7, truncation=True, return_tensors="np")
    tokenizer("<s>a", split_special_tokens=True, add_special_tokens=False)
    tokenizer.decode([2, 3])
    tokenizer.apply_chat_template([{"role": "user", "content": "abc"}])
    assert tokenizer_hash(tokenizer) == before
    assert len(before) == 16
    tokenizer.save_pretrained(tmp_path)
    first = AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "b").mkdir()
    first.save_pretrained(tmp_path / "b")
    assert tokenizer_hash(first) == before == tokenizer_hash(AutoTokenizer.from_pretrained(tmp_path / "b"))


PROCESS = """
import sys
from transformers import AutoTokenizer
from taxogen.models.tokenizers import following, opening, tokenizer_hash
print(*(tokenizer_hash(AutoTokenizer.from_pretrained(folder)) for folder in sys.argv[1:]))
"""


def slow_folder(folder, merges="a b\nab c</w>\n"):
    (folder / "vocab.json").write_text(
        '{"a": 0, "b": 1, "ab": 2, "c": 3, "c</w>": 4, "abc</w>": 5, "<unk>": 6}'
    )
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")
    CTRLTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    return folder


def test_another_hash_seed_gives_the_same_hash(tmp_path):
    for name in ("fast", "slow"):
        (tmp_path / name).mkdir()
    built(pad_token="a", unk_token="b").save_pretrained(tmp_path / "fast")
    slow_folder(tmp_path / "slow")
    said = [
        subprocess.run(
            [sys.executable, "-c", PROCESS, str(tmp_path / "fast"), str(tmp_path / "slow")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(set(said[0])) == 2


def test_a_tokenizer_written_in_python_is_known_by_its_files_and_its_settings(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = CTRLTokenizer.from_pretrained(slow_folder(tmp_path / "one"))
    assert not one.is_fast
    before = tokenizer_hash(one)
    one("ab abc", padding=False, truncation=True, max_length=2)
    assert tokenizer_hash(one) == before
    two = CTRLTokenizer.from_pretrained(slow_folder(tmp_path / "two", merges="a b\n"))
    assert tokenizer_hash(two) != before
    one.add_tokens(["<image>"])
    assert tokenizer_hash(one) != before


def test_gpt2s_own_switch_for_a_leading_space_counts(tmp_path):
    built().save_pretrained(tmp_path)
    plain, prefixed = (
        GPT2Tokenizer(vocab=VOCABULARY, merges=MERGES, add_prefix_space=prefix) for prefix in (False, True)
    )
    assert tokenizer_hash(plain) != tokenizer_hash(prefixed)


@pytest.mark.slow
def test_the_embedded_language_model_knows_its_tokenizer():
    lm = lms.load()
    before = lm.tokenizer_hash
    assert before == tokenizer_hash(lm.tokenizer)
    lm.tokenizer(["a crow", "a crow is"], padding=True, return_tensors="pt")
    assert lm.tokenizer_hash == before
    lm.tokenizer.add_tokens(["<image>"])
    assert lm.tokenizer_hash != before


def like_llama() -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before every text that it is given."""
    words = ["<unk>", "▁", "▁A", "▁crow", "▁is", "▁a", "▁kind", "▁of", "▁bird", "\n", "?"]
    pieces = Tokenizer(models.Unigram([(word, -1.0 / len(word)) for word in words], unk_id=0))
    pieces.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=pieces)


@pytest.mark.parametrize(
    "pieces", [("A", " crow", " is a kind of"), ("A", " crow", " is", " a bird"), ("A crow", "?", "\nA")]
)
def test_pieces_of_a_text_have_the_tokens_of_the_whole(pieces):
    tokenizer = like_llama()
    whole = opening(tokenizer, "".join(pieces))
    first, *rest = pieces
    assert opening(tokenizer, first) + sum((following(tokenizer, piece) for piece in rest), ()) == whole
    assert opening(tokenizer, " crow") != following(tokenizer, " crow")


def test_a_tokenizer_that_joins_lines_with_what_follows_is_refused():
    pieces = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("▁a", -1.0), ("\n▁a", -0.1), ("\n", -9.0)], 0)
    )
    pieces.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    with pytest.raises(ValueError, match="joins ' a' with the line before it"):
        following(PreTrainedTokenizerFast(tokenizer_object=pieces), " a")
