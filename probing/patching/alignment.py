"""Alignment: how the state of one span is put in the place of another that may have another number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: What is read of the span a state comes from → which tokens of the other span it is put into.
KINDS = {
    "each": "token by token; both spans have the same number of tokens",
    "mean": "the mean over the tokens, into every token of the other span",
    "last": "the last token, into the last token of the other span",
    "spread": "the last token, into every token of the other span",
}


@dataclass(frozen=True)
class Alignment:
    """One of `KINDS`: how the tokens of a span answer to those of another.

    >>> value = torch.arange(6.0).reshape(1, 3, 2)
    >>> Alignment("mean").read(value, (0, 2)), Alignment("last").target((3, 4))
    (tensor([[[2., 3.]]]), (4,))

    Raises:
        KeyError: no such kind; lists the known ones.
    """

    kind: str = "each"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            known = "; ".join(f"{name}: {what}" for name, what in KINDS.items())
            raise KeyError(f"alignment {self.kind!r} was asked for; known: {known}")

    def check(self, span: str, source: int, target: int) -> None:
        """Nothing, when a span of `source` tokens can be put into one of `target` tokens.

        Raises:
            ValueError: it cannot; says why, and which alignments can.
        """
        if not source or not target:
            raise ValueError(f"span {span!r} has {source} tokens in one run and {target} in the other")
        if self.kind == "each" and source != target:
            raise ValueError(
                f"span {span!r} has {source} tokens where the state comes from and {target} where it goes: "
                "no token answers to another; align it as 'mean', 'last' or 'spread'"
            )

    def read(
        self, value: Float[Tensor, "rows token *rest"], positions: Sequence[int]
    ) -> Float[Tensor, "rows n *rest"]:
        """The state of a span: one token a row, or all of them where tokens answer to each other."""
        span = value[:, list(positions)]
        if self.kind == "each":
            return span
        return span.mean(1, keepdim=True) if self.kind == "mean" else span[:, -1:]

    def target(self, positions: Sequence[int]) -> tuple[int, ...]:
        """The positions of a span that a state is put into."""
        return (positions[-1],) if self.kind == "last" else tuple(positions)


EACH = Alignment("each")


def write(
    value: Float[Tensor, "rows token *rest"],
    positions: Sequence[int],
    state: Float[Tensor, "rows n *rest"],
    head: int | None = None,
) -> Float[Tensor, "rows token *rest"]:
    """A copy of a value with a state at some positions; a state of one token goes into all of them.

    Args:
        value: of a site.
        positions: in it.
        state: one token a row, or one for each position.
        head: only this one of the value's heads [row, token, head, width] is replaced.
    """
    new = value.clone(memory_format=torch.contiguous_format)
    place = new if head is None else new[:, :, head]
    place[:, list(positions)] = state.to(value.dtype).expand(len(value), len(positions), *place.shape[2:])
    return new
