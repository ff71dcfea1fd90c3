"""verify(): checks that every site of a model has the value that its name promises, and that recording changes nothing.

The checks run on a few random tokens, or on real rows with their pictures. `capture` runs them at the first use of a
model; `python -m probing.doctor --model …` prints them as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from probing.hooks import checks
from probing.hooks.checks import Check
from probing.hooks.evaluating import evaluating
from probing.hooks.layouts import layout_of
from probing.hooks.provenance import require_weights, state_bytes
from probing.hooks.trials import Trial
from probing.sites import PATTERN
from probing.store.shard_files import checksum

__all__ = ["Check", "Report", "verify"]


@dataclass(frozen=True)
class Report:
    """The results of `verify` for one model."""

    model: str
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        lines = [f"{'green' if c.holds else 'RED  '}  {c.name:<{width}}  {c.detail}" for c in self.checks]
        return "\n".join([self.model, *lines])

    def require(self) -> None:
        """Raise a ValueError with the red lines if there are any."""
        red = [f"{check.name}: {check.detail}" for check in self.checks if not check.holds]
        if red:
            raise ValueError(f"{self.model} cannot be captured faithfully: {'; '.join(red)}")


def verify(
    model: nn.Module,
    *,
    inputs: Mapping[str, Any] | None = None,
    prefix: int | None = None,
    layers: Iterable[int] | None = None,
    seed: int = 0,
) -> Report:
    """A report on every site of a model, or on those of some layers.

    Equalities that must be exact are compared bit by bit; sums number by number, within two rounding steps of their
    terms; passes that should not differ token by token, within 8 times what rounding every block's input anew
    does. No channel and no token of large values hides another, in any type.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> verify(model, inputs={"input_ids": torch.arange(6)[None]}).holds
    True

    Args:
        model: a Hugging Face decoder, or a model that contains exactly one.
        inputs: real rows, `model(**inputs)`, pictures included; random tokens by default.
        prefix: how many first tokens are tried as a prefix that rows share (0: none); all but the last two by default.
        layers: blocks whose sites are edited one by one; all by default. The other checks see every site.
        seed: of the random tokens and of the noise.

    Raises:
        ValueError: the model has no decoder that is known, or weights that are not in memory.
    """
    require_weights(model)
    layout = layout_of(model)
    chosen = range(len(layout.blocks)) if layers is None else sorted(set(layers))
    edited = [s for s in layout.sites if s.point != PATTERN and (s.layer is None or s.layer in chosen)]
    title = f"{type(model).__name__} ({layout.model_type}, {len(layout.blocks)} blocks)"
    before = _weight_sums(model)
    with evaluating(model), torch.inference_mode():
        trial = Trial.of(model, layout, inputs, seed=seed)
        results = [checks.shapes(trial)]
        if not results[0].holds:
            return Report(title, tuple(results))
        results += [
            checks.sums(trial, ("resid_pre", "attn_out", "mlp_out"), "resid_post"),
            checks.sums(trial, ("resid_pre", "attn_out"), "resid_mid"),
            checks.recording_changes_nothing(trial),
            checks.stopping_changes_nothing(trial),
            checks.writing_back_changes_nothing(trial, edited),
            checks.noise_changes_logits(trial, edited, seed),
            checks.hidden_states_agree(trial),
            checks.batch_of_one(trial),
            checks.padding(trial),
            checks.positions(trial),
        ]
        shortest = int(trial.real.sum(1).min())
        prefix = max(shortest - 2, 0) if prefix is None else prefix
        results += [checks.shared_prefix(trial, prefix)] if prefix else []
    changed = [name for name, value in _weight_sums(model).items() if before[name] != value]
    results.append(checks.listed("weights unchanged", changed, f"{len(before)} tensors"))
    return Report(
        f"{type(model).__name__} ({layout.model_type}, {len(layout.blocks)} blocks)", tuple(results)
    )


def _weight_sums(model: nn.Module) -> dict[str, int]:
    return {
        name: sum(checksum(part[None]) for part in state_bytes(name, value))
        for name, value in model.state_dict().items()
    }
