from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest

from taxogen.questions import prompts
from taxogen.questions.nouns import article, noun_phrase, refuse_shared_words, spoken
from taxogen.questions.prompts import TEMPLATES, segments
from taxogen.world.taxonomy import Taxonomy


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("leaf", ["crow", "apple"])
def test_picture_and_text_rows_differ_in_the_slot_only(name, leaf):
    shown = segments(name, leaf=leaf, hypernym="bird", modality="image")
    told = segments(name, leaf=leaf, hypernym="bird", modality="text")
    assert (shown.before, shown.after, shown.answer, shown.end) == (
        told.before,
        told.after,
        told.answer,
        told.end,
    )
    assert shown.slot is None
    assert told.slot in (f" {leaf}", f"This image shows {noun_phrase(leaf)}.")


def test_a_picture_row_does_not_give_its_leaf_away():
    for name in TEMPLATES:
        asked = {"hypernym": "bird"} if TEMPLATES[name].task == "hypernym" else {"asked": "owl"}
        apple, crow = (segments(name, leaf=leaf, answer="x", **asked) for leaf in ("apple", "crow"))
        assert (apple.before, apple.slot, apple.after) == (crow.before, crow.slot, crow.after)


def test_completions_read_as_english():
    said = {name: segments(name, leaf="crow", hypernym="animal", modality="text").text for name in TEMPLATES}
    assert said["kind"] == "A crow is a kind of animal."
    assert said["type"] == "A crow is a type of animal."
    assert said["the_kind"] == "The crow is a kind of animal."
    assert said["is_a"] == "A crow is an animal."
    assert said["called"] == "A crow is also called crow."
    assert said["the_called"] == "The crow is also called crow."
    assert said["known_as"] == "A crow is also known as a crow."
    assert segments("kind", leaf="crow", hypernym="bird").text == "A [picture] is a kind of bird."
    assert (
        segments("is_a", leaf="chair", hypernym="furniture", modality="text").text == "A chair is furniture."
    )


@pytest.mark.parametrize(
    ("noun", "question"),
    [
        ("crow", "Is there a crow in this image?"),
        ("item of clothing", "Is there an item of clothing in this image?"),
        ("breakfast food", "Is there breakfast food in this image?"),
        ("scissors", "Are there scissors in this image?"),
        ("musical", "Is there a musical instrument in this image?"),
        ("air_mattress", "Is there an air mattress in this image?"),
        ("bat2", "Is there a bat in this image?"),
        ("bird (leaf)", "Is there a bird in this image?"),
    ],
)
def test_yes_no_questions_are_worded_as_in_the_study(noun, question):
    assert segments("is_there", leaf="x", hypernym=noun).after == f" {question}"
    assert segments("study", hypernym=noun, answer="Yes").text == f"[picture]<image>\n{question} Yes"


def test_the_study_keeps_its_token_and_puts_the_picture_behind_the_first():
    parts = segments("study", hypernym="bird", answer="No")
    assert (parts.slot, parts.image_at, parts.answer, parts.end) == (None, "after_first_token", " No", "")
    assert segments("is_there", hypernym="bird").image_at == "slot"


def test_a_leaf_question_may_name_another_leaf():
    parts = segments("is_there_leaf", leaf="crow", asked="apple", answer="No")
    assert parts.after == " Is there an apple in this image?"
    assert parts.answer == " No"
    told = segments("is_there", leaf="crow", hypernym="bird", modality="text")
    assert told.slot == "This image shows a crow."


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [
        ("apple", "an apple"),
        ("hourglass", "an hourglass"),
        ("unicycle", "a unicycle"),
        ("uniform", "a uniform"),
        ("undershirt", "an undershirt"),
        ("ukulele", "a ukulele"),
        ("urn", "an urn"),
        ("x-ray machine", "an x-ray machine"),
        ("ewe", "a ewe"),
        ("office supply item", "an office supply item"),
        ("piece of women's clothing", "a piece of women's clothing"),
        ("footwear", "footwear"),
        ("clothing accessory", "a clothing accessory"),
        ("sports equipment", "sports equipment"),
        ("octopus", "an octopus"),
        ("iris", "an iris"),
        ("dress", "a dress"),
        ("lens", "a lens"),
        ("jeans", "jeans"),
        ("drum stick", "a drum stick"),
    ],
)
def test_articles(noun, phrase):
    assert noun_phrase(noun) == phrase


def test_all_53_hypernyms_of_the_study_get_the_article_they_need():
    bare = {"breakfast food", "candy", "construction equipment", "food", "footwear", "furniture", "headwear"}
    bare |= {"medical equipment", "outerwear", "safety equipment", "scientific equipment", "seafood"}
    bare |= {"sports equipment"}
    an = {"animal", "arts and crafts item", "electronic device", "insect", "item of clothing"}
    an |= {"office supply item"}
    rest = {"bird", "mammal", "musical", "piece of jewelry", "school supply", "source of light", "watercraft"}
    assert all(noun_phrase(spoken(name)) == spoken(name) for name in bare)
    assert all(article(spoken(name)) == "an" for name in an)
    assert all(noun_phrase(spoken(name)).startswith("a ") for name in rest)


