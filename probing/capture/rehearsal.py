"""Rehearsal: a few rows of a capture with a shared prefix, once more in one go, before their values are believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from probing.hooks.checks import NOISE
from probing.hooks.layouts import layout_of
from probing.hooks.sequences import Prefix, length_of, per_token, without_counting
from probing.hooks.trials import Trial
from probing.sites import Site

#: Rows that run twice, where rows of the prefix can be chosen; with pictures, a row for each of the prefix.
ROWS = 2


@torch.inference_mode()
def require_same_as_whole(
    model: nn.Module,
    prefix: Mapping[str, Any],
    rest: Mapping[str, Any],
    prefix_rows: Int[np.ndarray, " batch"],
) -> None:
    """Refuses a model that gives rows another state behind this prefix than in one go.

    A bidirectional prompt sees what comes after it (PaliGemma), so do windows and positions that count padding.

    Args:
        model: the model that runs.
        prefix: its arguments for the prefix.
        rest: its arguments for what follows, padding behind the tokens, with positions.
        prefix_rows: for each row of the rest, the row of the prefix.

    Raises:
        ValueError: the states differ by more than rounding explains.
    """
    prefix = without_counting({name: value for name, value in prefix.items() if name != "use_cache"})
    some = _some_rows(prefix, prefix_rows)
    if some is None:
        return
    prefix, rows = some
    rest = {
        n: v[rows] if isinstance(v, Tensor) and len(v) == len(prefix_rows) else v for n, v in rest.items()
    }
    layout, depth = layout_of(model), len(layout_of(model).blocks)
    sites = [Site("hook_resid_post", layer) for layer in sorted({0, depth // 2, depth - 1})]
    whole = _in_one_go(model, prefix, rest)
    trial = Trial.of(model, layout, whole, sites)
    before: list[Prefix] = []

    def run(given: Mapping[str, Any]) -> None:
        model(**given)

    first = trial.recorded(lambda: before.append(Prefix.of(model, layout.stack, prefix, run)))
    given = rest | before[0].continued(torch.arange(len(rows)))
    second = trial.recorded(lambda: run(given))
    errors = {site: trial.excess(site, torch.cat([first[site], second[site]], 1)) for site in first}
    if not all(error <= NOISE for error in errors.values()):
        site = max(errors, key=lambda name: errors[name])
        raise ValueError(
            f"{layout.model_type}: rows behind this shared prefix have other states than in one go (at {site} "
            f"{errors[site]:.1e} times what rounding does, more than {NOISE:g}): its prompt is bidirectional, or its "
            "positions or windows do not go on there; capture whole rows, without CaptureBatch.prefix"
        )


def _some_rows(
    prefix: Mapping[str, Any], prefix_rows: Int[np.ndarray, " batch"]
) -> tuple[dict[str, Any], Int[np.ndarray, " rows"]] | None:
    """A prefix and the rows that continue it one by one; None where pictures belong to rows that nothing continues."""
    tokens = per_token(prefix)
    count = len(next(iter(tokens.values())))
    if set(prefix) <= {*tokens, "attention_mask", "position_ids"}:
        rows = np.arange(min(ROWS, len(prefix_rows)))
        chosen = torch.from_numpy(prefix_rows[rows])
        shared = {n: v for n, v in prefix.items() if len(v) != count}
        return {n: v[chosen] for n, v in prefix.items() if len(v) == count} | shared, rows
    continued, rows = np.unique(prefix_rows, return_index=True)
    return (dict(prefix), rows) if len(continued) == count else None


def _in_one_go(model: nn.Module, prefix: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for whole rows; positions are the model's own unless the prefix came with others."""
    first, second = per_token(prefix), per_token(rest)
    if "inputs_embeds" in {**first, **second}:
        first, second = (_embedded(model, tokens) for tokens in (first, second))
    rows, length, behind = len(next(iter(first.values()))), length_of(prefix), length_of(rest)
    whole = {
        name: value for name, value in prefix.items() if name not in {*per_token(prefix), "position_ids"}
    }
    for name in {**first, **second}:
        one, two = (tokens.get(name) for tokens in (first, second))
        one = two.new_zeros(rows, length, *two.shape[2:]) if one is None and two is not None else one
        assert one is not None
        whole[name] = torch.cat([one, one.new_zeros(rows, behind, *one.shape[2:]) if two is None else two], 1)
    device = next(iter(first.values())).device
    mask = rest.get("attention_mask")
    whole["attention_mask"] = (
        torch.ones(rows, length + behind, device=device).long() if mask is None else mask
    )
    if (given := prefix.get("position_ids")) is not None and given.ndim == rest["position_ids"].ndim:
        whole["position_ids"] = torch.cat([given.expand(rows, -1), rest["position_ids"]], 1)
    return whole


def _embedded(model: nn.Module, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tokens as embeddings."""
    if "inputs_embeds" in tokens:
        return {name: value for name, value in tokens.items() if name != "input_ids"}
    lookup: Any = model
    return {n: v for n, v in tokens.items() if n != "input_ids"} | {
        "inputs_embeds": lookup.get_input_embeddings()(tokens["input_ids"])
    }
