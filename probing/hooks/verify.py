"""verify(): checks that every site of a model has the value that its name promises, and that recording changes nothing.

The checks run on a few random tokens. `capture` runs them at the first use of a model; `python -m
probing.doctor --model …` prints them as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from probing.hooks.evaluating import evaluating
from probing.hooks.layouts import Layout, layout_of
from probing.hooks.passes import edit, record
from probing.hooks.provenance import tensor_bytes
from probing.hooks.structure import relative_error, sample_tokens, tolerance
from probing.sites import EMBED, FINAL, PATTERN, Site
from probing.store.shard_files import checksum

#: Rows, positions and padding of the tokens that are run; how many sites get their noise in one pass.
_ROWS, _LENGTH, _PADS, _TRIED_TOGETHER = 2, 5, 3, 32

_ALONE = "nothing to add up: the residual stream alone is captured"


@dataclass(frozen=True)
class Check:
    """One line of a report: a check, whether it passed, and the numbers it rests on."""

    name: str
    holds: bool
    detail: str


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


@dataclass(frozen=True)
class _Trial:
    """One model with its test tokens and its untouched output for them."""

    model: nn.Module
    layout: Layout
    tokens: Int[Tensor, "rows length"]
    logits: Tensor
    values: Mapping[str, Tensor]
    limit: float

    def run(self, tokens: Tensor | None = None, **more: Any) -> Any:
        """The model's output for the tokens."""
        tokens = self.tokens if tokens is None else tokens
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        return self.model(**{"input_ids": tokens, "position_ids": positions, "use_cache": False, **more})


def verify(model: nn.Module, *, layers: Iterable[int] | None = None, seed: int = 0) -> Report:
    """A report on every site of a model, or on those of some layers.

    Equalities that must be exact are compared bit by bit, the others relative to the largest value: 1e-5 in
    float32, 16 rounding steps in narrower types.

    Args:
        model: a Hugging Face decoder, or a model that contains exactly one.
        layers: blocks whose sites are edited one by one; all by default. The other checks see every site.
        seed: of the random tokens and of the noise.
    """
    layout = layout_of(model)
    chosen = range(len(layout.blocks)) if layers is None else sorted(set(layers))
    edited = [s for s in layout.sites if s.point != PATTERN and (s.layer is None or s.layer in chosen)]
    before = _weight_sums(model)
    with evaluating(model), torch.inference_mode():
        trial = _trial(model, layout, seed)
        checks = [
            _shapes(trial),
            _residual_identity(trial),
            _middle(trial),
            _recording_changes_nothing(trial),
            _stopping_changes_nothing(trial),
            _writing_back_changes_nothing(trial, edited),
            _noise_changes_logits(trial, edited, seed),
            _hidden_states_agree(trial),
            _batch_of_one(trial),
            _left_padding(trial),
        ]
    changed = [name for name, value in _weight_sums(model).items() if before[name] != value]
    checks.append(_listed("weights unchanged", changed, f"{len(before)} tensors"))
    return Report(f"{type(model).__name__} ({layout.model_type}, {len(layout.blocks)} blocks)", tuple(checks))


def _weight_sums(model: nn.Module) -> dict[str, int]:
    return {name: checksum(tensor_bytes(value)[None]) for name, value in model.state_dict().items()}


def _trial(model: nn.Module, layout: Layout, seed: int) -> _Trial:
    tokens = sample_tokens(model, _ROWS, _LENGTH, seed)
    limit = tolerance(next(model.parameters()).dtype)
    bare = _Trial(model, layout, tokens, torch.empty(0), {}, limit)
    logits = _logits(bare.run())
    with record(model, _recordable(layout)) as values:
        bare.run()
    return _Trial(model, layout, tokens, logits, values, limit)


def _recordable(layout: Layout) -> list[Site]:
    return [site for site in layout.sites if site.point != PATTERN]


def _logits(output: Any) -> Tensor:
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def _worst(name: str, errors: Mapping[str, float], limit: float) -> Check:
    """A check that holds when the largest error is within the limit; it names the place of the largest."""
    place = max(errors, key=lambda key: errors[key] if errors[key] == errors[key] else float("inf"))
    return Check(
        name, all(e <= limit for e in errors.values()), f"{errors[place]:.1e} ≤ {limit:.1e} at {place}"
    )


def _listed(name: str, wrong: Sequence[str], right: str) -> Check:
    shown = ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
    return Check(name, not wrong, f"not at {shown}" if wrong else right)


def _shapes(trial: _Trial) -> Check:
    width = trial.values["blocks.0.hook_resid_pre"].shape[-1]
    wrong = []
    for site in _recordable(trial.layout):
        shape = tuple(trial.values[str(site)].shape)
        tail = shape[2:]
        fits = tail == (width,) or (site.point == EMBED and len(tail) == 1)  # OPT projects its embeddings
        if site.point == "attn.hook_z":
            fits = len(tail) == 2 and tail[0] == trial.layout.heads
        elif site.point == "mlp.hook_post":
            fits = len(tail) == 1
        if not fits or shape[:2] != tuple(trial.tokens.shape):
            wrong.append(f"{site} {shape}")
    return _listed("shapes", wrong, f"{len(trial.values)} sites, width {width}")


