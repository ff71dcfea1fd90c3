"""The wheel: what is in it, and that it trains and answers in an empty environment, far from the checkout."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from pathlib import Path

import pytest

from tests.world import write_world

ROOT = Path(__file__).parent.parent
PACKAGES = ("probing", "taxogen", "analyses")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*words: str | Path, cwd: Path) -> str:
    """What a command prints, run without the checkout on its path; fails with what it says on stderr."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def source_files() -> list[str]:
    """Every file of the checkout that git tracks or would."""
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: nothing that an earlier build left can come into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in source_files():
        if name.split("/")[0] not in {"tests", "docs"}:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", out, source, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A virtual environment with the wheel, and with the packages installed beside the checkout but not its finder."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", "--quiet", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder named in a .pth file is searched for packages; its own .pth files (the editable finder) are not read.
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    return folder


def test_the_wheel_holds_the_packages_whole_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        information = f"taxoprobe-{PROJECT['version']}.dist-info"
        assert {name.split("/")[0] for name in names} == {*PACKAGES, information}
        held = {name for name in names if name.split("/")[0] in PACKAGES}
        assert held == {name for name in source_files() if name.split("/")[0] in PACKAGES}
        assert {f"{package}/py.typed" for package in PACKAGES} <= held
        assert {"taxogen/data/pictograms.zip", "analyses/report/templates/report.html"} <= held
        assert {f"{information}/licenses/LICENSE", f"{information}/licenses/NOTICE"} <= names
        about = Parser().parsestr(archive.read(f"{information}/METADATA").decode())
    assert about["Author"] == "taxoprobe developers"
    assert about["Keywords"]
    assert "Typing :: Typed" in about.get_all("Classifier", [])
    assert about.get_all("Project-URL") is None


def imported(package: str) -> set[str]:
    """The top packages that a package of the project imports, wherever in it."""
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - {*PACKAGES, *sys.stdlib_module_names}


def distributions(requirements: Iterable[str]) -> set[str]:
    """The normalised names of requirements."""
    lines = [line for line in requirements if line and not line.startswith("#")]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines]
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    provided_by = importlib.metadata.packages_distributions()
    names = set().union(*map(imported, PACKAGES))
    used = distributions(provided_by.get(name, [name])[0] for name in names)
    needed = distributions(PROJECT["dependencies"])
    optional = distributions(line for extra in PROJECT["optional-dependencies"].values() for line in extra)
    embedded = distributions((ROOT / "embedded.txt").read_text(encoding="utf-8").splitlines())
    assert not used - needed - optional - embedded
    assert not needed - used


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)", citation, flags=re.MULTILINE) == [PROJECT["version"]]
    assert re.findall(r"^## (\S+)", changes, flags=re.MULTILINE)[0] == PROJECT["version"]


def test_the_packages_are_found_in_their_environment_and_not_in_the_checkout(environment, tmp_path):
    program = (
        "import analyses, probing, taxogen; print(analyses.__file__, probing.__file__, taxogen.__file__)"
    )
    files = [Path(name) for name in run(environment / "bin" / "python", "-c", program, cwd=tmp_path).split()]
    assert [file.parent.name for file in files] == ["analyses", "probing", "taxogen"]
    assert all(file.is_relative_to(environment) for file in files)
    program = "import importlib.util; print(importlib.util.find_spec('benchmarks'))"
    assert run(environment / "bin" / "python", "-c", program, cwd=tmp_path) == "None\n"


def test_an_installed_wheel_trains_a_run_and_asks_it_a_question_in_an_empty_folder(
    environment, toy_lm, tmp_path
):
    settings = write_world(tmp_path / "world", toy_lm)
    (folder := tmp_path / "empty").mkdir()
    taxoprobe = environment / "bin" / "taxoprobe"
    assert run(taxoprobe, "--version", cwd=folder).strip() == PROJECT["version"]
    settings += ("train.steps=4", "train.snapshots=last", "capture.at=last")
    run(taxoprobe, "train", *(word for setting in settings for word in ("--set", setting)), cwd=folder)
    run(taxoprobe, "evaluate", "--run", "artifacts/runs/default", cwd=folder)
    told = run(taxoprobe, "analyse", "behaviour", "--run", "artifacts/runs/default", cwd=folder)
    assert "Table and figures: artifacts/runs/default/analyses/behaviour" in told
    made = folder / "artifacts" / "runs" / "default"
    assert [path.name for path in folder.iterdir()] == ["artifacts"]
    assert (made / "run.json").is_file()
    assert (made / "captures" / "step-000004").is_dir()
    assert {".parquet", ".csv", ".png"} <= {
        path.suffix for path in (made / "analyses" / "behaviour").iterdir()
    }
