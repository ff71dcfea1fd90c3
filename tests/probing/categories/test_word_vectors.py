"""Word vectors: both text formats, plain or packed; phrases as entries or as means; files that are none."""

import gzip

import numpy as np
import pytest

from probing.categories.word_vectors import phrase_vectors

ENTRIES = {
    "crow": [1.0, 2.0, 3.0],
    "pencil_sharpener": [0.0, 1.0, 0.0],
    "ice": [2.0, 0.0, 0.0],
    "cream": [0.0, 2.0, 4.0],
    "at name": [9.0, 9.0, 9.0],
}
LINES = [" ".join([word, *map(str, numbers)]) for word, numbers in ENTRIES.items()]


@pytest.mark.parametrize("header", [[], ["5 3"]], ids=["glove", "word2vec"])
@pytest.mark.parametrize("suffix", [".txt", ".gz"])
def test_phrases_have_their_entry_or_the_mean_of_their_words_in_every_format(tmp_path, header, suffix):
    path = tmp_path / f"vectors{suffix}"
    text = "\n".join([*header, *LINES, "crow 7 7 7"]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if suffix == ".gz" else text.encode())
    found = phrase_vectors(path, ["Crow", "pencil sharpener", "ice cream", "ice axe", "owl", "at name"])
    assert set(found) == {"Crow", "pencil sharpener", "ice cream", "at name"}
    np.testing.assert_array_equal(found["Crow"], ENTRIES["crow"])  # the first of two entries
    np.testing.assert_array_equal(found["pencil sharpener"], ENTRIES["pencil_sharpener"])
    np.testing.assert_array_equal(found["ice cream"], [1.0, 1.0, 2.0])
    np.testing.assert_array_equal(found["at name"], ENTRIES["at name"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crow 1 2 3\nowl 1 2\n", "line 2: 3 entries were found, a word and 3 numbers"),
        ("crow\n", "line 1: 1 entries were found"),
        ("crow 1 x 3\n", "'crow': what stands behind the word"),
        ("crow 1 nan 3\n", "'crow': what stands behind the word"),
    ],
)
def test_files_of_another_format_are_refused_with_the_line(tmp_path, text, message):
    path = tmp_path / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        phrase_vectors(path, ["crow"])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is missing"):
        phrase_vectors(tmp_path / "none.txt", ["crow"])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vectors.bin", b"2 3\ncrow \x00\x00\xbf\x3f\xff\x80\xbf\xbf"),
        ("plain.gz", b"crow 1 2\n"),
        ("short.gz", gzip.compress(b"crow 1 2\n" * 9, mtime=0)[:-12]),
        ("binary.gz", gzip.compress(b"crow \xbf\xff\xfe\n", mtime=0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_text_is_refused_by_its_name_with_what_to_give(name, data, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"{name} is no text, .*; give word vectors as text, word2vec's or GloVe's"
    ):
        phrase_vectors(path, ["crow"])
