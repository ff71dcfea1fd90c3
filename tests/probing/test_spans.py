import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from probing import hooks
from probing.spans import (
    Row,
    collate,
    cue_range,
    encode,
    expand_images,
    image_positions,
    shared_prefix,
    tokens_in,
    with_span,
    word_range,
)

TEXT = "A golden retriever is a kind of"


def byte_tokenizer(merges=(), bos=True):
    """A byte-level BPE tokenizer: every character a token, but for the given merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "<pad>", *alphabet, *("".join(pair) for pair in merges)]
    built = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, list(merges)))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    if bos:
        built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>", pad_token="<pad>")


MERGES = [("Ġ", "r"), ("Ġr", "e"), ("t", "r"), ("tr", "i"), ("e", "r"), ("Ġ", "g"), ("o", "l"), ("Ġg", "ol")]


def said(tokenizer, row, span):
    return tokenizer.decode([row.ids[position] for position in row.spans[span]])


@pytest.mark.parametrize("bos", [True, False])
def test_a_span_is_the_tokens_of_its_characters(bos):
    tokenizer = byte_tokenizer(MERGES, bos)
    ranges = {"noun": word_range(TEXT, "golden retriever"), "cue": cue_range(TEXT)}
    row = encode(tokenizer, TEXT, ranges)
    assert said(tokenizer, row, "noun").strip() == "golden retriever"
    assert said(tokenizer, row, "cue").strip() == "a kind of"
    assert row.spans["last"] == (len(row.ids) - 1,)
    assert said(tokenizer, row, "last") == "f"


def test_special_tokens_may_be_left_out():
    tokenizer = byte_tokenizer(MERGES)
    with_bos, without = encode(tokenizer, TEXT), encode(tokenizer, TEXT, add_special_tokens=False)
    assert with_bos.ids == (0, *without.ids)


def test_a_range_that_cuts_a_token_takes_it_whole():
    tokenizer = byte_tokenizer(MERGES)
    start, _ = word_range(TEXT, "retriever")
    row = encode(tokenizer, TEXT, {"part": (start + 1, start + 2)})
    assert said(tokenizer, row, "part").strip() == "re"


@settings(max_examples=50, deadline=None)
@given(st.text("aeir tgoñ🦉", min_size=1, max_size=20), st.data())
def test_any_range_is_covered_and_touched_by_its_tokens_only(text, data):
    tokenizer = byte_tokenizer(MERGES)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    found = tokens_in(offsets, (start, end))
    covered = {c for i in found for c in range(*offsets[i])}
    assert covered >= set(range(start, end)) & {c for pair in offsets for c in range(*pair)}
    assert all(set(range(*offsets[i])) & set(range(start, end)) for i in found)


def test_a_word_is_found_whole_and_only_when_it_is_clear_which():
    assert word_range("a cat, a caterpillar", "cat") == (2, 5)
    with pytest.raises(ValueError, match=r"'owl' does not occur in 'a cat'"):
        word_range("a cat", "owl")
    with pytest.raises(ValueError, match=r"occurs 2 times .* say which"):
        word_range("a cat is a cat", "cat")
    assert word_range("a cat is a cat", "cat", -1) == (11, 14)
    assert word_range("a cat is a cat", "cat", 0) == (2, 5)
    with pytest.raises(ValueError, match="occurrence 2 of 'cat' was asked for"):
        word_range("a cat is a cat", "cat", 2)
    # "musical INstrument": a word inside another is not that word
    with pytest.raises(ValueError, match="does not occur"):
        word_range("a musical instrument", "in")


def test_the_cue_is_the_words_before_the_answer():
    text = "A crow is a kind of bird."
    assert text[slice(*cue_range(text, text.index(" bird"), 2))] == "kind of"
    assert text[slice(*cue_range(text, words=1))] == "bird."
    with pytest.raises(ValueError, match="9 words before character 19 were asked for"):
        cue_range(text, 19, 9)


def test_refusals():
    with pytest.raises(ValueError, match=r"no token overlaps the characters 40 to 50 of span 'noun'"):
        encode(byte_tokenizer(), TEXT, {"noun": (40, 50)})
    with pytest.raises(ValueError, match="object cannot say which characters a token covers"):
        encode(object(), TEXT)
    with pytest.raises(ValueError, match=r"no picture token \(id 9\) among 2 tokens"):
        image_positions([1, 2], 9)
    with pytest.raises(ValueError, match="1 picture placeholders, 2 pictures were given"):
        expand_images(Row((1, 9, 2), {}), 9, [4, 4])
    with pytest.raises(ValueError, match=r"span 'x' has positions \[3\], the row has 3 tokens"):
        with_span(Row((1, 2, 3), {}), "x", [3])
    with pytest.raises(ValueError, match="need the same spans"):
        collate([Row((1,), {"a": (0,)}), Row((1,), {"b": (0,)})])
    with pytest.raises(ValueError, match="do not share their first 2 tokens"):
        collate([Row((1, 2, 3), {}), Row((1, 3, 3), {})], prefix=2)


def test_expansion_moves_what_comes_after_the_picture():
    row = Row((5, 9, 6, 7, 9, 8), {"first": (0,), "both": (1, 3), "last": (5,)})
    wide = expand_images(row, 9, [3, 2])
    assert wide.ids == (5, 9, 9, 9, 6, 7, 9, 9, 8)
    assert wide.spans == {"first": (0,), "both": (1, 2, 3, 5), "last": (8,), "image": (1, 2, 3, 6, 7)}
    assert wide.spans["image"] == image_positions(wide.ids, 9)


ROWS = st.lists(st.lists(st.integers(3, 110), min_size=2, max_size=7), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    ROWS,
    st.lists(st.integers(3, 110), max_size=4),
    st.sampled_from(["left", "right"]),
    st.booleans(),
    st.data(),
)
def test_collated_spans_point_at_the_same_tokens(rests, start, side, share, data):
    rows = []
    for rest in rests:
        ids = (*start, *rest)
        chosen = data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=3))
        rows.append(Row(ids, {"some": tuple(chosen), "last": (len(ids) - 1,)}))
    prefix = len(start) if share else 0
    inputs, spans = collate(rows, pad=1, side=side, prefix=prefix)
    whole = torch.cat(
        [torch.tensor(start * prefix and start).long().expand(len(rows), prefix), inputs["input_ids"]], 1
    )
    for i, row in enumerate(rows):
        for name, positions in row.spans.items():
            assert whole[i, list(spans[name][i])].tolist() == [row.ids[p] for p in positions]
        assert inputs["attention_mask"][i].sum() == len(row.ids)
        assert all(inputs["attention_mask"][i, p] for p in spans["some"][i])
        real = inputs["attention_mask"][i, prefix:].bool()
        assert inputs["position_ids"][i][real].tolist() == list(range(prefix, len(row.ids)))


def test_padding_on_either_side_gives_the_activations_of_no_padding():
    model = tiny("llama")
    rows = [Row((5, 6, 7, 8, 9), {"noun": (1, 2)}), Row((10, 11, 12), {"noun": (1,)})]
    for side in ("left", "right"):
        inputs, spans = collate(rows, side=side)
        found = hooks.run(model, inputs, "blocks.2.hook_resid_post")["blocks.2.hook_resid_post"]
        for i, row in enumerate(rows):
            alone = hooks.run(model, {"input_ids": torch.tensor([row.ids])}, "blocks.2.hook_resid_post")
            expected = alone["blocks.2.hook_resid_post"][0, list(row.spans["noun"])]
            assert torch.allclose(found[i, list(spans["noun"][i])], expected, atol=1e-5)


def test_shared_prefix_leaves_every_row_a_token():
    assert shared_prefix([Row((1, 2, 3), {}), Row((1, 2, 4), {})]) == 2
    assert shared_prefix([Row((1, 2, 3), {}), Row((1, 2, 3), {})]) == 2
    assert shared_prefix([Row((1,), {}), Row((1, 2), {})]) == 0
    assert shared_prefix([Row((5, 2), {}), Row((1, 2), {})]) == 0
