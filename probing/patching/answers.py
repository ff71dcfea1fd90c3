"""Answers: the read-out of a patched run, the logits of a few candidate tokens after the last token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probing.hooks.structure import sample_tokens


@dataclass(frozen=True)
class Answers:
    """Logits of candidates from last hidden states (after the last norm), without those of all other words.

    Differences of logits are differences of log-probabilities, so that nothing is lost for log-odds.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> answers = Answers.of(model, [3, 7])
    >>> tuple(answers(torch.zeros(5, 8)).shape)  # the logits of two candidates
    (5, 2)
    """

    weight: Float[Tensor, "candidates width"]
    bias: Float[Tensor, " candidates"] | None = None
    cap: float = 0.0

    @classmethod
    def of(cls, model: nn.Module, tokens: Sequence[int]) -> Answers:
        """The answers of a model, each the first token of a candidate.

        Raises:
            ValueError: the model's own logits are not its output matrix times its last hidden state.
        """
        wrapped: Any = model
        head = wrapped.get_output_embeddings()
        chosen = torch.tensor(list(tokens), device=head.weight.device)
        bias = None if getattr(head, "bias", None) is None else head.bias[chosen].detach().float()
        cap = getattr(wrapped.config.get_text_config(), "final_logit_softcapping", None) or 0.0
        answers = cls(head.weight[chosen].detach().float(), bias, cap)
        with torch.inference_mode():
            sample = sample_tokens(model)
            expected = wrapped(input_ids=sample).logits[:, -1, chosen].float()
            own = answers(wrapped.base_model(input_ids=sample).last_hidden_state[:, -1])
        worst = (expected - own).abs().max().item()
        if worst > 0.02 * expected.abs().max().item() + 1e-6:
            raise ValueError(
                f"{type(model).__name__}: its own logits differ by {worst:.3g} from its output matrix applied "
                "to its last hidden state; it scales its logits in a way not known here: read it by its logits"
            )
        return answers

    def __call__(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n candidates"]:
        """The logits (float32)."""
        logits = nn.functional.linear(hidden.float(), self.weight, self.bias)
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits
