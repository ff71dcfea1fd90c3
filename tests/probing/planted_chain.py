"""A tiny Llama in which two heads hand the hypernym on: from the noun to the cue, and from the cue to the last token.

In "<s> A crow is a kind of" the head `CARRIER` moves the noun's hypernym to "kind", into a subspace of its own, and
`WRITER`, three layers later, reads it there at "of" and writes the hypernym. `DISTRACTOR` moves it to "a", where
nothing reads it. The circuit is a chain with one edge between parts, CARRIER → WRITER.
"""

import numpy as np
import torch
from planted import HEAD_WIDTH, HYPERNYMS, ID, LAYER, LEAVES, WIDTH, WORDS, hypernym_of, planted
from planted import _look as look

from probing.patching.circuits import HeadOrMLP

CARRIER, WRITER, DISTRACTOR = HeadOrMLP(0, 2), HeadOrMLP(3, 1), HeadOrMLP(1, 0)
HYPERNYM_IDS = [ID[name] for name in HYPERNYMS]
OWN = np.array([[name == hypernym_of(leaf) for name in HYPERNYMS] for leaf in LEAVES])
_HYPERNYM_AT, _BETWEEN, _UNREAD = len(WORDS), WIDTH - 4, WIDTH - 8


def chain():
    """The model, in evaluation mode, with eager attention."""
    model = planted()
    with torch.no_grad():
        for weight in model.model.layers[LAYER].self_attn.parameters():
            weight.fill_(0)
        for part, asking, to in ((CARRIER, "kind", _BETWEEN), (DISTRACTOR, "a", _UNREAD)):
            attention = model.model.layers[part.layer].self_attn
            look(attention, part.head, asking)
            for leaf in LEAVES:
                through = HYPERNYMS.index(hypernym_of(leaf))
                _carry(attention, part.head, ID[leaf], through, to + through)
        attention = model.model.layers[WRITER.layer].self_attn
        look(attention, WRITER.head, "of")
        seen = WRITER.head * HEAD_WIDTH + HEAD_WIDTH - 1
        attention.k_proj.weight[seen] = attention.k_proj.weight[seen].max() * torch.eye(WIDTH)[ID["kind"]]
        for through in range(len(HYPERNYMS)):
            _carry(attention, WRITER.head, _BETWEEN + through, through, _HYPERNYM_AT + through)
    return model


def margin(logits):
    """Logit of the right hypernym minus the mean of the others."""
    return np.where(OWN, logits, 0).sum(-1) - np.where(OWN, 0, logits).sum(-1) / (len(HYPERNYMS) - 1)


def _carry(attention, head, source, through, to):
    at = head * HEAD_WIDTH + through
    attention.v_proj.weight[at, source] = 1 / WIDTH**0.5
    attention.o_proj.weight[to, at] = 1
