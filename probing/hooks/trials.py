"""Trial: one model with rows that it ran on, its values at every site, and how much rounding can change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from probing.hooks.layouts import Layout
from probing.hooks.passes import edit, record
from probing.hooks.sequences import (
    Prefix,
    aligned,
    has_own_positions,
    length_of,
    per_token,
    without_counting,
)
from probing.hooks.structure import sample_tokens
from probing.sites import EMBED, PATTERN, Site

#: Rows and positions of random tokens, and how much padding they get.
ROWS, LENGTH, PADS = 2, 5, 3


@dataclass(frozen=True)
class Trial:
    """One model with its test rows and what it makes of them, untouched.

    Attributes:
        inputs: the model's arguments, padding behind the tokens of each row.
        real: which positions are tokens.
        sites: the sites that are compared.
        values: site → value of the pass.
        noise: site → for each token how far rounding every block's input anew moves the value, see `distance`.
    """

    model: nn.Module
    layout: Layout
    inputs: Mapping[str, Any]
    real: Bool[Tensor, "rows length"]
    sites: Sequence[Site]
    values: Mapping[str, Tensor]
    noise: Mapping[str, Float[Tensor, "rows length"]]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layout: Layout,
        inputs: Mapping[str, Any] | None = None,
        sites: Sequence[Site] | None = None,
        seed: int = 0,
    ) -> Trial:
        """The trial of a model on given rows, or on random tokens; at all sites, or at some."""
        given = {"input_ids": sample_tokens(model, ROWS, LENGTH, seed)} if inputs is None else inputs
        given = without_counting(aligned(given)[0])
        rows, length = len(next(iter(per_token(given).values()))), length_of(given)
        mask = given.get("attention_mask")
        real = torch.ones(rows, length, dtype=torch.bool) if mask is None else mask.bool().cpu()
        bare = cls(model, layout, given, real, recordable(layout) if sites is None else sites, {}, {})
        values = bare.recorded(bare.run)
        generator = torch.Generator().manual_seed(seed)
        with edit(model, {site: _rounded_anew(generator) for site in _streams(layout)}):
            moved = bare.recorded(bare.run)
        noise = {
            name: distance(moved[name], value, real)
            for name, value in values.items()
            if value.shape[:2] == real.shape  # `checks.shapes` refuses the others
        }
        return replace(bare, values=values, noise=noise)

    @cached_property
    def logits(self) -> Tensor:
        """The output of a pass without a hook."""
        return logits_of(self.run())

    def run(self, **more: Any) -> Any:
        """The model's output for the rows."""
        return self.model(**{**self.inputs, "use_cache": False, **more})

    def recorded(self, run: Callable[[], object]) -> dict[str, Tensor]:
        """The values at every site of a pass."""
        with record(self.model, self.sites) as seen:
            run()
        return seen

    @property
    def alone(self) -> list[dict[str, Any]]:
        """The inputs of each row, where tokens and mask tell them apart; where pictures go with them, of all rows."""
        tokens = per_token(self.inputs)
        if not set(self.inputs) <= {*tokens, "attention_mask"}:
            return [dict(self.inputs)]
        return [{n: v[row : row + 1] for n, v in self.inputs.items()} for row in range(len(self.real))]

    def excess(self, name: str, found: Tensor) -> float:
        """The largest difference of a token from the value of the trial, in units of what rounding explains."""
        value = self.values[name]
        steps = max(torch.finfo(value.dtype).eps, 1e-6)
        ratio = distance(found, value, self.real) / (self.noise[name] + steps)
        return float(ratio[self.real].max())


def recordable(layout: Layout) -> list[Site]:
    """The sites of a layout but for attention patterns, which only eager attention makes."""
    return [site for site in layout.sites if site.point != PATTERN]