@pytest.mark.parametrize(
    ("name", "noun"),
    [
        ("bat1", "bat"),
        ("air_conditioner2", "air conditioner"),
        ("vitamin_b12", "vitamin b12"),
        ("vitamin b6", "vitamin b6"),
        ("mp3", "mp3"),
        ("ps5", "ps5"),
        ("boeing747", "boeing747"),
        ("route 6", "route 6"),
        ("7_up", "7 up"),
        ("bird (leaf)", "bird"),
    ],
)
def test_sense_numbers_are_not_spoken_and_digits_of_a_name_are(name, noun):
    assert spoken(name) == noun


def test_bundled_leaves_share_no_word():
    with resources.as_file(resources.files("taxogen") / "data" / "taxonomy.csv") as path:
        refuse_shared_words(Taxonomy.read(path).leaves)


@pytest.mark.parametrize("seed", range(10))
def test_leaves_that_share_a_word_are_refused_by_name(seed):
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklm"))
    words = sorted({"".join(rng.choice(letters, rng.integers(3, 8))) for _ in range(12)})
    numbers = rng.choice(np.arange(10, 100), 3, replace=False)
    refuse_shared_words(
        [*words[2:], *(f"vitamin_b{at}" for at in numbers), *(f"vitamin k{at}" for at in (1, 2))]
    )
    ways = [word.format(words[0]) for word in ("{}", "{}1", "{}2", "{} (tool)", "{}_(animal)")]
    alike = sorted(rng.choice(ways, int(rng.integers(2, 6)), replace=False).tolist())
    other = [f"{words[1]}_{words[2]}", f"{words[1]} {words[2]}"]
    leaves = rng.permutation([*alike, *other, *words[3:]]).tolist()
    with pytest.raises(
        ValueError, match=f"^{len(alike) + 2} leaves share a word with another one: "
    ) as refusal:
        refuse_shared_words(leaves)
    message = str(refusal.value)
    assert f"{words[0]!r} for {', '.join(alike)}; " in message
    assert f"'{words[1]} {words[2]}' for {', '.join(sorted(other))}; " in message
    assert "\n" not in message


def test_neutral_subjects_name_no_category():
    found = prompts.neutral("kind", hypernym="animal")
    assert [parts.text for parts in found] == [
        "A thing is a kind of animal.",
        "A object is a kind of animal.",
        "A item is a kind of animal.",
    ]


def test_a_row_is_worded_from_its_columns():
    row = SimpleNamespace(
        prompt="kind", leaf="crow", hypernym="bird", modality="text", asked="", answer="bird"
    )
    assert prompts.of_item(row) == segments("kind", leaf="crow", hypernym="bird", modality="text")


def test_an_open_row_has_no_answer():
    assert segments("kind").answer == ""
    assert segments("kind").text == "A [picture] is a kind of."


class Chat:
    def __init__(self, template):
        self.template = template

    def apply_chat_template(self, messages, tokenize, add_generation_prompt, **date):
        assert (tokenize, add_generation_prompt) == (False, True)
        assert [message["role"] for message in messages] == ["user"]
        return self.template.format(messages[0]["content"], **date)


def test_a_chat_template_goes_around_the_slot():
    parts = segments("is_there", hypernym="bird", answer="Yes")
    found = prompts.in_chat(parts, Chat("<user>{}<end>\n<assistant>"))
    assert (found.before, found.after, found.answer, found.end) == (
        "<user>",
        " Is there a bird in this image?<end>\n<assistant>",
        "Yes",
        "",
    )
    with pytest.raises(ValueError, match="shows the user's text 2×, not once"):
        prompts.in_chat(parts, Chat("{0}{0}"))


def test_a_chat_template_that_prints_the_date_prints_the_same_one_every_day():
    import transformers as hf
    from tokenizers import Tokenizer, models

    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    )
    turn = "{{ messages[0]['content'] }}"
    for date in ("{{ strftime_now('%d %b %Y') }}", "{{ date_string }}"):
        tokenizer.chat_template = f"Today: {date}. {turn}"
        found = prompts.in_chat(segments("kind", hypernym="bird"), tokenizer)
        assert found.before == "Today: 26 Jul 2024. A"


def test_a_chat_template_may_take_messages_in_parts():
    class Parts(Chat):
        def apply_chat_template(self, messages, **options):
            texts = [part["text"] for part in messages[0]["content"] if isinstance(part, dict)]
            return self.template.format("".join(texts))

    found = prompts.in_chat(segments("kind", hypernym="bird"), Parts("<user>{}<end>"))
    assert (found.before, found.after) == ("<user>A", " is a kind of<end>")


def test_unknown_and_incomplete_prompts_are_refused():
    with pytest.raises(KeyError, match="prompt 'sort' was asked for; known: kind, type"):
        segments("sort")
    with pytest.raises(ValueError, match=r"prompt 'kind' needs a leaf, .*pass leaf=…"):
        segments("kind", hypernym="bird", modality="text")
    with pytest.raises(ValueError, match="prompt 'is_there' needs a hypernym"):
        segments("is_there", leaf="crow")


def test_names_list_the_templates_of_a_task():
    assert prompts.names("leaf") == ("called", "the_called", "known_as")
    assert prompts.names("hypernym", "yes_no") == ("is_there",)
