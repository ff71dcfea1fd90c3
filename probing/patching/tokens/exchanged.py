"""One token after the other: unseen by all later ones, or with another embedding in its place."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probing.edits.knockout import between, knock_out
from probing.hooks.layouts import layout_of
from probing.patching.runs import Read, forward
from probing.patching.tokens.row import TokensOfRow


@torch.no_grad()
def exchanged(
    tokens: TokensOfRow, states: Float[Tensor, "tokens width"], read: Read
) -> Float[Tensor, "tokens candidates"]:
    """The answers of a row with the input embedding of one token exchanged, token by token.

    >>> from probing.patching import Answers, Rows
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> copies = lambda n: Rows(lambda: {"input_ids": torch.arange(6).expand(n, -1)}, spans={})
    >>> tuple(exchanged(TokensOfRow(model, copies, (2, 3)), torch.zeros(2, 8), Answers.of(model, [3, 7])).shape)
    (2, 2)

    Args:
        tokens: of the row.
        states: what each is exchanged for.
        read: from last hidden states to answers.
    """
    own, answers = tokens.embedded, []
    for chunk in tokens.chunks(len(tokens)):
        new = own.repeat(len(chunk), 1, 1)
        new[range(len(chunk)), list(chunk)] = states[list(chunk)].to(new)
        answers.append(read(forward(tokens.model, tokens.rows(new)).last_hidden_state[:, -1]))
    return torch.cat(answers)


@torch.no_grad()
def cut(tokens: TokensOfRow, read: Read) -> Float[Tensor, "tokens candidates"]:
    """The answers of a row with one token unseen by every later one, in every layer, token by token.

    What a token knows can then reach the answer only by earlier tokens that see it, where a picture is read in both
    directions. `read` is as of `exchanged`.

    >>> from probing.patching import Answers, Rows
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size, attn_implementation="eager"))
    >>> copies = lambda n: Rows(lambda: {"input_ids": torch.arange(6).expand(n, -1)}, spans={})
    >>> tuple(cut(TokensOfRow(model, copies, (2, 3)), Answers.of(model, [3, 7])).shape)  # tokens, candidates
    (2, 2)

    Source: Geva et al. 2023, EMNLP, section 4, for single keys.
    """
    own, length, answers = tokens.embedded, tokens.length, []
    for chunk in tokens.chunks(len(tokens)):
        edges = [between(range(tokens.places[at] + 1, length), [tokens.places[at]]) for at in chunk]
        rows = tokens.rows(own.repeat(len(chunk), 1, 1))
        with knock_out(tokens.model, edges, range(len(layout_of(tokens.model).blocks))):
            out = forward(tokens.model, rows)
        answers.append(read(out.last_hidden_state[:, -1]))
    return torch.cat(answers)