def logits_of(output: Any) -> Tensor:
    """The logits of a model's output, or the last states of a model that has none."""
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def distance(found: Tensor, value: Tensor, real: Bool[Tensor, "rows length"]) -> Float[Tensor, "rows length"]:
    """Token → root mean square over channels of a difference, each channel in units of its own size in the value.

    So that neither a channel nor a token of large values hides what happens in the others.
    """
    found, value = found.float().flatten(2).cpu(), value.float().flatten(2).cpu()
    size = value[real].square().mean(0).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    return ((found - value) / size).square().mean(-1).sqrt()


def _streams(layout: Layout) -> list[Site]:
    return [site for site in layout.sites if site.point in (EMBED, "hook_resid_pre")]


def _rounded_anew(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """An edit that moves every number by about one rounding step."""

    def moved(value: Tensor) -> Tensor:
        signs = torch.randint(0, 2, value.shape, generator=generator).to(value.device) * 2 - 1
        return (value.float() * (1 + torch.finfo(value.dtype).eps * signs)).to(value.dtype)

    return moved


def repeated(inputs: Mapping[str, Any], times: int) -> dict[str, Any]:
    """The rows several times, one after another; pictures lie along the first axis as rows do."""

    def copies(name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            axis = 1 if name == "position_ids" and value.ndim == 3 else 0
            return torch.cat([value] * times, axis)
        return value * times if isinstance(value, list) else value

    return {name: copies(name, value) for name, value in inputs.items()}


def padded(trial: Trial, left: int, right: int) -> dict[str, Any]:
    """The trial's rows with padding on both sides, a mask over the tokens, and positions that count them.

    Positions that are the model's own are left to it.
    """
    tokens = per_token(trial.inputs)
    device = next(iter(tokens.values())).device
    mask = torch.nn.functional.pad(trial.real.long(), (left, right)).to(device)
    filler = sample_tokens(trial.model, 1, 1).item()
    wide: dict[str, Any] = dict(trial.inputs) | {"attention_mask": mask}
    for name, value in tokens.items():
        sides = (0, 0) * (value.ndim - 2) + (left, right)
        wide[name] = torch.nn.functional.pad(value, sides, value=filler if name == "input_ids" else 0)
    if (given := trial.inputs.get("position_ids")) is not None:
        wide["position_ids"] = torch.nn.functional.pad(given, (left, right))
    elif not has_own_positions(trial.model):
        wide["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
    return wide


def behind_prefix(trial: Trial, prefix: int) -> dict[str, Tensor]:
    """The values of the rows whose first tokens went through the model before the rest, as captures run them.

    The rest comes padded on the left, as `probing.spans.collate` may give it.
    """
    tokens, positions = per_token(trial.inputs), trial.inputs.get("position_ids")
    first = dict(trial.inputs) | {name: value[:, :prefix] for name, value in tokens.items()}
    rest: dict[str, Any] = {
        name: _left_padded(value[:, prefix:], PADS)
        for name, value in tokens.items()
        if name.startswith("input")
    }
    if positions is not None:
        first["position_ids"] = positions[..., :prefix]
        rest["position_ids"] = torch.nn.functional.pad(positions[..., prefix:], (PADS, 0))
    first.pop("attention_mask", None)
    real = torch.cat([trial.real[:, :prefix], _left_padded(trial.real[:, prefix:], PADS)], 1)
    rest["attention_mask"] = real.long().to(next(iter(tokens.values())).device)
    made: list[Prefix] = []

    def run(given: Mapping[str, Any]) -> None:
        trial.model(**given)

    before = trial.recorded(lambda: made.append(Prefix.of(trial.model, trial.layout.stack, first, run)))
    rows = torch.arange(len(real))
    rest = made[0].positions(aligned(rest, prefix)[0], rows) | made[0].continued(rows)
    after = trial.recorded(lambda: run(rest))
    behind = trial.real.shape[1] - prefix
    return {name: torch.cat([value, after[name][:, :behind]], 1) for name, value in before.items()}


def _left_padded(value: Tensor, pads: int) -> Tensor:
    return torch.nn.functional.pad(value, (0, 0) * (value.ndim - 2) + (pads, 0))
