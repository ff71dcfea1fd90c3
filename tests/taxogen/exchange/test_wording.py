"""Wording: the text by which an exported processor gives a row's ids, for wordings and tokenizers of every kind."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from taxogen.exchange.picture_token import with_picture_token
from taxogen.exchange.wording import ids_with, spelling
from taxogen.models import lms
from taxogen.models.rows import Speller
from taxogen.questions import prompts


@pytest.mark.slow
@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("start", [0, None])
@pytest.mark.parametrize("template", prompts.TEMPLATES)
def test_every_template_has_a_text(tmp_path, template, start, chat):
    tokenizer = AutoTokenizer.from_pretrained(lms.embedded_folder())
    segments = prompts.segments(template, leaf="crow", hypernym="animal")
    if chat:
        segments, start = prompts.in_chat(segments, tokenizer), None
    speller = Speller(
        lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids) if text else (),
        () if start is None else (start,),
        tokenizer.eos_token_id,
        3,
    )
    row = speller.row("", segments, 0)
    token = with_picture_token(tokenizer, len(tokenizer), [segments.text], row.prompt.ids, tmp_path)
    processor = SimpleNamespace(tokenizer=token.tokenizer, image_token=token.text)
    text = spelling(processor, row, segments, start, token.id)
    assert text is not None
    assert text.count(token.text) == 1
    expanded = text.replace(token.text, 3 * token.text)
    assert token.tokenizer(expanded).input_ids == ids_with(row, token.id)
    other = replace(row, ids=row.ids[::-1])
    assert spelling(processor, other, segments, start, token.id) is None
    if template == "study" and not chat:
        place = "<|endoftext|><|image|><image>" if start == 0 else "<<|image|>image>"
        assert text == f"{place}\nIs there an animal in this image?"
