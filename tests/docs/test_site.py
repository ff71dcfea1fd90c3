"""The site of `make docs`: built without a warning, whole, every link leads somewhere, no other host is asked."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.analyses.pages import BROWSER, browse

ROOT = Path(__file__).parents[2]
REFERENCED = ("probing", "taxogen", "analyses/frame", "analyses/inputs")
PAGES = (*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
needs_mkdocs = pytest.mark.skipif(
    not importlib.util.find_spec("mkdocs"), reason="mkdocs is not installed; pip install 'taxoprobe[docs]'"
)
ADDRESS = re.compile(r'<(\w+)[^>]*?\s(?:href|src)="([^"]*)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def texts(site):
    return {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}


@needs_mkdocs
def test_every_page_of_the_documentation_is_in_the_navigation(texts):
    names = {path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")}
    navigation = texts["index.html"].partition("<article")[0]
    linked = {address for _, address in ADDRESS.findall(navigation)}
    assert "statistics.html" in names
    assert names <= linked
    assert {"contributing.html", "changelog.html"} <= linked


@needs_mkdocs
def test_no_page_asks_another_host(texts):
    asked = {
        (tag, address)
        for text in texts.values()
        for tag, address in ADDRESS.findall(text)
        if tag != "a" and re.match(r"(https?:)?//", address)
    }
    assert {one for one in asked if "canonical" not in one} == set()


@needs_mkdocs
def test_every_link_leads_to_a_file_and_a_place_in_it(site, texts):
    places = {name: set(re.findall(r'\sid="([^"]+)"', text)) for name, text in texts.items()}
    broken = []
    for name, text in texts.items():
        if name == "404.html":  # its links begin at the root of a server
            continue
        for _, address in ADDRESS.findall(text):
            if re.match(r"[a-z]+:|//|#__|\?", address):
                continue
            target, _, place = unquote(address).partition("#")
            path = (site / name).parent / target if target else site / name
            path = path / "index.html" if path.is_dir() else path
            inside = path.resolve().relative_to(site).as_posix()
            if not path.is_file() or (place and inside in places and place not in places[inside]):
                broken.append((name, address))
    assert broken == []


@needs_mkdocs
def test_every_public_docstring_is_in_the_reference(texts):
    reference = "".join(text for name, text in texts.items() if name.startswith("python/"))
    shown = set(re.findall(r'\sid="([\w.]+)"', reference))
    wanted = set()
    for package in REFERENCED:
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.parse(path.read_text("utf-8")).body:
                documented = isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node)
                if documented and not node.name.startswith("_") and path.stem != "__main__":
                    wanted.add(f"{module}.{node.name}")
    assert "probing.stats.estimates.Estimate" in wanted
    assert wanted - shown == set()


@needs_mkdocs
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_the_search_of_a_page_opened_from_the_disk_finds_a_word(site, tmp_path):
    document, errors = browse(site / "index.html", tmp_path, "--dump-dom", fragment="?q=crow")
    assert errors == []
    assert re.search(r"\d+ matching documents", document)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_imports_is_there(page):
    shown = re.findall(
        r"^ *from ((?:probing|taxogen|analyses)[\w.]*) import ([\w, ]+?)(?: +#.*)?$",
        page.read_text("utf-8"),
        flags=re.MULTILINE,
    )
    for module, names in shown:
        for name in names.split(","):
            there = hasattr(importlib.import_module(module), name.strip())
            assert there or importlib.util.find_spec(f"{module}.{name.strip()}"), f"{module}: {name}"
