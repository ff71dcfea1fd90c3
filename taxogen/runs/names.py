"""Spellings that settings and options take: plain names, steps of training, patterns of sites."""

from __future__ import annotations

import re
from functools import lru_cache

from probing.sites import BLOCK_POINTS, EMBED, FINAL, Site, select

LONGEST = 128
_PLAIN = re.compile(r"[A-Za-z0-9_+=][A-Za-z0-9._+=-]*")
_STEP = re.compile(r"last|0|[1-9][0-9]{0,17}")
_DEVICE = re.compile(r"auto|cpu|(cuda|mps|xpu)(:[0-9]{1,3})?")
_LAYERS = 200  # more than any language model has; whether it has a layer is asked when it is there


def plain_name(text: str, what: str) -> str:
    """The name, which can stand for a file in any folder and lead to no other.

    >>> plain_name("study-seed=0", "--name")
    'study-seed=0'

    Args:
        text: the name.
        what: the option or key that it was given for, such as `--name`.

    Raises:
        ValueError: it is empty, too long, a path, hidden, an option, or has other characters.
    """
    if len(text) > LONGEST or not _PLAIN.fullmatch(text):
        shown = text if len(text) <= LONGEST else f"{text[:20]}…{text[-20:]}"
        raise ValueError(
            f"{what} takes a name of at most {LONGEST} of the characters a-z, A-Z, 0-9 and ._+=- that begins with "
            f"neither . nor -, found {shown!r}"
        )
    return text


def step(text: str, what: str) -> str:
    """A number of optimiser steps, or `last`.

    Raises:
        ValueError: it is neither.
    """
    if not _STEP.fullmatch(text):
        raise ValueError(f"{what} takes numbers of steps such as 0 and 50, and 'last', found {text!r}")
    return text


def device(text: str, what: str) -> str:
    """A name of a device; whether this machine has it is asked when a model is loaded.

    Raises:
        ValueError: it is not spelled like one.
    """
    if not _DEVICE.fullmatch(text):
        raise ValueError(f"{what} takes auto, cpu, cuda, cuda:1, mps or xpu, found {text!r}")
    return text


@lru_cache
def site_pattern(text: str, what: str) -> str:
    """A pattern that names a site of some model; see `probing.sites.select`.

    Raises:
        ValueError: no model has such a site.
    """
    layers = [Site(point, layer) for layer in range(_LAYERS) for point in BLOCK_POINTS]
    try:
        select(text, [Site(EMBED), *layers, Site(FINAL)])
    except KeyError:
        points = ", ".join((EMBED, "blocks.*.POINT", FINAL))
        raise ValueError(
            f"{what} takes patterns of sites ({points}; POINT is one of {', '.join(BLOCK_POINTS)}), found {text!r}"
        ) from None
    return text
