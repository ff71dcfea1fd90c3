"""Site: a named place in a forward pass, spelled as TransformerLens spells it.

Layer ℓ is the index of a transformer block, from 0. `hook_embed` is what enters the decoder stack and
`ln_final.hook_normalized` is the value after the last norm; neither has a layer. Hugging Face's
`hidden_states[-1]` is the value after the last norm and so never is a layer here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SPELLING_VERSION = 1

EMBED = "hook_embed"
FINAL = "ln_final.hook_normalized"
PATTERN = "attn.hook_pattern"

SPAN_OF_SLOT: Mapping[Literal["image", "text"], str] = {"image": "image", "text": "noun"}
"""The span that fills a prompt's slot in rows of each modality: the picture's tokens, or the name of what it shows."""

#: Points inside one block, in the order in which a forward pass reaches them.
BLOCK_POINTS = (
    "hook_resid_pre",
    PATTERN,
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_post",
    "hook_mlp_out",
    "hook_resid_post",
)


@dataclass(frozen=True)
class Site:
    """One hook point: `layer` is the block index from 0, or None for the two points outside the blocks.

    >>> site = Site.parse("blocks.3.hook_resid_post")
    >>> site.layer, site.point, str(site)
    (3, 'hook_resid_post', 'blocks.3.hook_resid_post')

    Raises:
        ValueError: the point is unknown, or has a layer where it must not (or none where it must).
    """

    point: str
    layer: int | None = None

    def __post_init__(self) -> None:
        inside = self.point in BLOCK_POINTS
        if not inside and self.point not in (EMBED, FINAL):
            known = ", ".join((EMBED, *(f"blocks.L.{point}" for point in BLOCK_POINTS), FINAL))
            raise ValueError(f"no site has the point {self.point!r}; the sites are {known}")
        if inside != (self.layer is not None):
            need = "needs a layer" if inside else "has no layer"
            raise ValueError(f"the point {self.point!r} {need}, found layer={self.layer}")
        if self.layer is not None and self.layer < 0:
            raise ValueError(f"layers count from 0, found layer={self.layer} at {self.point!r}")

    def __str__(self) -> str:
        return self.point if self.layer is None else f"blocks.{self.layer}.{self.point}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """The site that `text` spells; the inverse of `str`."""
        match = re.fullmatch(r"blocks\.(0|[1-9]\d*)\.(.+)", text)
        return cls(match[2], int(match[1])) if match else cls(text)

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: the order in which a forward pass reaches the sites."""
        if self.layer is None:
            return (-1, 0) if self.point == EMBED else (10**9, 0)
        return (self.layer, BLOCK_POINTS.index(self.point))


Sites = str | Site | Iterable[str | Site]


def select(patterns: Sites, available: Sequence[Site]) -> tuple[Site, ...]:
    """The available sites that the patterns name, in forward order, each once.

    A pattern is a site's name in which `*` and `?` match inside one dotted part, and the layer may be a
    list of numbers and ranges: `blocks.*.hook_resid_post`, `blocks.0-11.hook_attn_out`,
    `blocks.0,4,8-10.*`. Attention patterns are large and need eager attention, so a wildcard in the last
    part never reaches them: spell `hook_pattern` to get it.

    >>> sites = [Site("hook_resid_post", layer) for layer in range(4)]
    >>> [str(site) for site in select("blocks.1-2.hook_resid_post", sites)]
    ['blocks.1.hook_resid_post', 'blocks.2.hook_resid_post']

    Raises:
        KeyError: a pattern names no available site; the message lists what is available.
    """
    wanted = [patterns] if isinstance(patterns, str | Site) else list(patterns)
    if not wanted:
        raise ValueError(f"no site was asked for; available: {describe(available)}")
    chosen: dict[Site, None] = {}
    known = set(available)
    for pattern in wanted:
        # Captures select at every forward pass by sites that they have selected before: no pattern to match.
        if isinstance(pattern, Site) and pattern in known:
            chosen[pattern] = None
            continue
        matching = [site for site in available if _matches(str(pattern), site)]
        if not matching:
            raise KeyError(f"no site matches {str(pattern)!r}; available: {describe(available)}")
        chosen.update(dict.fromkeys(matching))
    return tuple(sorted(chosen, key=lambda site: site.order))


def _matches(pattern: str, site: Site) -> bool:
    if site.point == PATTERN and not pattern.endswith("hook_pattern"):
        return False
    pattern_parts, site_parts = pattern.split("."), str(site).split(".")
    if len(pattern_parts) != len(site_parts):
        return False
    return all(
        _holds(part, int(name)) if name.isdecimal() else _glob(part, name)
        for part, name in zip(pattern_parts, site_parts)
    )


def _holds(layers: str, layer: int) -> bool:
    """Whether a list of numbers and ranges such as `0,4,8-10` (or a glob) holds the layer."""
    for part in layers.split(","):
        first, dash, last = part.partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            if int(first) <= layer <= int(last):
                return True
        elif _glob(part, str(layer)):
            return True
    return False


def _glob(pattern: str, name: str) -> bool:
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name))


def describe(available: Sequence[Site]) -> str:
    """A one-line listing of sites in which the layers of one point are written as a range.

    >>> describe([Site("hook_embed"), *(Site("hook_resid_post", layer) for layer in (0, 1, 2, 5))])
    'hook_embed, blocks.0-2,5.hook_resid_post'
    """
    layers: dict[str, list[int]] = {}
    for site in available:
        layers.setdefault(site.point, []).extend([] if site.layer is None else [site.layer])
    return ", ".join(
        f"blocks.{_ranges(numbers)}.{point}" if numbers else point for point, numbers in layers.items()
    )


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
