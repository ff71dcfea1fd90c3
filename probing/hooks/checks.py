"""The checks of `verify`, each a function from a trial to one line of its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probing.hooks.passes import edit, record
from probing.hooks.sequences import has_own_positions
from probing.hooks.trials import PADS, Trial, behind_prefix, logits_of, padded, repeated
from probing.sites import EMBED, FINAL, Site

#: How many times the effect of rounding, and how many rounding steps of its terms, a difference may have.
NOISE, STEPS = 8.0, 2.0
#: How many sites get their noise in one pass, and how much larger it is where the first had no effect.
_TRIED_TOGETHER, _LOUDER = 32, 64.0


@dataclass(frozen=True)
class Check:
    """One line of a report: a check, whether it passed, and the numbers it rests on."""

    name: str
    holds: bool
    detail: str


def _worst(name: str, errors: Mapping[str, float], limit: float, unit: str) -> Check:
    """A check that holds when the largest error is within the limit; it names the place of the largest."""
    place = max(errors, key=lambda key: errors[key] if errors[key] == errors[key] else float("inf"))
    holds = all(error <= limit for error in errors.values())
    return Check(name, holds, f"{errors[place]:.1e} {'≤' if holds else '>'} {limit:g} {unit} at {place}")


def listed(name: str, wrong: Sequence[str], right: str) -> Check:
    """A check that holds when nothing is wrong; it names the first four of what is."""
    shown = ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
    return Check(name, not wrong, f"not at {shown}" if wrong else right)


def shapes(trial: Trial) -> Check:
    """Each value has the rows, the positions and the axes that its site promises."""
    width = trial.values["blocks.0.hook_resid_pre"].shape[-1]
    wrong = []
    for site in trial.sites:
        shape = tuple(trial.values[str(site)].shape)
        tail = shape[2:]
        fits = tail == (width,) or (site.point == EMBED and len(tail) == 1)  # OPT projects its embeddings
        if site.point == "attn.hook_z":
            fits = len(tail) == 2 and tail[0] == trial.layout.heads
        elif site.point == "mlp.hook_post":
            fits = len(tail) == 1
        if not fits or shape[:2] != tuple(trial.real.shape):
            wrong.append(f"{site} {shape} for {tuple(trial.real.shape)} tokens")
    return listed("shapes", wrong, f"{len(trial.values)} sites, width {width}")


def sums(trial: Trial, terms: Sequence[str], total: str) -> Check:
    """The terms add up to the total in every block, number by number, up to how the sums are rounded.

    The unit is one rounding step of the terms' sizes together. A channel of large values has large steps and hides
    no other: a block that adds a hundredth of its attention output is seen in any type.
    """
    name = f"{' + '.join(terms)} = {total}"
    if trial.layout.streams_only:
        return Check(name, True, "nothing to add up: the residual stream alone is captured")
    if total == "resid_mid" and not trial.layout.family.mid:
        return Check(name, True, "attention and MLP run in parallel: there is no resid_mid")
    errors = {}
    for layer in range(len(trial.layout.blocks)):
        *added, found = (trial.values[f"blocks.{layer}.hook_{point}"] for point in (*terms, total))
        eps = torch.finfo(found.dtype).eps
        parts = [part.double() for part in added]
        size = sum((part.abs() for part in parts), torch.zeros_like(parts[0]))
        error = (sum(parts, torch.zeros_like(parts[0])) - found).abs()
        errors[f"block {layer}"] = float((error / (eps * size).clamp_min(1e-300)).max())
    return _worst(name, errors, STEPS, "rounding steps")


def recording_changes_nothing(trial: Trial) -> Check:
    """The logits of a recorded pass are those of a pass without a hook."""
    untouched = trial.logits
    with record(trial.model, trial.sites):
        same = torch.equal(logits_of(trial.run()), untouched)
    return Check("recording changes no logit bit", same, f"{trial.logits.numel()} logits compared")


def stopping_changes_nothing(trial: Trial) -> Check:
    """The values that a hook sees are those that stand there after the pass."""
    with record(trial.model, trial.sites, take=lambda _, value: value.clone(), stop=True) as seen:
        trial.run()
    wrong = [name for name, value in trial.values.items() if not torch.equal(seen[name], value)]
    return listed("values at the hook = values after the pass", wrong, f"{len(seen)} sites, bit for bit")


def writing_back_changes_nothing(trial: Trial, sites: Sequence[Site]) -> Check:
    """Edits that give back equal values change no logit."""
    untouched = trial.logits
    with edit(trial.model, {site: torch.clone for site in sites}):
        same = torch.equal(logits_of(trial.run()), untouched)
    return Check("writing the value back changes no bit", same, f"{len(sites)} sites edited together")


def noise_changes_logits(trial: Trial, sites: Sequence[Site], seed: int) -> Check:
    """Each copy of a row gets noise at its own site; rows do not see one another, so one pass tries many.

    The state behind the last block is looked at too: beside a large channel narrow logits may round a change away.
    """
    generator = torch.Generator().manual_seed(seed)
    times = min(len(sites), _TRIED_TOGETHER)
    inputs = repeated(trial.alone[0], times) | {"use_cache": False}
    behind = Site("hook_resid_post", len(trial.layout.blocks) - 1)

    def outcome(edits: Mapping[str | Site, Callable[[Tensor], Tensor]]) -> tuple[Tensor, Tensor]:
        with edit(trial.model, edits), record(trial.model, str(behind)) as seen:
            return logits_of(trial.model(**inputs)), seen[str(behind)]

    untouched = outcome({})
    rows = len(untouched[0]) // times
    deaf = list(sites)
    for factor in (1.0, _LOUDER):
        tried, deaf = deaf, []
        for start in range(0, len(tried), _TRIED_TOGETHER):
            at = {rows * i: site for i, site in enumerate(tried[start : start + _TRIED_TOGETHER])}
            touched = outcome({site: _noise_in(row, factor, generator) for row, site in at.items()})
            for row, site in at.items():
                looked_at = (
                    zip(touched, untouched) if site.order < behind.order else [(touched[0], untouched[0])]
                )
                if all(torch.equal(one[row], other[row]) for one, other in looked_at):
                    deaf.append(site)
    wrong = [str(site) for site in deaf]
    return listed("noise at each site changes the logits", wrong, f"{len(sites)} sites, one by one")


def _noise_in(row: int, factor: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    def noisy(value: Tensor) -> Tensor:
        noise = torch.randn(value[row].shape, generator=generator).to(value)
        value = value.clone()
        value[row] += noise * (factor * value[row].float().std().clamp_min(1e-3)).to(value)
        return value

    return noisy


def hidden_states_agree(trial: Trial) -> Check:
    """The states that the model itself gives out are those at the sites."""
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
    return listed(name, wrong, f"{len(states)} compared bit for bit")


def _agreement(name: str, trial: Trial, passes: Sequence[Callable[[], Mapping[str, Tensor]]]) -> Check:
    """A check that the values of passes which should not differ do not, beyond what rounding explains."""
    errors: dict[str, float] = {}
    for values in passes:
        for site, value in values().items():
            error = trial.excess(site, value)
            errors[site] = error if error != error else max(error, errors.get(site, 0.0))
    return _worst(name, errors, NOISE, "times rounding")


def batch_of_one(trial: Trial) -> Check:
    """Rows do not see one another: they run one by one, or where pictures go with them, beside copies."""
    rows = trial.alone

    def values() -> Mapping[str, Tensor]:
        if len(rows) == len(trial.real):
            passes = [trial.recorded(lambda row=row: trial.run(**row)) for row in rows]
        else:
            passes = [trial.recorded(lambda: trial.run(**repeated(trial.inputs, 2)))]
        return {site: torch.cat([seen[site] for seen in passes])[: len(trial.real)] for site in trial.values}

    return _agreement("batch of 1 = batch of N", trial, [values])


def padding(trial: Trial) -> Check:
    """Left and right padding by hand: mask and position ids say where the tokens are."""
    length = trial.real.shape[1]

    def run(left: int, right: int) -> Callable[[], Mapping[str, Tensor]]:
        def values() -> Mapping[str, Tensor]:
            seen = trial.recorded(lambda: trial.run(**padded(trial, left, right)))
            return {site: value[:, left : left + length] for site, value in seen.items()}

        return values

    return _agreement("left padding = right padding = none", trial, [run(PADS, 0), run(0, PADS)])


def positions(trial: Trial) -> Check:
    """Positions that were given are those that the model counts itself."""
    name = "given positions = the model's own"
    if trial.inputs.get("position_ids") is None:
        how = "of its own making" if has_own_positions(trial.model) else "one a token"
        return Check(name, True, f"the model counts them, {how}")
    own = replace(trial, inputs={n: v for n, v in trial.inputs.items() if n != "position_ids"})
    return _agreement(name, trial, [lambda: own.recorded(own.run)])


def shared_prefix(trial: Trial, prefix: int) -> Check:
    """Rows whose first tokens ran before the rest, in cached keys and values, are as rows in one go."""
    name = f"shared prefix of {prefix} tokens = none"
    try:
        return _agreement(name, trial, [lambda: behind_prefix(trial, prefix)])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return Check(name, False, f"the model cannot continue a cached prefix: {str(error).splitlines()[0]}")
