"""What objects show of themselves in a notebook: tables of text in the page's own colours, without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from probing.sites import Site
from probing.store.headers import read_index
from probing.store.shard_files import INDEX_FILE, shard_files

if TYPE_CHECKING:
    from probing.store.reading import ActivationStore

_LEFT = "text-align:left;vertical-align:top;overflow-wrap:anywhere"
_CAPTION = "caption-side:top;text-align:left;color:inherit"
_LONGEST = 100
"""Characters of a value, above which it is cut off."""


def facts(caption: str, values: Mapping[str, Any]) -> str:
    """A table of names and values; values that are empty are left out.

    >>> page = facts("one store", {"items": 3, "folder": "<here>", "compression": None})
    >>> page.count("<tr>"), "&lt;here&gt;" in page, "compression" in page
    (2, True, False)

    Args:
        caption: what it is about.
        values: name → value, of which the text is shown; the end of a long one is cut off.
    """
    lines = [
        f'<tr><th scope="row" style="{_LEFT}">{escape(name)}</th><td style="{_LEFT}">{_text(value)}</td></tr>'
        for name, value in values.items()
        if value not in (None, "", (), [], {})
    ]
    return _table(f"<strong>{escape(caption)}</strong>" if caption else "", "", lines)


def grid(caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with named columns, whose first cell names each row.

    >>> page = grid("words", ["leaf", "hypernym"], [["crow", "bird"], ["<b>", "letter"]])
    >>> page.count("<tr>"), page.count("<b>"), 'scope="col"' in page
    (3, 0, True)
    """
    head = "".join(f'<th scope="col" style="{_LEFT}">{escape(name)}</th>' for name in header)
    lines = [
        f'<tr><th scope="row" style="{_LEFT}">{_text(first)}</th>'
        + "".join(f'<td style="{_LEFT}">{_text(value)}</td>' for value in rest)
        + "</tr>"
        for first, *rest in rows
    ]
    return _table(escape(caption), f"<thead><tr>{head}</tr></thead>", lines)


def folded(summary: str, inside: str) -> str:
    """Markup that the reader opens."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def store_html(store: ActivationStore) -> str:
    """An activation store: its rows, sites and spans, and folded below, where its activations come from.

    Reads no activation.
    """
    whole = (store.path / INDEX_FILE).is_file()
    items = sum(entry["rows"] for entry in read_index(store.path)) if whole else 0
    finished = len(shard_files(store.path))
    about = {
        "path": store.path,
        "items": f"{items:,}" if whole else f"the capture did not end; {finished} shards are finished",
        "sites": f"{len(store.sites)}: {', '.join(_grouped(store.sites))}",
        "spans": ", ".join(f"{span} ({pooling})" for span, pooling in store.pooling.items()),
        "numbers": store.dtype,
    }
    source = facts("", {name: _short(value) for name, value in sorted(store.attributes.items())})
    return facts("Activation store", about) + folded("where the activations come from", source)


def _grouped(sites: Sequence[str]) -> list[str]:
    """Sites in words, those of one point in many layers as one: `blocks.0–29.hook_resid_post`."""
    layers: dict[str, list[int]] = {}
    for name in sites:
        site = Site.parse(name)
        layers.setdefault(site.point, []).extend([] if site.layer is None else [site.layer])
    words = []
    for point, of in layers.items():
        run = len(of) > 2 and of == list(range(of[0], of[-1] + 1))
        where = f"{of[0]}–{of[-1]}" if run else ",".join(map(str, of))
        words.append(f"blocks.{where}.{point}" if of else point)
    return words


def _short(value: Any) -> Any:
    """A value, of a long hash its first twelve characters."""
    is_hash = isinstance(value, str) and len(value) >= 32 and all(c in "0123456789abcdef" for c in value)
    return f"{value[:12]}…" if is_hash else value


def _text(value: Any) -> str:
    text = str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _table(caption: str, head: str, lines: Iterable[str]) -> str:
    above = f'<caption style="{_CAPTION}">{caption}</caption>' if caption else ""
    return f"<table>{above}{head}<tbody>{''.join(lines)}</tbody></table>"
