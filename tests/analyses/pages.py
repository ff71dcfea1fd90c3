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
