"""The text stack of a vision-language model by itself, and the arguments that the model hands it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from probing.hooks.layouts import layout_of
from probing.hooks.structure import relative_error, sample_tokens, tolerance

_CALLERS = ("past_key_values", "cache_position", "use_cache", "return_dict", "logits_to_keep")
"""Arguments that whoever calls the text stack sets anew."""


class TextStack(nn.Module):
    """The decoder of a vision-language model with its output matrix: a language model that reads embeddings.

    Its inputs are those that `handed` gives, so that pictures are encoded once and the decoder is run, captured and
    patched without them. Weights are those of the whole model, not copies.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> whole = LlamaForCausalLM(LlamaConfig(**size)).eval()
    >>> ids = torch.arange(6)[None]
    >>> torch.equal(TextStack(whole)(input_ids=ids).logits, whole(input_ids=ids).logits)
    True

    Raises:
        ValueError: the model has no decoder that is known, or no output matrix.
    """

    def __init__(self, whole: nn.Module):
        super().__init__()
        self.stack: Any = layout_of(whole).stack
        head = whole.get_output_embeddings()  # pyright: ignore[reportCallIssue]
        if head is None:
            raise ValueError(f"{type(whole).__name__} has no output matrix: its next token cannot be read")
        self.head: nn.Module = head
        self._cap = self._cap_of(whole)

    @torch.no_grad()
    def _cap_of(self, whole: nn.Module) -> float | None:
        """The cap of the whole model's logits, None where it caps none, as seen on a few tokens.

        Raises:
            ValueError: its logits are not its output matrix times its last hidden state, capped or not.
        """
        ids = sample_tokens(whole, rows=1)
        logits = whole(input_ids=ids, use_cache=False).logits.float()
        bare = self.head(self.stack(input_ids=ids, use_cache=False).last_hidden_state).float()
        for cap in (None, getattr(self.config, "final_logit_softcapping", None)):
            own = cap * torch.tanh(bare / cap) if cap else bare
            if relative_error(own, logits) <= tolerance(self.dtype):
                return cap
        raise ValueError(
            f"the logits of {type(whole).__name__} are more than its output matrix times its last hidden state: what "
            "its decoder answers cannot be read by itself"
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of last hidden states, as the whole model gives them."""
        logits = self.head(hidden)
        return self._cap * torch.tanh(logits / self._cap) if self._cap else logits

    def forward(self, **inputs: Any) -> CausalLMOutputWithPast:
        """Logits of every token, its cache, and what else the decoder was asked for."""
        out = self.stack(**inputs)
        return CausalLMOutputWithPast(
            logits=self.logits(out.last_hidden_state),
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )

    @property
    def base_model(self) -> Any:
        """The decoder without the output matrix."""
        return self.stack

    @property
    def config(self) -> Any:
        """That of the decoder."""
        return self.stack.config

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the weights."""
        return self.stack.dtype

    @property
    def device(self) -> torch.device:
        """Where the decoder is."""
        return self.stack.device

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.stack.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """The output matrix."""
        return self.head

    def set_attn_implementation(self, name: str) -> None:
        """Exchanges the decoder's attention, as transformers' models do."""
        self.stack.set_attn_implementation(name)


class _Handed(Exception):
    """Ends a forward pass where the text stack begins."""


def handed(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a model hands its decoder: embeddings, positions, masks, features of pictures.

    Args:
        model: a vision-language model, or a language model.
        inputs: its own arguments, such as a processor makes: `model(**inputs)`.

    Raises:
        ValueError: the decoder was not called with named arguments.
    """
    given: list[dict[str, Any]] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args:
            raise ValueError(
                f"{type(model).__name__} calls its decoder without naming the arguments: they cannot be reused"
            )
        given.append(kwargs)
        raise _Handed

    stack = layout_of(model).stack
    with _without_hooks(stack), torch.no_grad():
        handle = stack.register_forward_pre_hook(note, with_kwargs=True)
        try:
            model(**{**inputs, "use_cache": False})
        except _Handed:
            pass
        finally:
            handle.remove()
    if given[0].get("inputs_embeds") is None:
        raise ValueError(
            f"{type(model).__name__} hands its decoder token ids, not embeddings: pictures are tokens of its "
            "vocabulary, and its decoder is to be captured as the language model that it is"
        )
    return {
        name: value
        for name, value in given[0].items()
        if value is not None and name not in _CALLERS and not isinstance(value, bool)
    }


@contextmanager
def _without_hooks(stack: nn.Module) -> Iterator[None]:
    """A block in which no hook sees the decoder: what is recorded and edited is the pass that comes, not its inputs."""
    names = ("_forward_hooks", "_forward_pre_hooks")
    held = [(module, name, getattr(module, name)) for module in stack.modules() for name in names]
    try:
        for module, name, _ in held:
            setattr(module, name, OrderedDict())
        yield
    finally:
        for module, name, hooks in held:
            setattr(module, name, hooks)


def stacked(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The handed arguments of several rows as one batch, padded on the right.

    Attention is causal from the last picture token on, so that padding reaches no token; rows of padding see what
    the last token sees.

    Args:
        rows: what `handed` gave, one row each.

    Raises:
        ValueError: rows were handed different arguments, such as one with and one without a picture.
    """
    if len({frozenset(row) for row in rows}) > 1:
        raise ValueError(
            f"rows of a batch were handed different arguments: {sorted({tuple(sorted(row)) for row in rows})}"
        )
    lengths = [row["inputs_embeds"].shape[1] for row in rows]
    return {name: _joined(name, [row[name] for row in rows], lengths) for name in rows[0]}


def _joined(name: str, values: Sequence[Any], lengths: Sequence[int]) -> Any:
    first, longest = values[0], max(lengths)
    if isinstance(first, Mapping):
        return {key: _joined(name, [value[key] for value in values], lengths) for key in first}
    if isinstance(first, (list, tuple)):
        return [_joined(name, parts, lengths) for parts in zip(*values, strict=True)]
    if first is None or not isinstance(first, Tensor):
        return first
    if name == "position_ids":
        return torch.cat([_longer(value, longest, -1) for value in values], dim=first.ndim - 2)
    if name == "attention_mask" and first.ndim == 4:
        return torch.cat([_masked(value, longest) for value in values])
    if first.ndim > 1 and all(value.shape[1] == length for value, length in zip(values, lengths)):
        return torch.cat([_padded(value, longest) for value in values])
    return torch.cat(list(values))  # features of picture tokens, of all rows in order


def _longer(positions: Tensor, longest: int, axis: int) -> Tensor:
    """Positions that count on over the padding."""
    more = torch.arange(1, 1 + longest - positions.shape[axis], device=positions.device)
    return torch.cat([positions, positions[..., -1:] + more], axis)


def _masked(mask: Tensor, longest: int) -> Tensor:
    """A mask [1, heads, t, t] in which padding is hidden, and sees what the last token sees."""
    rest = longest - mask.shape[-1]
    hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    wider = nn.functional.pad(mask, (0, rest), value=hidden)
    return torch.cat([wider, wider[:, :, -1:].expand(-1, -1, rest, -1)], 2)


def _padded(value: Tensor, longest: int) -> Tensor:
    padding = value.new_zeros((len(value), longest - value.shape[1], *value.shape[2:]))
    return torch.cat([value, padding], 1)
