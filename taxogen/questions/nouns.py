"""Nouns in English: articles by sound, mass nouns without one, plurals with "are"."""

import re
from collections.abc import Iterable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MASS = _words("""
    asparagus bacon bamboo bark beef bread broccoli butter candy caviar celery chalk charcoal cheese
    chocolate clay clothing coal coffee confetti coral corn cutlery denim dirt dough driftwood
    equipment fabric flour food foliage footwear fudge fur furniture garlic ginger glue gold granola
    grass gravel gravy guacamole ham hardware hay headgear headwear honey hummus ice ivy jam jelly
    jewelry jewellery kale ketchup lace leather lettuce lingerie luggage makeup mayonnaise meat milk
    mold molasses money moss mud mustard oatmeal oil outerwear paint paper pasta pavement
    plastic popcorn pottery produce rice rust salmon salt sand sauerkraut seafood
    seaweed shampoo shrubbery silk silverware snow soap soil spaghetti spinach stationery steel
    string sugar sushi swimwear tableware tape tapioca tea tinsel tofu toothpaste 
    underwear velcro water wax wheat wine wood wool yarn yogurt
""")
"""Nouns that take no article."""

_SINGULAR_IN_S = _words(
    "lens rhinoceros gas canvas atlas pancreas series species news bellows gallows molasses thermos"
)
_PLURAL = _words("dice teeth people cattle fungi")
_LIKE_A_CONSONANT = re.compile(
    r"(uni(?!n|m)|us[aeu]|usb|uk[eu]|ut[ei]|uri|ura|eu|ewe|ewer|one\b|once|ouija)", re.IGNORECASE
)
_LIKE_A_VOWEL = re.compile(r"(hour|heir|honest|honou?r|x-?ray|mp3|[fhlmnrsx]\b)", re.IGNORECASE)

SPOKEN = {"musical": "musical instrument"}
"""The wording of names that published data have otherwise: the study's parsing cut "musical **in**strument" short."""


def spoken(name: str) -> str:
    """The noun a node's name stands for: without underscores, sense number (bat2), gloss (bird (leaf)).

    A sense number is one digit behind three letters or more; other digits belong to the name (vitamin b12, mp3).

    >>> spoken("pencil_sharpener2"), spoken("vitamin_b12")
    ('pencil sharpener', 'vitamin b12')
    """
    text = re.sub(r"\s*\(.*?\)\s*$", "", name.replace("_", " ")).strip()
    text = re.sub(r"(?<=[a-z]{3})[1-9]$", "", text)
    return SPOKEN.get(text, text)


def refuse_shared_words(leaves: Iterable[str]) -> None:
    """Refuse leaves that are spoken alike: their prompts are equal, so that no answer could tell them apart.

    Raises:
        ValueError: every shared word with its leaves.
    """
    of_word: dict[str, list[str]] = {}
    for leaf in sorted(set(leaves)):
        of_word.setdefault(spoken(leaf), []).append(leaf)
    shared = {word: names for word, names in of_word.items() if len(names) > 1}
    if shared:
        listed = "; ".join(f"{word!r} for {', '.join(names)}" for word, names in shared.items())
        raise ValueError(
            f"{sum(map(len, shared.values()))} leaves share a word with another one: {listed}; leave out the pictures "
            "of all but one of each word, or rename folders and leaves in the taxonomy as they are to be said, "
            "as baseball bat"
        )


def is_mass(noun: str) -> bool:
    """Whether the noun's head is a mass noun."""
    return _head(noun) in MASS


def is_plural(noun: str) -> bool:
    """Whether the noun's head is a plural."""
    head = _head(noun)
    if head in _PLURAL:
        return True
    return head.endswith("s") and not head.endswith(("ss", "us", "is")) and head not in _SINGULAR_IN_S


def _head(noun: str) -> str:
    """The word that decides: "item" of "item of clothing", "food" of "breakfast food"."""
    return noun.split(" of ")[0].split()[-1].lower()


def article(noun: str) -> str:
    """The article "a" or "an", as the noun sounds."""
    if _LIKE_A_CONSONANT.match(noun):
        return "a"
    return "an" if noun[:1].lower() in "aeiou" or _LIKE_A_VOWEL.match(noun) else "a"


def noun_phrase(noun: str) -> str:
    """The noun with the article it needs, if any: a crow, an apple, furniture, scissors."""
    return noun if is_mass(noun) or is_plural(noun) else f"{article(noun)} {noun}"
