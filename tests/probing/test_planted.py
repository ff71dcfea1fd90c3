"""The planted circuit is what it says: the right answers, written by one head of one layer at the last token."""

import pytest
import torch
from planted import (
    HEAD,
    HYPERNYMS,
    ID,
    LAYER,
    LAYERS,
    LEAVES,
    hypernym_direction,
    hypernym_of,
    picture_prompt,
    planted,
    prompt,
    spans,
)

from probing.hooks import record
from probing.hooks.verify import verify


@pytest.mark.parametrize("question", ["kind", "called"])
def test_words_and_pictures_are_answered_rightly(question):
    model = planted()
    verify(model)
    for leaf in LEAVES:
        right = ID[hypernym_of(leaf) if question == "kind" else leaf]
        words = model(torch.tensor([prompt(leaf, question)])).logits[0]
        picture = model(inputs_embeds=picture_prompt(model, leaf, question)[None]).logits[0]
        for logits in (words, picture):
            assert logits[-1].argmax() == right
            assert logits[-1, right] > 4
            assert logits[-1].sort().values[-2] < 0.01
            assert logits[:-1].abs().max() < 0.01


def test_the_hypernym_is_written_at_one_place():
    model = planted()
    with record(model, ["blocks.*.hook_resid_post", "blocks.*.attn.hook_z"]) as seen:
        model(torch.tensor([prompt(leaf) for leaf in LEAVES]))
    written = torch.stack([seen[f"blocks.{layer}.hook_resid_post"] for layer in range(LAYERS)])
    amount = (written @ torch.stack([hypernym_direction(name) for name in HYPERNYMS]).T).abs().sum(-1)
    assert amount[LAYER:, :, -1].min() > 0.9
    amount[LAYER:, :, -1] = 0
    assert amount.max() < 1e-6
    z = torch.stack([seen[f"blocks.{layer}.attn.hook_z"] for layer in range(LAYERS)]).norm(dim=-1)
    assert z[LAYER, :, -1, HEAD].min() > 0.1
    z[LAYER, :, -1, HEAD] = 0
    assert z.max() < 1e-6
    assert spans()["last"] == (len(prompt("crow")) - 1,)
