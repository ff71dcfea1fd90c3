"""A page read back: its elements with what they are nested in, and what a browser says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "input", "hr"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Element:
    """A tag with its attributes, the tags around it, and the text right inside it."""

    tag: str
    attributes: dict[str, str | None]
    around: tuple[str, ...]
    texts: list[str] = field(default_factory=list)


class Elements(HTMLParser):
    """All elements of a page; tags that do not nest are faults."""

    def __init__(self, text: str):
        super().__init__()
        self.all: list[Element] = []
        self.faults: list[str] = []
        self._open: list[Element] = []
        self.feed(text)
        self.faults += [f"<{one.tag}> is never closed" for one in self._open]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs), tuple(one.tag for one in self._open))
        self.all.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.all.append(Element(tag, dict(attrs), tuple(one.tag for one in self._open)))

    def handle_endtag(self, tag):
        if not self._open or self._open[-1].tag != tag:
            around = self._open[-1].tag if self._open else "nothing"
            self.faults.append(f"</{tag}> inside <{around}> at {self.getpos()}")
            return
        self._open.pop()

    def handle_data(self, data):
        if self._open:
            self._open[-1].texts.append(data)

    def of(self, *tags: str) -> list[Element]:
        """The elements with these tags."""
        return [one for one in self.all if one.tag in tags]


def browse(page: Path, folder: Path, *flags: str, fragment: str = "") -> tuple[str, list[str]]:
    """What a browser says of a page, such as its document after scripts ran, and errors of its console."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", *flags]
    done = subprocess.run(
        [*command, page.as_uri() + fragment], capture_output=True, text=True, timeout=240, check=True
    )
    return done.stdout, re.findall(r".*(?:CONSOLE|Uncaught).*", done.stderr)


class Page(HTMLParser):
    """The tables of a page as rows of texts, its pictures, and its headings."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.images: list[str] = []
        self.heads: list[str] = []
        self._cell: list[str] | None = None
        self._head: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag in ("h2", "h3"):
            self._head = []
        elif tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif tag in ("h2", "h3"):
            self.heads.append("".join(self._head).strip())
            self._head = None

    def handle_data(self, data):
        for part in (self._cell, self._head):
            if part is not None:
                part.append(data)

    def table(self, *header: str) -> list[list[str]]:
        """The rows of the only table whose columns begin with these words."""
        begins = [table for table in self.tables if table and len(table[0]) >= len(header)]
        (rows,) = [one for one in begins if all(map(str.startswith, one[0], header))]
        return rows
