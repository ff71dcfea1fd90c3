"""A copy of the checkout in which one file at a time is mutated, and the pytest runs in it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from tests.mutants.rooms import Mutant

PROJECT = ("probing", "taxogen", "analyses", "benchmarks", "tests")
KILLED_AFTER = 9  # seconds that a child has for its answer once its process group is stopped


def tracked(root: Path) -> list[str]:
    """The files of a checkout: those that git tracks, and new ones that it does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted({name for name in names if name and (root / name).is_file()})


class Checkout:
    """A copy of some files of a checkout, where tests run against the copy alone."""

    def __init__(self, root: Path, names: Iterable[str], folder: Path):
        self.root, self.beside = folder / "checkout", folder
        for name in names:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, self.root / name)

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """The block inside which the copy has the fault.

        Raises:
            RuntimeError: the file was edited between the draw and the copy.
        """
        path = self.root / mutant.file
        source = path.read_bytes()
        if mutant.mutation.shown(source.decode()) != (mutant.before, mutant.after):
            raise RuntimeError(f"{mutant.file} was edited after mutants were drawn; start again")
        path.write_text(mutant.mutation.apply(source.decode()), encoding="utf-8")
        try:
            yield
        finally:
            path.write_bytes(source)

    def canary(self, package: str) -> None:
        """Makes sure that a process started elsewhere imports the package from the copy.

        Raises:
            RuntimeError: it imports another one; mutants would all survive.
        """
        command = [sys.executable, "-c", f"import {package}; print({package}.__file__)"]
        settings = {**os.environ, **_environment(self.root)}
        done = subprocess.run(command, cwd=self.beside, env=settings, capture_output=True, text=True)
        if _stranger(done.stdout.strip(), self.root):
            raise RuntimeError(
                f"{package} is imported from {done.stdout.strip() or done.stderr}, not from {self.root}"
            )

    def test(
        self, context: BaseContext, arguments: Iterable[str], module: str = "", limit: float | None = None
    ) -> dict[str, Any]:
        """What one pytest run in the copy gave, in a process of its own.

        Returns:
            `status`: passed, failed, invalid (an import failed), empty (no test was chosen), timeout, or crashed; and
            `failures`, the tests that failed.
        """
        shutil.rmtree(self.beside / "scratch", ignore_errors=True)
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)
        answer, given = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(self.root, tuple(arguments), module, given))  # type: ignore[attr-defined]
        process.start()
        given.close()
        try:
            if not answer.poll(limit):
                return {"status": "timeout", "failures": []}
            return answer.recv()
        except EOFError:
            return {"status": "crashed", "failures": []}
        finally:
            _stop(process)


def _stop(process: Any) -> None:
    """Ends a child and whatever it has started."""
    with suppress(ProcessLookupError, PermissionError, AttributeError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, 9)
    process.kill()
    process.join(KILLED_AFTER)


def _run(root: Path, arguments: tuple[str, ...], module: str, answer: Connection) -> None:
    """The child: imports the mutated module from the copy, runs the tests, and says what came of it."""
    if hasattr(os, "setsid"):
        os.setsid()
    with open(root.parent / "output.txt", "w", encoding="utf-8") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    _enter(root)
    try:
        if module:
            importlib.import_module(module)
    except BaseException as error:
        answer.send({"status": "invalid", "failures": [f"{type(error).__name__}: {error}"]})
        return
    answer.send(_pytest(root, arguments))


def _enter(root: Path) -> None:
    """Makes the copy the only place that the project is imported from, in this process and in those it starts."""
    os.chdir(root)
    os.environ |= _environment(root)
    sys.dont_write_bytecode = (
        True  # a mutant of the same second and length would pass for the compiled source
    )
    for name in [name for name in sys.modules if name.partition(".")[0] in PROJECT]:
        del sys.modules[name]
    sys.path[:] = [str(root), *(path for path in sys.path if not (Path(path) / "probing").is_dir())]
    importlib.invalidate_caches()


def _environment(root: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TAXOPROBE_CACHE": str(root.parent / "scratch" / "cache"),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _pytest(root: Path, arguments: tuple[str, ...]) -> dict[str, Any]:
    import pytest

    with suppress(ImportError):
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)  # one failing example is enough: none is shrunk or stored
        settings.register_profile("mutants", phases=phases, derandomize=True, database=None)
        settings.load_profile("mutants")
    failures = _Failures()
    scratch = root.parent / "scratch" / "pytest"
    scratch.parent.mkdir(exist_ok=True)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={scratch}", f"--rootdir={root}"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported before its plugin
    code = int(pytest.main([*options, *arguments], plugins=[failures]))
    strangers = [
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in PROJECT and _stranger(getattr(module, "__file__", None), root)
    ]
    if strangers:
        return {"status": "stranger", "failures": strangers}
    if failures.unread:
        return {"status": "invalid", "failures": failures.unread}
    names = {0: "passed", 1: "failed", 5: "empty"}
    return {"status": names.get(code, f"pytest exit {code}"), "failures": failures.tests}


def _stranger(file: str | None, root: Path) -> bool:
    return file is not None and not Path(file).resolve().is_relative_to(root.resolve())


class _Failures:
    """A pytest plugin that notes which tests failed and which files could not be collected."""

    def __init__(self) -> None:
        self.tests: list[str] = []
        self.unread: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and report.nodeid not in self.tests:
            self.tests.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.unread.append(report.nodeid)
