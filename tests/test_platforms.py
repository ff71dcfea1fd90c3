"""Windows and macOS: every module can be imported without what only Unix has, and prints in a code page of Windows."""

import os
import subprocess
import sys

import numpy as np
import pytest

from probing.store import files

IMPORT_ALL = """
import pkgutil, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "syslog", "_posixshmem"):
    sys.modules[name] = None
sys.argv = ["taxoprobe", "--help"]  # libraries stand empty: here is looked at what our own modules import
import analyses, probing, taxogen
names = [m.name for p in (analyses, probing, taxogen) for m in pkgutil.walk_packages(p.__path__, p.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        __import__(name)
print(len(names))
"""


def environment(encoding):
    return {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}


def test_every_module_is_imported_without_what_only_unix_has():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    assert int(done.stdout) > 300


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.argv = ['taxoprobe']; import analyses; print('picture → word', '−1 ≤ ρ', '…')",
        "import sys; sys.argv = ['taxoprobe']; from analyses.frame.console import main; main(['analyse'])",
        "import sys; sys.argv = ['taxogen', 'config']; import taxogen.__main__ as one; one.main = "
        "lambda: print('→'); one.command()",
    ],
)
def test_output_in_a_code_page_of_windows_is_printed(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment("cp1252"))
    assert not done.returncode, done.stderr[-2000:]
    assert done.stdout.decode("cp1252").strip()


def test_the_same_output_would_fail_without_the_start():
    done = subprocess.run(
        [sys.executable, "-c", "print('→')"], capture_output=True, env=environment("cp1252")
    )
    assert b"UnicodeEncodeError" in done.stderr


@pytest.mark.parametrize("shape", [(4,), (3, 2), (0, 2)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint16"])
def test_bytes_are_read_alike_where_there_is_no_preadv(tmp_path, monkeypatch, shape, dtype):
    values = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    (tmp_path / "file").write_bytes(b"\r\n\x1a" + values.tobytes() + b"end")
    handle = files.opened(tmp_path / "file")
    try:
        for there in (True, False):
            if not there:
                monkeypatch.delattr(os, "preadv")
            into = np.full_like(values, 9)
            assert files.read_at(handle, into.data, 3) == values.nbytes
            np.testing.assert_array_equal(into, values)
            assert files.read_at(handle, np.empty(8, "uint8").data, 3 + values.nbytes) == 3  # the file ends
    finally:
        os.close(handle)
