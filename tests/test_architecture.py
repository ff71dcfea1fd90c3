"""What the project promises of its own shape: import direction, no print in libraries, README as true as the tree."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("probing", "taxogen", "analyses")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = [path.relative_to(ROOT) for path in SOURCES]


SEPARATOR = "\N{RECORD SEPARATOR}"
ASK_EACH_FOR_HELP = f"""
import contextlib, io, runpy, sys
for module in sys.argv[1:]:
    said, sys.argv = io.StringIO(), [module, "--help"]
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = "no exit"
    except SystemExit as end:
        status = end.code or 0
    print("{SEPARATOR}", status, "\\n", said.getvalue(), sep="")
"""


@pytest.mark.parametrize("path", SOURCES, ids=[str(path) for path in MODULES])
def test_a_module_says_what_it_is_and_has_a_name_of_its_own(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} has no docstring"
    assert path.stem not in {"utils", "helpers", "common", "misc", "core", "base"}


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if "analyses" not in p.parts], ids=lambda path: path.name
)
def test_libraries_do_not_print(path):
    calls = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def imports(path: Path) -> set[str]:
    """The top packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("package", "above"), [("probing", {"taxogen", "analyses"}), ("taxogen", {"analyses"})]
)
def test_imports_only_go_down(package, above):
    upward = {str(path): imports(path) & above for path in (ROOT / package).rglob("*.py")}
    assert not {path: found for path, found in upward.items() if found}


def test_every_folder_of_the_tree_is_in_the_readme_and_the_other_way_round():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {name.split("/")[0] for name in tracked if "/" in name and not name.startswith(".")}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\s{4}(\w+)/", readme, flags=re.MULTILINE))
    assert named == folders


def test_every_module_that_the_readme_runs_is_there_and_answers_to_help():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = sorted(set(re.findall(r"python -m ((?:analyses|taxogen|probing|benchmarks)[\w.]*)", readme)))
    assert named, "the README shows no command"
    # One process for all: what takes time is to import torch and its friends.
    done = subprocess.run(
        [sys.executable, "-c", ASK_EACH_FOR_HELP, *named], cwd=ROOT, capture_output=True, text=True
    )
    answers = done.stdout.split(SEPARATOR)[1:]
    assert len(answers) == len(named), done.stderr
    for module, answer in zip(named, answers, strict=True):
        assert answer.startswith("0\n"), f"{module}: {done.stderr}"
        assert "usage" in answer, module


def test_every_document_that_is_linked_is_there():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))  # `f[x](y)` is code, not a link
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
