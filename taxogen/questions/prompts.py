"""Prompts: how a question is put. Completions with a slot for a picture or a leaf's name; yes/no questions.

`segments(prompt, leaf=…, hypernym=…, modality=…)` gives the texts that the model code tokenises one by one,
each with its own leading space. A picture row and a text row share every segment but the slot, except that
"A" stays "A" before a vowel too: a fitting article would give the subject away.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from jinja2 import TemplateError

from probing.sites import SPAN_OF_SLOT
from taxogen.questions.nouns import is_plural, noun_phrase, spoken

Modality = Literal["image", "text"]


@dataclass(frozen=True)
class Format:
    """How questions are answered: completions with a name, closed questions with one of two fixed words.

    Attributes:
        prompts: the default templates of leaf and of hypernym questions.
        answers: the words that affirm and deny a closed question; empty for completions.
    """

    prompts: Mapping[str, tuple[str, ...]]
    answers: tuple[str, str] | tuple[()] = ()


FORMATS: Mapping[str, Format] = {
    "completion": Format({"leaf": ("called",), "hypernym": ("kind",)}),
    "yes_no": Format({"leaf": ("is_there_leaf",), "hypernym": ("is_there",)}, ("Yes", "No")),
}
"""Every format by name (`data.task`); `taxogen.answers.READOUTS` has the read-out of each."""


@dataclass(frozen=True)
class Template:
    """A way to put a question.

    Attributes:
        task: "leaf" or "hypernym": the kind of name that it asks for.
        before: text before the slot.
        after: text between slot and answer; {asked} is the noun phrase of a yes/no question.
        with_article: whether the answer carries its article ("an animal").
        format: a name in `FORMATS`.
        image_at: where a picture's tokens stand; "after_first_token" is the study's code.
    """

    task: str
    before: str
    after: str
    with_article: bool = False
    format: str = "completion"
    image_at: Literal["slot", "after_first_token"] = "slot"

    @property
    def answers(self) -> tuple[str, str] | tuple[()]:
        """The words that affirm and deny it, where it is a closed question; empty for completions."""
        return FORMATS[self.format].answers


TEMPLATES = {
    "kind": Template("hypernym", "A", " is a kind of"),
    "type": Template("hypernym", "A", " is a type of"),
    "the_kind": Template("hypernym", "The", " is a kind of"),
    "is_a": Template("hypernym", "A", " is", with_article=True),
    "called": Template("leaf", "A", " is also called"),
    "the_called": Template("leaf", "The", " is also called"),
    "known_as": Template("leaf", "A", " is also known as", with_article=True),
    "is_there": Template("hypernym", "", "{asked}", format="yes_no"),
    "is_there_leaf": Template("leaf", "", "{asked}", format="yes_no"),
    "study": Template("hypernym", "", "<image>\n{asked}", format="yes_no", image_at="after_first_token"),
    "study_leaf": Template("leaf", "", "<image>\n{asked}", format="yes_no", image_at="after_first_token"),
}
"""Every template by name. `study` and `study_leaf` put the picture after the first text token and keep the
literal "<image>", as the published code does; all others put the picture in the slot."""

TODAY = datetime.date(2024, 7, 26)
"""The date that chat templates are given, where they print one."""

NEUTRAL = ("thing", "object", "item")
"""Subjects that name no category; log P(hypernym | prompt) is compared with their mean."""


@dataclass(frozen=True)
class Segments:
    """The texts of one prompt, to be tokenised one by one; each starts with its own space where it needs one.

    Attributes:
        slot: the leaf's name, or None where the picture's tokens stand.
        end: what closes the sentence after the answer.
        image_at: see `Template`.
    """

    before: str
    slot: str | None
    after: str
    answer: str
    end: str = "."
    image_at: Literal["slot", "after_first_token"] = "slot"

    @property
    def text(self) -> str:
        """The whole sentence as a person reads it."""
        slot = " [picture]" if self.slot is None else self.slot
        return f"{self.before}{slot}{self.after}{self.answer}{self.end}".strip()


def span_name(span: str, modality: Modality) -> str:
    """The name of a span in rows of a modality: `slot` is the picture's tokens, or the leaf's name in their place."""
    return SPAN_OF_SLOT[modality] if span == "slot" else span


def template(prompt: str) -> Template:
    """The template of that name.

    Raises:
        KeyError: there is none; lists the known ones.
    """
    if prompt not in TEMPLATES:
        raise KeyError(f"prompt {prompt!r} was asked for; known: {', '.join(TEMPLATES)}")
    return TEMPLATES[prompt]


def names(task: str, format: str = "completion") -> tuple[str, ...]:
    """The names of the templates of a task in a format, the compatibility rules left out."""
    return tuple(
        name
        for name, form in TEMPLATES.items()
        if form.task == task and form.format == format and form.image_at == "slot"
    )


def segments(
    prompt: str,
    *,
    leaf: str = "",
    hypernym: str = "",
    modality: Modality = "image",
    asked: str = "",
    answer: str = "",
) -> Segments:
    """The texts of one prompt.

    Args:
        prompt: a name in `TEMPLATES`.
        leaf: the name of the subject; fills the slot of a text row and answers a leaf completion.
        hypernym: answers a hypernym completion, and is the noun of a yes/no question about a hypernym.
        modality: "image" leaves the slot to the picture's tokens.
        asked: the noun of a yes/no question about a leaf; `leaf` unless given.
        answer: "Yes" or "No" for a yes/no question; overrides the answer of a completion.

    Raises:
        KeyError: no such prompt.
        ValueError: the prompt needs a leaf or a hypernym that was not given.
    """
    form = template(prompt)
    _require(prompt, "leaf", leaf, needed=modality == "text")
    noun = hypernym if form.task == "hypernym" else asked or leaf
    if form.answers:
        _require(prompt, form.task, noun, needed=True)
        return _question(form, spoken(noun), spoken(leaf) if modality == "text" else None, answer)
    slot = f" {spoken(leaf)}" if modality == "text" else None
    named = spoken(answer or (hypernym if form.task == "hypernym" else leaf))
    said = noun_phrase(named) if form.with_article and named else named
    return Segments(form.before, slot, form.after, f" {said}" if said else "")


def neutral(prompt: str, *, hypernym: str = "", answer: str = "") -> tuple[Segments, ...]:
    """The prompt about subjects that name no category, in text: the level with which a read-out is compared."""
    return tuple(
        segments(prompt, leaf=subject, hypernym=hypernym, answer=answer, modality="text")
        for subject in NEUTRAL
    )


def of_item(item: Any) -> Segments:
    """The texts of a manifest row (an `Item`, or a named tuple with its fields)."""
    return segments(
        item.prompt,
        leaf=item.leaf,
        hypernym=item.hypernym,
        modality=item.modality,
        asked=item.asked,
        answer=item.answer,
    )


def in_chat(parts: Segments, tokenizer: Any) -> Segments:
    """The same prompt as the user's turn of the tokenizer's chat template, the answer as the assistant's.

    The template's own text goes into `before` and `after`, so that the picture still stands in the slot. Templates
    that print today's date print `TODAY`: a prompt, and with it every state, does not change over night.

    Args:
        parts: the prompt.
        tokenizer: or a processor, whose template may take a message as text or as a list of parts.

    Raises:
        ValueError: there is no template, or it does not show the user's text once.
    """
    if getattr(tokenizer, "chat_template", "") is None:
        raise ValueError(
            f"{type(tokenizer).__name__} has no chat template: set data.chat=false, or "
            "choose a language model that was made for chat"
        )
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    inner = f"{parts.before}{mark}{parts.after}" if parts.before else f"{mark}{parts.after}"
    options = {"date_string": TODAY.strftime("%d %b %Y"), **_dated(tokenizer)}
    whole = ""
    for content in (inner, [{"type": "text", "text": inner}]):
        turn = [{"role": "user", "content": content}]
        try:
            whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, **options)
        except (TypeError, TemplateError):  # a template of messages in the other form
            continue
        if whole.count(mark) == 1:
            break
    else:
        raise ValueError(
            f"the chat template of {type(tokenizer).__name__} shows the user's text {whole.count(mark)}×, "
            "not once: use the prompt without a chat template"
        )
    before, after = whole.split(mark)
    return replace(parts, before=before, after=after, answer=parts.answer.strip(), end="")


def _dated(tokenizer: Any) -> dict[str, str]:
    """The chat template with `TODAY` in the place of every call for today's date; nothing where it has none."""
    template = getattr(tokenizer, "chat_template", "")
    if not isinstance(template, str) or "strftime_now" not in template:
        return {}
    call = r"""strftime_now\(\s*(["'])(.*?)\1\s*\)"""
    return {"chat_template": re.sub(call, lambda found: repr(TODAY.strftime(found[2])), template)}


def question(noun: str) -> str:
    """The study's wording for a noun: "Is there a crow in this image?", "Is there food …", "Are there …"."""
    return f"{'Are' if is_plural(noun) else 'Is'} there {noun_phrase(noun)} in this image?"


def _question(form: Template, noun: str, subject: str | None, answer: str) -> Segments:
    """A yes/no question; in a text row the picture is replaced by a sentence that names its subject."""
    after = form.after.format(asked=question(noun))
    slot = None if subject is None else f"This image shows {noun_phrase(subject)}."
    lead = "" if form.after.startswith("<") else " "
    return Segments("", slot, lead + after, f" {answer}" if answer else "", "", form.image_at)


def _require(prompt: str, what: str, value: str, needed: bool) -> None:
    if needed and not value:
        raise ValueError(f"prompt {prompt!r} needs a {what}, and none was given; pass {what}=…")
