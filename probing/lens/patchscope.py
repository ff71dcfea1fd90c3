"""Patchscope: a state is put into another prompt, and the model says in its next token what the state is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache

from probing.hooks import edit
from probing.hooks.layouts import layout_of

IDENTITY = "cat -> cat; 1135 -> 1135; hello -> hello; ?"
"""A target prompt whose pattern is to say a token again."""
PLACE = "?"
"""Marks the token of a target prompt that a state takes the place of; the last one counts."""


@dataclass(frozen=True)
class Patchscope:
    """A target prompt with a place for a state, read by the distribution over the token behind its end.

    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> words = Tokenizer(models.WordLevel({"cat": 0, "->": 1, "?": 2}, unk_token="?"))
    >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    >>> scope = Patchscope.of(model, PreTrainedTokenizerFast(tokenizer_object=words), "cat -> cat ? ->")
    >>> tuple(scope(torch.zeros(4, 8), "blocks.0.hook_resid_post").shape)
    (4, 20)

    Attributes:
        model: a causal language model.
        before: tokens before the place, shared by all states.
        after: the place's token and those behind it.

    Source: Ghandeharioun et al. 2024, arXiv:2401.06102, section 4.1 (the token identity prompt); a state is put behind
    the layer that it comes from.
    """

    model: nn.Module
    before: tuple[int, ...]
    after: tuple[int, ...]
    _past: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: nn.Module, tokenizer: Any, template: str = IDENTITY, start: Sequence[int] = ()
    ) -> Patchscope:
        """The patchscope of a template; `start`: tokens that stand before it, such as the first of a document.

        Raises:
            ValueError: the template has no place for a state, or begins with it.
        """
        check_template(template)
        coded = tokenizer(template, add_special_tokens=False, return_offsets_mapping=True)
        at, ids = template.rindex(PLACE), list(coded["input_ids"])
        place = next(k for k, (first, last) in enumerate(coded["offset_mapping"]) if first <= at < last)
        before, after = (*start, *ids[:place]), tuple(ids[place:])
        if not before:
            raise ValueError(
                f"the template {template!r} begins with its place {PLACE!r}; put words before it"
            )
        device = next(model.parameters()).device
        out = layout_of(model).stack(input_ids=torch.tensor([before], device=device), use_cache=True)
        past = tuple((layer.keys, layer.values) for layer in out.past_key_values.layers)
        return cls(model, before, after, past)

    @torch.no_grad()
    def __call__(self, states: Float[Tensor, "n width"], site: str) -> Float[Tensor, "n vocabulary"]:
        """Logits (float32) of the token behind the prompt, with each state in the place at a site."""
        device = next(self.model.parameters()).device
        ids = torch.tensor([self.after], device=device).expand(len(states), -1)
        past = DynamicCache(
            [tuple(part.expand(len(states), -1, -1, -1) for part in layer) for layer in self._past]
        )

        def put(value: Tensor) -> Tensor:
            new = value.clone()
            new[:, 0] = states.to(value)
            return new

        with edit(self.model, {site: put}):
            return self.model(input_ids=ids, past_key_values=past, use_cache=True).logits[:, -1].float()


def check_template(template: str) -> None:
    """Refuses a template without a place for a state.

    >>> check_template("hello -> ?")

    Raises:
        ValueError: it has none.
    """
    if PLACE not in template:
        raise ValueError(
            f"the template {template!r} has no {PLACE!r}, where a state is to be put; write one into it"
        )
