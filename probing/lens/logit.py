"""The logit lens: a layer's state through the model's own final norm and output embedding, and what words get of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probing.hooks.layouts import layout_of
from probing.hooks.structure import sample_tokens


@dataclass(frozen=True)
class LogitLens:
    """The model's own final norm and output embedding, to be applied to the residual stream of any layer.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> with torch.no_grad():
    ...     logits = LogitLens.of(model)(torch.zeros(4, 8))
    >>> tuple(logits.shape)
    (4, 20)

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens" (lesswrong.com).
    """

    norm: nn.Module
    head: nn.Module
    cap: float | None = None

    @classmethod
    def of(cls, model: nn.Module) -> LogitLens:
        """The lens of a Hugging Face causal language model, checked on the model itself.

        Raises:
            ValueError: the model has no output embedding, or other logits than the lens at its last layer.
        """
        layout = layout_of(model)
        head = getattr(model, "get_output_embeddings", lambda: None)()
        if head is None:
            raise ValueError(
                f"{type(model).__name__} has no output embedding to look through; load it as a causal language model"
            )
        norm = getattr(layout.stack, layout.family.final_norm)
        lens = cls(norm, head, getattr(getattr(model, "config", None), "final_logit_softcapping", None))
        lens._check(model, layout.blocks[-1])
        return lens

    def __call__(self, hidden: Float[Tensor, "*n width"]) -> Float[Tensor, "*n vocabulary"]:
        """Logits in float32, computed in the model's own number type."""
        parameter = next(self.head.parameters())
        logits = self.head(self.norm(hidden.to(parameter.device, parameter.dtype))).float()
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits

    def _check(self, model: nn.Module, last: nn.Module) -> None:
        seen: list[Tensor] = []
        handle = last.register_forward_hook(
            lambda *call: seen.append(call[-1] if isinstance(call[-1], Tensor) else call[-1][0])
        )
        try:
            with torch.no_grad():
                expected = model(input_ids=sample_tokens(model)).logits.float()
                own = self(seen[0])
        finally:
            handle.remove()
        worst = float((expected - own).abs().max())
        if worst > 0.02 * float(expected.abs().max()) + 1e-6:
            raise ValueError(
                f"the logits of {type(model).__name__} differ by {worst:.3g} from its final norm and output embedding "
                "at its last layer; this architecture scales them in a way not known here: add it to probing.lens"
            )


def word_evidence(
    logits: Float[Tensor, "n vocabulary"], words: Int[Tensor, "n k"]
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Natural log-probability and rank (1 is the best; of equals, the best of theirs) of some tokens of each row.

    >>> log_probability, rank = word_evidence(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[1, 0]]))
    >>> rank
    tensor([[1, 3]])
    """
    chosen = logits.gather(1, words)
    ranks = [1 + (logits > chosen[:, [column]]).sum(-1) for column in range(words.shape[1])]
    return chosen - logits.logsumexp(-1, keepdim=True), torch.stack(ranks, 1)
