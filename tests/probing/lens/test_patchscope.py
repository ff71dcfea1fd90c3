"""Patchscope: a planted token is read from another prompt, as by an edit of the whole prompt; refusals."""

import planted as circuit
import pytest
import torch
from banks import WORDS, tokenizer
from tiny_models import CONFIGS, tiny

from probing.hooks import edit
from probing.lens import Patchscope

SITE = "blocks.1.hook_resid_post"


def words_of_circuit():
    return tokenizer(("axe", *(word for word in circuit.WORDS if word != "axe")))


def test_a_planted_token_is_recovered_from_its_state_and_only_before_the_layer_that_reads_it():
    model = circuit.planted()
    spelled = tokenizer(circuit.WORDS)
    scope = Patchscope.of(model, spelled, "A ? is also called", start=(circuit.ID["<s>"],))
    names = torch.tensor([circuit.ID[leaf] for leaf in circuit.LEAVES])
    states = model.get_input_embeddings()(names).detach()
    for site, found in (
        ("hook_embed", True),
        (SITE, True),
        (f"blocks.{circuit.LAYER}.hook_resid_post", False),
    ):
        answers = scope(states, site).argmax(1)
        assert torch.equal(answers, names) == found, site
    hypernyms = torch.tensor([circuit.ID[circuit.hypernym_of(leaf)] for leaf in circuit.LEAVES])
    scope = Patchscope.of(model, spelled, "A ? is a kind of", start=(circuit.ID["<s>"],))
    assert torch.equal(scope(states, SITE).argmax(1), hypernyms)


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("template", ["the old ?", "the ? ? slept"])
def test_it_is_the_whole_prompt_with_the_last_place_edited(name, template):
    model, states = tiny(name), torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    ids = tokenizer()(f"<s> {template}", return_tensors="pt").input_ids.expand(3, -1)
    place = 1 + max(at for at, word in enumerate(template.split()) if word == "?")

    def put(value):
        new = value.clone()
        new[:, place] = states
        return new

    for site in ("hook_embed", SITE):
        with torch.no_grad(), edit(model, {site: put}):
            expected = model(input_ids=ids).logits[:, -1]
        scope = Patchscope.of(model, tokenizer(), template, start=(WORDS.index("<s>"),))
        for _ in range(2):  # a pass leaves the shared prefix as it was
            torch.testing.assert_close(scope(states, site), expected, rtol=1e-4, atol=1e-5)


def test_a_template_without_a_place_or_with_nothing_before_it_is_refused():
    with pytest.raises(ValueError, match=r"'the old crow' has no '\?', where a state is to be put"):
        Patchscope.of(tiny("llama"), tokenizer(), "the old crow")
    with pytest.raises(ValueError, match="begins with its place"):
        Patchscope.of(tiny("llama"), tokenizer(), "? crow")
