"""Hooks of `make docs`: pages outside docs/, files that pages link to, and a reference of the Python API.

Reads: the pages in docs/, README.md and its like, every file that a page links to, and the sources, which are parsed,
never imported. Writes: nothing; MkDocs writes the site.
"""

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
BESIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages beside docs/ and their names in the site."""
DOCUMENTED = ("probing", "taxogen", "analyses/frame", "analyses/inputs")
"""Packages of which every module, room by room, is in the reference."""
REFERENCE = "Python"
"""The heading in the navigation under which that reference stands."""
NO_PROSE = re.compile(r"(^(?:```|~~~)(?s:.*?)^(?:```|~~~)|^(?: {4}.*\n)+|`[^`\n]*`)", flags=re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")
LANGUAGES = {".py": "python", ".toml": "toml", ".sbatch": "bash"}
SOURCE = "source/"
"""The folder in the site of files that pages link to."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages of the reference under their heading."""
    config.nav = [
        {REFERENCE: list(_reference_pages())} if isinstance(entry, dict) and REFERENCE in entry else entry
        for entry in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that do not lie in docs/."""
    pages = {BESIDE[name]: (ROOT / name).read_text(encoding="utf-8") for name in BESIDE}
    pages |= _reference_pages()
    written = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    written |= {name: pages[BESIDE[name]] for name in BESIDE}
    for name, text in written.items():
        for target in _links(text):
            path = normpath(join(dirname(name), target))
            if not path.startswith("docs/") and path not in BESIDE and (ROOT / path).exists():
                pages[_place(path)] = _source_page(path)
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes links between files of the repository links between pages of the site."""
    here = page.file.src_uri
    names = {place: name for name, place in BESIDE.items()}
    home = dirname(here.removeprefix(SOURCE) if here.startswith(SOURCE) else names.get(here, f"docs/{here}"))

    def linked(match: re.Match[str]) -> str:
        path = normpath(join(home, match[1]))
        return relpath(_place(path), dirname(here) or ".") if (ROOT / path).exists() else match[1]

    parts = NO_PROSE.split(markdown)
    return "".join(part if number % 2 else LINK.sub(linked, part) for number, part in enumerate(parts))


def _links(text: str) -> Iterator[str]:
    for part in NO_PROSE.split(text)[::2]:
        yield from LINK.findall(part)


def _place(path: str) -> str:
    """The place in the site of a file or folder of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    folder = (ROOT / path).is_dir()
    return BESIDE.get(path, f"{SOURCE}{path}/index.md" if folder else f"{SOURCE}{path}.md")


def _source_page(path: str) -> str:
    if (folder := ROOT / path).is_dir():
        about = {file.name: _about(file) for file in sorted(folder.iterdir()) if file.suffix == ".py"}
        return f"# {path}\n\n" + "".join(f"- `{name}` {text}\n" for name, text in about.items())
    text = folder.read_text(encoding="utf-8")
    if folder.suffix == ".ipynb":
        return "\n\n".join(_cell(cell) for cell in json.loads(text)["cells"])
    return f"# {path}\n\n~~~~~~{LANGUAGES.get(folder.suffix, 'text')}\n{text}\n~~~~~~\n"


def _cell(cell: dict[str, Any]) -> str:
    """A cell of a notebook with its outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        data = {kind: "".join(lines) for kind, lines in output.get("data", {}).items()}
        if picture := data.get("image/png"):
            parts.append(f'<img alt="figure" src="data:image/png;base64,{picture.strip()}">')
        else:
            parts.append(data.get("text/html") or f"```text\n{''.join(output['text'])}\n```")
    return "\n\n".join(parts)


def _about(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _reference_pages() -> dict[str, str]:
    """Place in the site → text, a page for each room of the documented packages."""
    pages: dict[str, str] = {}
    for package in DOCUMENTED:
        for file in sorted((ROOT / package).rglob("*.py"), key=lambda file: (file.stem != "__init__", file)):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if file.stem == "__main__":
                continue
            room = ".".join(module.split(".")[:2])
            room = room if (ROOT / room.replace(".", os.sep)).is_dir() else module.split(".")[0]
            place = f"python/{room}.md"
            pages.setdefault(place, f"# {room}\n")
            pages[place] += _module_section(module, _defined(file))
    return dict(sorted(pages.items()))


def _module_section(module: str, names: list[str]) -> str:
    members = "".join(f"\n        - {name}" for name in names) or " false"
    return f"\n::: {module}\n    options:\n      members:{members}\n"


def _defined(file: Path) -> list[str]:
    """The public names that a module itself defines: classes, functions, and constants with a docstring."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names += [target.id] if isinstance(target, ast.Name) else []
    return [name for name in names if not name.startswith("_")]
