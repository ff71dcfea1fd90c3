"""Stores that cannot answer are refused in one line: flags, folders, different worlds, questions that need more."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from analyses.frame import registry
from analyses.frame.stores import Stores
from probing.store import ActivationStore
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.leaf_stores import LEAVES, TAXONOMY
from tests.analyses.stores.made_up_stores import (
    BOTH,
    OF_MODELS,
    OF_STORES,
    again,
    refused,
    write_pictures,
    write_taxonomy,
    write_words,
)
from tests.probing.tiny_models import SMALL


@pytest.mark.parametrize("name", OF_MODELS)
def test_a_question_that_needs_a_model_says_why(here, name, capsys):
    said = refused(capsys, name, *BOTH, *(("--data", "released") if name == "published" else ()))
    assert f"{name} cannot be asked of stores: it " in said
    assert ("`taxoprobe adopt`" in said) == (name != "published")
    stores = Stores.open("pictures", taxonomy="taxonomy.csv")
    with pytest.raises(ValueError, match=f"{name} cannot be asked of stores"):
        registry.load(name).ask_stores(stores, registry.load(name).options())


REFUSED = {
    "nothing": ((), "nothing was given to ask; give --run DIR, or --sweep DIR, or stores"),
    "both": (("--run", "r", *BOTH), "--run and --images were both given"),
    "no table": (BOTH[:4], "without --taxonomy TABLE"),
    "no store": (BOTH[4:], "--taxonomy was given without a store"),
    "no such store": (("--images", "nowhere", *BOTH[2:]), "no activation store in nowhere"),
    "no such table": ((*BOTH[:4], "--taxonomy", "nowhere.csv"), "No taxonomy table at nowhere.csv"),
    "no such column": ((*BOTH, "--leaf-column", "species"), "pictures has no column 'species'.*are leaf"),
    "one store twice": (
        ("--images", "pictures", "--text", "./pictures", *BOTH[4:]),
        "one store was given twice",
    ),
    "held out": ((*BOTH, "--held-out", "fish"), "'fish' is no hypernym of these leaves; known: bird, fruit"),
    "twice": ((*BOTH, "--held-out", "bird", "bird"), "--held-out bird was asked for twice"),
    "span": ((*BOTH, "--span", "verb"), "no span 'verb' in these stores; they have slot, last"),
    "step": ((*BOTH, "--step", "7"), "no picture rows of step 7 were given"),
}


@pytest.mark.parametrize("name", OF_STORES)
@pytest.mark.parametrize("what", REFUSED)
def test_refusals_are_one_line_before_any_number(here, name, what, capsys, monkeypatch):
    flags, said = REFUSED[what]
    if "--held-out" in flags and not hasattr(registry.load(name).options(), "held_out"):
        pytest.skip("all hypernyms are alike to this question")
    reads, read = [], ActivationStore.read
    monkeypatch.setattr(ActivationStore, "read", lambda *given: reads.append(given) or read(*given))
    assert re.search(said, refused(capsys, name, *flags))
    assert len(reads) <= 2  # a row of each store, for its width


SPOILT = {
    "leaves not in the table": (
        lambda: write_taxonomy(Path("taxonomy.csv"), TAXONOMY.restrict(LEAVES[2:])),
        "2 of 32 leaves of the stores are no leaves of taxonomy.csv: bird 0, bird 1",
    ),
    "many leaves not in the table": (
        lambda: write_taxonomy(Path("taxonomy.csv"), TAXONOMY.restrict(LEAVES[5:])),
        "5 of 32 leaves of the stores are no leaves of taxonomy.csv: bird 0, bird 1, bird 2 …",
    ),
    "no hypernym is large enough": (
        lambda: write_taxonomy(
            Path("taxonomy.csv"), Taxonomy(tuple((leaf, f"above {k // 2}") for k, leaf in enumerate(LEAVES)))
        ),
        "no hypernym has (at least )?[34] of these 32 leaves",
    ),
    "no shared leaf": (
        lambda: (
            again("words", write_words, leaves=LEAVES[:4])
            or again("pictures", write_pictures, leaves=LEAVES[4:])
        ),
        "the stores share no leaf: pictures names bird 4, bird 5, bird 6 …; words names bird 0, bird 1, bird 2 …",
    ),
    "no shared site": (
        lambda: again("pictures", write_pictures, sites="blocks.*.hook_mlp_out"),
        "pictures and words share no site: blocks.0.hook_mlp_out",
    ),
    "another width": (
        lambda: again("words", write_words, model=narrow()),
        "pictures and words are of different models: blocks.0.hook_resid_post is 32 and 16 wide",
    ),
    "no shared span": (
        lambda: again("words", write_words, noun="word", last="end"),
        r"no span of pictures \(image, last\) is one of words \(word, end\)",
    ),
    "tokens one by one": (
        lambda: again("pictures", write_pictures, pooling={"image": "all", "last": "last"}),
        "holds the tokens of span 'image' one by one",
    ),
    "rows without a leaf": (
        lambda: again("pictures", write_pictures, leaves=LEAVES[:3], column="kind"),
        "pictures has no column 'leaf'.*its columns are kind",
    ),
}


def narrow():
    """A language model of width 16."""
    torch.manual_seed(0)
    size: dict[str, Any] = {**SMALL, "hidden_size": 16}
    return LlamaForCausalLM(LlamaConfig(**size)).eval()


@pytest.mark.parametrize("what", SPOILT)
def test_stores_that_do_not_go_together_are_refused(own, what, capsys, monkeypatch):
    spoil, said = SPOILT[what]
    spoil()
    for name in OF_STORES:
        if what == "no hypernym is large enough" and name == "text_alignment":
            continue  # it has no hypernyms
        assert re.search(said, refused(capsys, name, *BOTH))