def _residual_identity(trial: _Trial) -> Check:
    name = "resid_pre + attn_out + mlp_out = resid_post"
    if trial.layout.streams_only:
        return Check(name, True, _ALONE)
    errors = {}
    for layer in range(len(trial.layout.blocks)):
        pre, attention, mlp, post = (
            trial.values[f"blocks.{layer}.hook_{point}"]
            for point in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        errors[f"block {layer}"] = relative_error(pre + attention + mlp, post)
    return _worst(name, errors, trial.limit)


def _middle(trial: _Trial) -> Check:
    name = "resid_pre + attn_out = resid_mid"
    if not trial.layout.family.mid:
        if trial.layout.streams_only:
            return Check(name, True, _ALONE)
        return Check(name, True, "attention and MLP run in parallel: there is no resid_mid")
    errors = {}
    for layer in range(len(trial.layout.blocks)):
        pre, attention, mid = (
            trial.values[f"blocks.{layer}.hook_{p}"] for p in ("resid_pre", "attn_out", "resid_mid")
        )
        errors[f"block {layer}"] = relative_error(pre + attention, mid)
    return _worst(name, errors, trial.limit)


def _recording_changes_nothing(trial: _Trial) -> Check:
    with record(trial.model, _recordable(trial.layout)):
        same = torch.equal(_logits(trial.run()), trial.logits)
    return Check("recording changes no logit bit", same, f"{trial.logits.numel()} logits compared")


def _stopping_changes_nothing(trial: _Trial) -> Check:
    with record(
        trial.model, _recordable(trial.layout), take=lambda _, value: value.clone(), stop=True
    ) as seen:
        trial.run()
    wrong = [name for name, value in trial.values.items() if not torch.equal(seen[name], value)]
    return _listed("values at the hook = values after the pass", wrong, f"{len(seen)} sites, bit for bit")


def _writing_back_changes_nothing(trial: _Trial, sites: Sequence[Site]) -> Check:
    with edit(trial.model, {site: torch.clone for site in sites}):
        same = torch.equal(_logits(trial.run()), trial.logits)
    return Check("writing the value back changes no bit", same, f"{len(sites)} sites edited together")


def _noise_changes_logits(trial: _Trial, sites: Sequence[Site], seed: int) -> Check:
    """Each row of a batch gets noise at its own site; rows do not see one another, so one pass tries many."""
    generator = torch.Generator().manual_seed(seed)
    wrong = []
    for start in range(0, len(sites), _TRIED_TOGETHER):
        tried = sites[start : start + _TRIED_TOGETHER]
        tokens = trial.tokens[:1].expand(len(tried), -1)
        untouched = _logits(trial.run(tokens))
        with edit(trial.model, {site: _noise_in(row, generator) for row, site in enumerate(tried)}):
            touched = _logits(trial.run(tokens))
        wrong += [str(site) for row, site in enumerate(tried) if torch.equal(touched[row], untouched[row])]
    return _listed("noise at each site changes the logits", wrong, f"{len(sites)} sites, one by one")


def _noise_in(row: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    def noisy(value: Tensor) -> Tensor:
        noise = torch.randn(value[row].shape, generator=generator).to(value)
        value = value.clone()
        value[row] += noise * value[row].float().std().clamp_min(1e-3).to(value)
        return value

    return noisy


def _hidden_states_agree(trial: _Trial) -> Check:
    name = "hidden_states = resid_pre of each block, then ln_final"
    states = getattr(trial.run(output_hidden_states=True), "hidden_states", None)
    if states is None:
        return Check(name, True, "the model gives no hidden_states to compare with")
    depth = len(trial.layout.blocks)
    last = FINAL if trial.layout.family.final_norm else f"blocks.{depth - 1}.hook_resid_post"
    expected = [f"blocks.{layer}.hook_resid_pre" for layer in range(depth)] + [last]
    if len(states) != len(expected):
        return Check(name, False, f"{len(states)} hidden states for {len(expected)} sites")
    wrong = [site for site, state in zip(expected, states) if not torch.equal(state, trial.values[site])]
    return _listed(name, wrong, f"{len(states)} compared bit for bit")


def _compared(trial: _Trial, run: Callable[[], Any], rows: slice, columns: slice) -> dict[str, float]:
    """Site → relative difference between a second run, seen through a window, and the first."""
    with record(trial.model, _recordable(trial.layout)) as seen:
        run()
    return {name: relative_error(value[:, columns], trial.values[name][rows]) for name, value in seen.items()}


def _batch_of_one(trial: _Trial) -> Check:
    errors: dict[str, float] = {}
    for row in range(_ROWS):
        rows = slice(row, row + 1)
        found = _compared(trial, lambda rows=rows: trial.run(trial.tokens[rows]), rows, slice(None))
        errors = {name: max(error, errors.get(name, 0.0)) for name, error in found.items()}
    return _worst("batch of 1 = batch of N", errors, trial.limit)


def _left_padding(trial: _Trial) -> Check:
    """Left and right padding by hand: mask and position ids say where the tokens are."""
    errors: dict[str, float] = {}
    for pads, window in (((_PADS, 0), slice(_PADS, None)), ((0, _PADS), slice(None, _LENGTH))):
        tokens = torch.nn.functional.pad(trial.tokens, pads, value=int(trial.tokens[0, 0]))
        mask = torch.nn.functional.pad(torch.ones_like(trial.tokens), pads)
        places = (mask.cumsum(1) - 1).clamp_min(0)
        found = _compared(
            trial,
            lambda tokens=tokens, mask=mask, places=places: trial.run(
                tokens, attention_mask=mask, position_ids=places
            ),
            slice(None),
            window,
        )
        errors = {name: max(error, errors.get(name, 0.0)) for name, error in found.items()}
    return _worst("left padding = right padding = none", errors, trial.limit)
