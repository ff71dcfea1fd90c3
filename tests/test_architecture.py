"""What the project promises of its own shape: import direction, no print in libraries, README as true as the tree."""

import ast
import contextlib
import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analyses.frame import console, registry

ROOT = Path(__file__).parent.parent
PACKAGES = ("probing", "taxogen", "analyses")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = [path.relative_to(ROOT) for path in SOURCES]
FOLDERS = sorted({path.parent for path in SOURCES})
MOST_LINES = 320
MOST_ENTRIES = 14
NO_QUESTIONS = {"frame", "inputs", "demo", "study", "report", "capture", "power", "expected", "figures"}
"""Packages of analyses that are no question; every other is one, and there may be any number."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]

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


@pytest.mark.parametrize("path", SOURCES, ids=[str(path) for path in MODULES])
def test_a_file_can_be_read_at_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    questions = set(registry.questions()) if folder == ROOT / "analyses" else set()
    entries = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path in FOLDERS}
    assert len(entries - questions - {"__init__"}) <= MOST_ENTRIES, sorted(entries)


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
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize(
    ("package", "above"), [("probing", {"taxogen", "analyses"}), ("taxogen", {"analyses"})]
)
def test_imports_only_go_down(package, above):
    upward = {str(path): imports(path) & above for path in (ROOT / package).rglob("*.py")}
    assert not {path: above for path, above in upward.items() if above}


def test_every_folder_of_the_tree_is_in_the_readme_and_the_other_way_round():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {name.split("/")[0] for name in tracked if "/" in name and not name.startswith(".")}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\s{4}(\w+)/", readme, flags=re.MULTILINE))
    assert named == folders


def test_the_architecture_page_names_every_room_and_no_other():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = page[page.index("## Rooms") : page.index("## Words")]
    for package, text in re.findall(r"^    (\w+)/\n((?:    .*\n)+)", rooms, flags=re.MULTILINE):
        named = set(re.findall(r"(?:^      |  )(\w+)/", text, flags=re.MULTILINE)) - {"NAME"}
        folders = {path.name for path in (ROOT / package).iterdir() if path.is_dir()} - {"__pycache__"}
        if package == "analyses":
            folders &= NO_QUESTIONS
        assert named == folders, package


def test_python_m_analyses_lists_every_question():
    command = [sys.executable, "-m", "analyses"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {path.parent.name for path in (ROOT / "analyses").glob("*/__init__.py")} - NO_QUESTIONS
    assert folders
    assert not {name for name in folders if not re.search(rf"\b{name}\b +\w+", listed)}


def test_every_taxoprobe_command_that_a_page_shows_is_one():
    commands = {name for names in console.GROUPS.values() for name in names}
    questions = {name.replace("_", "-") for name in registry.questions()}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = re.findall(
        r"(?:^ {4}|`)taxoprobe (?!activations 1)([a-z][\w-]*)(?: ([a-z][\w-]*))?", text, flags=re.MULTILINE
    )
    assert {command for command, _ in shown} <= commands
    asked = {name for command, name in shown if command == console.ANALYSE and name}
    assert asked
    assert asked <= questions


def is_there(name: str) -> bool:
    """Whether a dotted name is a module or lies in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            place = importlib.import_module(".".join(parts[:length]))
            with contextlib.suppress(AttributeError):
                functools.reduce(getattr, parts[length:], place)
                return True
            return False
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_and_file_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    tops = "probing|taxogen|analyses|benchmarks|tests"
    names = set(re.findall(rf"(?<![\w/])((?:{tops})(?:\.\w+)+)", text))
    paths = set(re.findall(rf"(?<![\w/])((?:{tops}|docs)/[\w./-]*\.\w+)", text))
    assert not {name for name in names if not (is_there(name) or name.endswith(".NAME"))}
    assert not {path for path in paths if not (ROOT / path).exists() and "NAME" not in path}


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
    for page in PAGES:
        prose = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))  # `f[x](y)` is code, not a link
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_registered_questions_do_not_import_each_other():
    for name in registry.questions():
        named = {
            (node.module or "").split(".")[1]
            for path in (ROOT / "analyses" / name).rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("analyses.")
        }
        assert named <= {name, "frame", "inputs"}, name


def test_a_make_target_runs_every_test_that_is_marked_nightly():
    words = [line.split() for line in (ROOT / "Makefile").read_text().splitlines() if "-m nightly" in line]
    asked: set[Path] = set()
    for line in words:
        folders = [ROOT / word for word in line if word.startswith("tests")]
        left_out = ROOT / line[line.index("--ignore") + 1] if "--ignore" in line else None
        inside = {path for folder in folders if folder != left_out for path in folder.rglob("test_*.py")}
        asked |= {path for path in inside if left_out is None or left_out not in path.parents}
    marked = {path for path in (ROOT / "tests").rglob("test_*.py") if "mark.nightly" in path.read_text()}
    assert marked - {Path(__file__)} <= asked
