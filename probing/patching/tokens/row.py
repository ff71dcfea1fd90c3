"""TokensOfRow: some tokens of one row, such as those of a picture, whose input embeddings are read and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from probing.patching.runs import Rows

AT_ONCE = 1024
"""Tokens that go through the model at once, unless one row has more."""


@dataclass(frozen=True)
class TokensOfRow:
    """Some tokens of one row of a model's inputs.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> copies = lambda n: Rows(lambda: {"input_ids": torch.arange(6).expand(n, -1)}, spans={})
    >>> tuple(TokensOfRow(model, copies, (2, 3)).embedded.shape)
    (2, 8)

    Attributes:
        model: a Hugging Face decoder.
        copies: the row, so many times, as a batch.
        places: of the tokens, in the whole sequence.
        order: which token's embedding stands in the place of each, where they were exchanged among themselves.
    """

    model: nn.Module
    copies: Callable[[int], Rows]
    places: tuple[int, ...]
    order: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    def shuffled(self, order: Sequence[int]) -> TokensOfRow:
        """The same row with its tokens in another order; positions stay.

        Raises:
            ValueError: it is no order of them.
        """
        if sorted(order) != list(range(len(self))):
            raise ValueError(f"{len(self)} tokens were to be put in the order {list(order)}")
        return replace(self, order=tuple(order))

    @property
    def embedded(self) -> Float[Tensor, "tokens width"]:
        """Input embeddings of the tokens."""
        _, embeddings, own = self._given(1)
        return embeddings[0, own]

    def rows(self, new: Float[Tensor, "rows tokens width"] | None = None) -> Rows:
        """Copies of the row, a gradient on `new`, which stands in the place of its tokens; one as it is by default."""
        given, embeddings, own = self._given(1 if new is None else len(new))
        if new is not None:
            embeddings = embeddings.clone()
            embeddings[:, own] = new.to(embeddings.dtype)
        made = self.copies(1)
        return Rows(lambda: {**given, "inputs_embeds": embeddings}, made.spans, made.skip)

    @property
    def length(self) -> int:
        """Tokens of the whole sequence."""
        return self._given(1)[1].shape[1] + self.copies(1).skip

    def chunks(self, count: int) -> Iterator[range]:
        """The numbers up to `count` in pieces that go through the model together."""
        size = max(1, AT_ONCE // self.length)
        return (range(first, min(first + size, count)) for first in range(0, count, size))

    def _given(self, count: int) -> tuple[dict[str, Any], Float[Tensor, "rows token width"], list[int]]:
        """Fresh inputs without embeddings, these, and where the tokens are in them."""
        rows = self.copies(count)
        given = dict(rows.inputs())
        ids, embeddings = given.pop("input_ids", None), given.pop("inputs_embeds", None)
        if embeddings is None:
            embeddings = self.model.get_input_embeddings()(ids)  # pyright: ignore[reportCallIssue]
        embeddings = embeddings.detach()
        own = [place - rows.skip for place in self.places]
        if self.order:
            embeddings = embeddings.clone()
            embeddings[:, own] = embeddings[:, [own[at] for at in self.order]]
        return given, embeddings, own
