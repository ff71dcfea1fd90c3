"""Banks: every state is the model's own, what is stored and what is left out, and files of something else refused."""

import numpy as np
import pytest
import torch
from banks import SENTENCES, SITES, WORDS, tokenizer
from tiny_models import tiny

from probing.hooks import record
from probing.lens import Bank, build_bank, read_sentences, words_in
from probing.store import MismatchError


@pytest.fixture(scope="module")
def model():
    return tiny("llama")


def states(bank, site, rows=2):
    return torch.cat([piece for _, piece in bank.pieces(site, rows)])


def test_each_state_is_that_of_its_sentence_alone_and_known_beginnings_are_stored_once(model, tmp_path):
    bank = build_bank(tmp_path / "bank.h5", model, tokenizer(), SENTENCES, SITES)
    expected = ["crow", "left", "the", "house", ".", "slept", ".", "lion", "left", ".", "slept", "."]
    assert list(bank.texts) == expected  # not "the", "old", and not the crow of the second sentence again
    for row, (sentence, position, *_) in enumerate(bank.places.tolist()):
        ids = torch.tensor([[WORDS.index(word) for word in SENTENCES[sentence].split()]])
        with torch.no_grad(), record(model, list(SITES)) as seen:
            model(input_ids=ids)
        for site in SITES:
            torch.testing.assert_close(states(bank, site)[row], seen[site][0, position], rtol=1e-5, atol=1e-6)
    assert [start for start, _ in bank.pieces("hook_embed", 5)] == [0, 5, 10]


def test_tokens_before_the_sentences_are_read_and_not_stored(model, tmp_path):
    bank = build_bank(tmp_path / "bank.h5", model, tokenizer(), ["the old crow"], SITES, start=(1,))
    assert bank.texts == ("old", "crow")
    with torch.no_grad(), record(model, list(SITES)) as seen:
        model(input_ids=torch.tensor([[1, 2, 3, 4]]))
    torch.testing.assert_close(states(bank, SITES[2]), seen[SITES[2]][0, 2:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"sentences": SENTENCES[:2]}, "text"),
        ({"tokenizer": tokenizer(WORDS[::-1])}, "tokens"),
        ({"model": tiny("qwen2")}, "model"),
        ({"sites": SITES[:2]}, "sites"),
        ({"start": (1,)}, "tokens"),
    ],
)
def test_the_bank_of_something_else_is_refused_and_the_same_one_is_read(model, tmp_path, other, what):
    asked = {"model": model, "tokenizer": tokenizer(), "sentences": SENTENCES, "sites": SITES}
    path = tmp_path / "bank.h5"
    build_bank(path, **asked)
    written = path.read_bytes()
    with pytest.raises(MismatchError, match=f"is the bank of another {what} .*give another path"):
        build_bank(path, **{**asked, **other})
    assert build_bank(path, **asked).sites == SITES
    assert path.read_bytes() == written


def test_a_bank_that_cannot_be_built_is_refused_before_the_model_runs(tmp_path):
    path = tmp_path / "bank.h5"
    with pytest.raises(ValueError, match="without a sentence; give at least one"):
        build_bank(path, tiny("llama"), tokenizer(), [], SITES)
    with pytest.raises(ValueError, match="2 sentences have no token behind their first 2"):
        build_bank(path, tiny("llama"), tokenizer(), ["the old", "crow"], SITES)
    long = " ".join(["crow"] * 65)
    with pytest.raises(ValueError, match="sentence 2 has 65 tokens, more than the 64 of the model's context"):
        build_bank(path, tiny("llama"), tokenizer(), ["the old crow", long], SITES)
    with pytest.raises(ValueError, match="sentence 1 has 65 tokens"):
        build_bank(path, tiny("llama"), tokenizer(), [long[5:]], SITES, start=(1,))
    with pytest.raises(KeyError, match=r"has no states at hook_embed; it has blocks\.0"):
        next(Bank(path, (), np.zeros((0, 4), int), SITES[1:]).pieces("hook_embed"))
    assert not path.exists()


def test_text_that_is_none_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no file; give a text file"):
        read_sentences(tmp_path / "nowhere.txt")
    for content, said in ((b"\n  \n", "has no sentence"), (b"crow \xff", "is not UTF-8 at byte 5")):
        (tmp_path / "text.txt").write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_sentences(tmp_path / "text.txt")


def places(text, *tokens):
    """Sentence 0, position and characters of each token of a text, in order."""
    rows, at = [], 0
    for number, token in enumerate(tokens):
        at = text.index(token, at)
        rows.append((0, number, at, at + len(token)))
        at += len(token)
    return np.array(rows)


@pytest.mark.parametrize(
    ("text", "tokens", "words"),
    [
        ("The SEA lion's cry.", ("The", " SE", "A", " lion", "'s", " cry", "."),
         ("the", "sea lion", "sea lion", "sea lion", "s", "cry", ".")),
        ("foxes box, oxen", ("fo", "xes", " box", ",", " oxen"), ("fox", "fox", "box", ",", "oxen")),
        ("lion sea", ("lion", " sea"), ("lion", "sea")),
        ("sea-lions", ("sea", "-", "lions"), ("sea", "-", "lion")),
    ],
)  # fmt: skip
def test_tokens_are_pieces_of_terms_or_of_other_words(text, tokens, words):
    bank = Bank(None, (text,), places(text, *tokens), ())  # pyright: ignore[reportArgumentType]
    names, number = words_in(bank, ["lion", "sea lion", "fox", "absent"])
    assert names[:4] == ("lion", "sea lion", "fox", "absent")
    assert tuple(names[at] for at in number) == words
