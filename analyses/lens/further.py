"""Lenses beside logit, tuned and cosine, which take longer: parts of each, site by site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.frame.parts import Parts
from analyses.inputs.subject import Subject, shown_pictures
from analyses.lens import contextual, jacobian
from analyses.lens.parts import LensInputs, View, evidence_in
from analyses.lens.sentences import bank_sentences, text_of
from probing.lens import IDENTITY, Patchscope, check_template
from probing.store import records

LENSES = ("contextual", "jacobian", "patchscope")
OPTIONS = ("lenses", "bank", "jacobian_rows", "template")
"""Options that no other lens depends on."""
_USED_BY = {"bank": "contextual", "jacobian_rows": "jacobian", "template": "patchscope"}


def check(options: Any) -> None:
    """Refuses options of the lenses that cannot be followed.

    Raises:
        ValueError: a lens was not asked for and an option of it was, or a value cannot be.
        FileNotFoundError: there is no such bank.
    """
    for name, lens in _USED_BY.items():
        if getattr(options, name) != getattr(type(options), name) and lens not in options.lenses:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} was given without the lens that uses it; add --lens {lens}")
    if options.bank:
        text_of(options.bank)
    if options.template:
        check_template(options.template)
    if options.jacobian_rows < 1:
        raise ValueError(f"a Jacobian of {options.jacobian_rows} leaves was asked for; give 1 or more")


def further_parts(
    subject: Subject,
    inputs: Callable[[], LensInputs],
    options: Any,
    sites: Sequence[str],
    settings: Mapping[str, Any],
) -> dict[str, pd.DataFrame]:
    """The parts of each lens that is asked for; those that are there are read."""
    folder = subject.run.folder("analyses", "lens")
    parts: dict[str, pd.DataFrame] = {}
    for lens in options.lenses:
        own, look = _LOOKS[lens](subject, inputs, options, sites)
        stored = Parts.of(Path(folder), {**settings, "lens": lens, **own})
        names = {f"{lens}.{site}": site for site in sites}
        what = f"{lens} lens, {subject.run.name}"
        parts[lens] = stored.collect(names, lambda name, look=look, names=names: look(names[name]), what)
    return parts


_Look = tuple[dict[str, Any], Callable[[str], pd.DataFrame]]


def _contextual(
    subject: Subject, inputs: Callable[[], LensInputs], options: Any, sites: Sequence[str]
) -> _Look:
    sentences = bank_sentences(subject.run.taxonomy, options.bank, options.seed)
    book = cache(lambda: contextual.book_of(subject, inputs().leaves, sites, sentences, options.seed))
    own = {"sentences": records.digest_of(list(sentences)), "sites": list(sites)}  # all are searched at each
    return own, lambda site: contextual.look(inputs(), book(), site)


def _jacobian(
    subject: Subject, inputs: Callable[[], LensInputs], options: Any, sites: Sequence[str]
) -> _Look:
    shown = shown_pictures(subject.run)
    maps = cache(
        lambda: jacobian.answer_maps(subject, inputs(), shown, sites, options.jacobian_rows, options.seed)
    )
    return {"rows": options.jacobian_rows}, lambda site: jacobian.look(inputs(), maps(), site)


def _patchscope(
    subject: Subject, inputs: Callable[[], LensInputs], options: Any, sites: Sequence[str]
) -> _Look:
    lm, template = subject.bench.vlm.lm, options.template or IDENTITY
    start = () if lm.start_token_id is None else (lm.start_token_id,)
    scope = cache(lambda: Patchscope.of(lm.model, lm.tokenizer, template, start))

    def look(site: str) -> pd.DataFrame:
        tables: list[pd.DataFrame] = []
        for modality, tokens in inputs().tokens.items():
            view = View.on(inputs(), modality, "patchscope", lambda states: scope()(states, site))
            tables += evidence_in(inputs(), view, view.of(tokens.states[site]))
        return pd.concat(tables, ignore_index=True).assign(site=site)

    return {"template": template}, look


_LOOKS = {"contextual": _contextual, "jacobian": _jacobian, "patchscope": _patchscope}
