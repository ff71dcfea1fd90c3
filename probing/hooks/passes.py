"""record() and edit(): the only two ways to touch a forward pass.

Both are context managers that leave no hook behind, whatever happens inside. Inside them compiled models run as they
are written, for a compiled graph would not call the hooks. Recorded values are the model's own tensors, not copies, so
that gradients reach them. A model whose kernels write into them after the hook is refused by `verify`; record with
`take=lambda site, value: value.clone()` there, and wherever values of one pass are kept while its buffers are used
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from probing.hooks.evaluating import uncompiled
from probing.hooks.layouts import Layout, Point, layout_of
from probing.sites import EMBED, PATTERN, Site, Sites

Take = Callable[[Site, Tensor], Tensor]
Edit = Callable[[Tensor], Tensor | None]
_Visit = Callable[[Tensor], Tensor | None]


class _Reached(Exception):
    """Raised inside a forward pass once every asked site has been seen."""


@overload
def record(
    model: nn.Module, sites: Sites, *, take: Take | None = None, stop: bool = False, keep: None = None
) -> AbstractContextManager[dict[str, Tensor]]: ...


@overload
def record(
    model: nn.Module, sites: Sites, *, take: Take | None = None, stop: bool = False, keep: Literal["last"]
) -> AbstractContextManager[dict[str, Tensor]]: ...


@overload
def record(
    model: nn.Module, sites: Sites, *, take: Take | None = None, stop: bool = False, keep: Literal["all"]
) -> AbstractContextManager[dict[str, list[Tensor]]]: ...


@contextmanager
def record(
    model: nn.Module,
    sites: Sites,
    *,
    take: Take | None = None,
    stop: bool = False,
    keep: Literal["all", "last"] | None = None,
) -> Iterator[Any]:
    """A dictionary that forward passes inside the block fill: site name → value [batch, token, ...].

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> with record(model, "blocks.*.hook_resid_post") as seen:
    ...     _ = model(torch.arange(5)[None])
    >>> list(seen), tuple(seen["blocks.1.hook_resid_post"].shape)
    (['blocks.0.hook_resid_post', 'blocks.1.hook_resid_post'], (1, 5, 8))

    Args:
        model: a Hugging Face decoder, or a model that contains exactly one.
        sites: names, globs and ranges, see `probing.sites.select`.
        take: makes the recorded value from each value (a gather, say); the value itself by default.
        stop: end the forward pass as soon as every asked site was seen. The block is left at that point,
            so the call to the model has to be its last statement.
        keep: of several passes, as in `generate`, `all` values of a site in a list, or the `last`; by default a second
            value of a site is refused.

    Raises:
        KeyError: a pattern names no site of this model.
        ValueError: a site was reached twice and `keep` does not say what to do, or the model ran past a site.
    """
    layout = layout_of(model)
    seen: dict[str, Any] = {}
    chosen = layout.select(sites)

    def keeps(site: Site) -> _Visit:
        def visit(value: Tensor) -> None:
            if keep is None and str(site) in seen:
                raise ValueError(
                    f"{site} was reached twice inside one record(): the model ran several times (generate?); "
                    "record with keep='all' for a list of every pass, or with keep='last'"
                )
            value = value if take is None else take(site, value)
            seen[str(site)] = [*seen.get(str(site), ()), value] if keep == "all" else value
            if stop and len(seen) == len(chosen):
                raise _Reached

        return visit

    with _attached(lambda: (handle for site in chosen for handle in _attach(layout, site, keeps(site)))):
        try:
            yield seen
        except _Reached:
            return
    if seen and len(seen) < len(chosen):
        missing = [str(site) for site in chosen if str(site) not in seen]
        raise ValueError(
            f"{layout.model_type} ran without reaching {', '.join(missing[:4])} ({len(missing)} of {len(chosen)} "
            "sites): its forward goes another way than its layout says; record other sites"
        )


@contextmanager
def _attached(attach: Callable[[], Iterable[RemovableHandle]]) -> Iterator[None]:
    """A block in which hooks are in place and compiled graphs, which would not call them, are not used."""
    handles: list[RemovableHandle] = []
    try:
        with uncompiled():
            for handle in attach():
                handles.append(handle)
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def edit(model: nn.Module, edits: Mapping[str | Site, Edit]) -> Iterator[None]:
    """Forward passes inside the block run with the values at the given sites replaced.

    Each function gets the value [batch, token, ...] and gives a new one of the same shape, or None to
    leave it. Giving back an equal value changes no bit of anything downstream. A change at
    `hook_resid_mid` reaches both the MLP and the skip connection around it.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> ids = torch.arange(5)[None]
    >>> with edit(model, {"blocks.0.hook_resid_post": lambda value: 2 * value}):
    ...     doubled = model(ids).logits
    >>> torch.equal(doubled, model(ids).logits)
    False

    Raises:
        KeyError: a name is not one site of this model.
        ValueError: a pattern of attention was to be edited, or a function gave another shape.
    """
    layout = layout_of(model)
    work = {site: function for name, function in edits.items() for site in layout.select(name)}
    for site in work:
        if site.point == PATTERN:
            raise ValueError(
                f"{site} can be recorded but not edited: the attention output was computed before the "
                "pattern became visible; edit attn.hook_z of the same layer instead"
            )

    def attach() -> Iterator[RemovableHandle]:
        for site in sorted(work, key=_edit_order):
            change = _checked(site, work[site])
            attach_one = _attach_mid_edit if site.point == "hook_resid_mid" else _attach
            yield from attach_one(layout, site, change)

    with _attached(attach):
        yield


def _edit_order(site: Site) -> tuple[int, int]:
    """Forward order, but the edit of the MLP output comes before that of the middle, which watches it."""
    layer, place = site.order
    return (layer, -1) if site.point == "hook_mlp_out" else (layer, place)


def _checked(site: Site, function: Edit) -> _Visit:
    def visit(value: Tensor) -> Tensor | None:
        new = function(value)
        if new is not None and (
            new.shape != value.shape or new.dtype != value.dtype or new.device != value.device
        ):
            raise ValueError(
                f"the edit at {site} has to give back {tuple(value.shape)} {value.dtype} on {value.device}, "
                f"found {tuple(new.shape)} {new.dtype} on {new.device}"
            )
        return new

    return visit


def _attach(layout: Layout, site: Site, visit: _Visit) -> list[RemovableHandle]:
    if site.point == EMBED:
        return _attach_embed(layout, visit)
    point = layout.point(site)
    if point.side == "input":
        return [point.module.register_forward_pre_hook(_on_input(point, visit), with_kwargs=True)]
    return [point.module.register_forward_hook(_on_output(point, visit))]


def _on_input(point: Point, visit: _Visit) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = args[0] if args else kwargs["hidden_states"]
        new = visit(value.unflatten(-1, (point.heads, -1)) if point.heads else value)
        if new is None:
            return None
        new = new.flatten(-2) if point.heads else new
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    return hook


def _on_output(point: Point, visit: _Visit) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        whole = isinstance(output, Tensor)
        new = visit(output if whole else output[point.item])
        if new is None or whole:
            return new
        return (*output[: point.item], new, *output[point.item + 1 :])

    return hook


def _attach_embed(layout: Layout, visit: _Visit) -> list[RemovableHandle]:
    """Hooks on what enters the stack: given embeddings (pictures merged in), else the looked-up tokens.

    A multimodal model looks its tokens up before it calls the stack; that lookup is not the value.
    """
    looking_up = False

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal looking_up
        given = kwargs.get("inputs_embeds")
        looking_up = given is None
        new = None if given is None else visit(given)
        return None if new is None else (args, {**kwargs, "inputs_embeds": new})

    def look_up(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        nonlocal looking_up
        if not looking_up:
            return None
        looking_up = False
        return visit(output)

    return [
        layout.stack.register_forward_pre_hook(enter, with_kwargs=True),
        layout.embedding.register_forward_hook(look_up),
    ]


def _attach_mid_edit(layout: Layout, site: Site, visit: _Visit) -> list[RemovableHandle]:
    """Hooks that replace the middle of a block both for the MLP and for the skip connection around it.

    The model adds the untouched middle to the MLP output after our hook, so the sum is made again, in the
    model's own order of one addition; an equal middle gives the same bits.
    """
    changed: list[Tensor] = []
    contribution: list[Tensor] = []

    def change(value: Tensor) -> Tensor | None:
        changed.clear()
        contribution.clear()
        new = visit(value)
        if new is not None:
            changed.append(new)
        return new

    def watch(value: Tensor) -> None:
        contribution[:] = [value]

    def add(_: Tensor) -> Tensor | None:
        return changed.pop() + contribution.pop() if changed else None

    layer = site.layer
    handles = _attach(layout, site, change)
    handles += _attach(layout, Site("hook_mlp_out", layer), watch)
    return handles + _attach(layout, Site("hook_resid_post", layer), add)


@torch.inference_mode()
def run(
    model: nn.Module, inputs: Mapping[str, Any], sites: Sites, take: Take | None = None
) -> dict[str, Tensor]:
    """The values at the sites of one forward pass without gradients, which ends after the last of them.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> values = run(model, {"input_ids": torch.arange(5)[None]}, ["hook_embed", "blocks.0.attn.hook_z"])
    >>> {site: tuple(value.shape) for site, value in values.items()}  # heads have an axis of their own
    {'hook_embed': (1, 5, 8), 'blocks.0.attn.hook_z': (1, 5, 2, 4)}
    """
    with record(model, sites, take=take, stop=True) as seen:
        model(**inputs)
    return seen
