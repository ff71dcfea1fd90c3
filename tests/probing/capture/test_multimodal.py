"""Spans in what processors make, and the text stack by itself: both against the whole models."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from probing import edit, record
from probing.capture import CaptureBatch, capture
from probing.capture.picture_spans import picture_mark, picture_spans, picture_token, runs
from probing.capture.text_stack import TextStack, handed, stacked
from probing.spans import word_range
from tests.probing.tiny_vlms import VLMS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module", params=VLMS)
def vlm(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return VLMS[request.param]()


def picture(seed: int, width: int = 20, height: int = 16) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def prompts(processor: Any) -> tuple[list[str], list[list[Image.Image]]]:
    mark = picture_mark(processor)
    texts = [f"A{mark} is a kind of", f"Look at this:{mark} the crow is black and it is a kind of"]
    return texts, [[picture(0)], [picture(1, 16, 30)]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_spans_hold_the_tokens_of_their_characters(vlm: tuple[Any, Any], side: str) -> None:
    _, processor = vlm
    texts, images = prompts(processor)
    inputs = processor(text=texts, images=images, padding=True, padding_side=side, return_tensors="pt")
    ranges = [{"cue": word_range(text, "a kind of"), "start": (0, 1)} for text in texts]
    spans = picture_spans(inputs, processor, texts, ranges, tiles=True)
    for row, ids in enumerate(inputs["input_ids"].tolist()):
        assert processor.tokenizer.decode([ids[at] for at in spans["cue"][row]]).strip() == "a kind of"
        assert [processor.tokenizer.decode(ids[at]) for at in spans["start"][row]] == [["A"], ["Look"]][row]
        assert spans["last"][row] == spans["cue"][row][-1:]
        real = inputs["attention_mask"][row].bool().tolist()
        own = [at for at, id in enumerate(ids) if id == picture_token(processor) and real[at]]
        assert list(spans["image"][row]) == own
        tiles = [spans[name][row] for name in spans if name.startswith("image.")]
        assert tiles == runs(own)


def test_several_pictures_are_one_span_and_texts_between_them_are_found() -> None:
    _, processor = VLMS["llava"]()
    text = "A <image> and a <image> fly"
    inputs = processor(text=[text], images=[[picture(0), picture(1)]], return_tensors="pt")
    spans = picture_spans(inputs, processor, [text], [{"and": word_range(text, "and")}], tiles=True)
    ids = inputs["input_ids"][0].tolist()
    assert len(spans["image"][0]) == 18
    assert len(spans["image.0"][0]) == len(spans["image.1"][0]) == 9
    assert processor.tokenizer.decode([ids[at] for at in spans["and"][0]]) == " and"
    assert max(spans["image.0"][0]) < spans["and"][0][0] < min(spans["image.1"][0])


def test_characters_that_the_processor_joins_with_a_picture_are_refused() -> None:
    _, processor = VLMS["gemma3"]()
    text = "Look: <start_of_image> a crow"  # the space becomes one token with the lines that Gemma puts there
    inputs = processor(text=[text], images=[[picture(0)]], return_tensors="pt")
    with pytest.raises(ValueError, match="leave them out of the span"):
        picture_spans(inputs, processor, [text], [{"space": (5, 6)}])


def test_a_row_without_picture_tokens_is_refused() -> None:
    _, processor = VLMS["llava"]()
    with pytest.raises(ValueError, match="hold no picture token"):
        picture_spans(processor.tokenizer(["A crow"], return_tensors="pt"), processor, ["A crow"])


def test_the_text_stack_gives_the_logits_of_the_whole_model(vlm: tuple[Any, Any]) -> None:
    model, processor = vlm
    texts, images = prompts(processor)
    each = [
        processor(text=[text], images=[shown], return_tensors="pt")
        for text, shown in zip(texts, images, strict=True)
    ]
    given = [handed(model, inputs) for inputs in each]
    stack, whole = TextStack(model), [model(**inputs).logits[0] for inputs in each]
    together = stack(**stacked(given)).logits
    for row, logits in enumerate(whole):
        assert torch.equal(stack(**given[row]).logits[0], logits)
        torch.testing.assert_close(together[row, : len(logits)], logits, rtol=0, atol=2e-6)


def test_what_is_handed_is_seen_by_no_hook_and_changed_by_none(vlm: tuple[Any, Any]) -> None:
    model, processor = vlm
    texts, images = prompts(processor)
    inputs = processor(text=texts[:1], images=images[:1], return_tensors="pt")
    plain = handed(model, inputs)["inputs_embeds"]
    stack = TextStack(model)
    with record(stack, ["hook_embed"]) as seen, edit(stack, {"hook_embed": torch.zeros_like}):
        given = handed(model, inputs)
        stack(**given)
    assert torch.equal(given["inputs_embeds"], plain)
    assert torch.equal(seen["hook_embed"], plain)


def test_rows_with_and_without_a_picture_do_not_go_together() -> None:
    model, processor = VLMS["qwen2_5_vl"]()
    texts, images = prompts(processor)
    shown = processor(text=texts[:1], images=images[:1], return_tensors="pt")
    read = processor(text=["A crow is a kind of"], return_tensors="pt")
    with pytest.raises(ValueError, match="different arguments"):
        stacked([handed(model, shown), handed(model, read)])


def test_captures_are_the_states_of_the_models_own_forward_pass(vlm: tuple[Any, Any], tmp_path: Any) -> None:
    model, processor = vlm
    texts, images = prompts(processor)
    inputs = processor(text=texts[:1], images=images[:1], return_tensors="pt")
    spans = picture_spans(inputs, processor, texts[:1], [{"cue": word_range(texts[0], "a kind of")}])
    site = "blocks.1.hook_resid_post"
    batch = CaptureBatch(dict(inputs), ["a"], {name: spans[name] for name in ("image", "cue")})
    store = capture(model, [batch], tmp_path / "store", sites=[site], dtype="float32")
    with record(model, [site]) as seen:
        model(**inputs)
    for span in ("image", "cue"):
        expected = seen[site][0, list(spans[span][0])].mean(0)
        np.testing.assert_allclose(store.read(site, span)[0], expected.numpy(), rtol=0, atol=1e-6)
