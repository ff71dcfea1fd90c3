"""Folders that may lie on another machine: one that cannot be written to, or does not answer, is refused."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

SECONDS = 30.0
"""How long a folder, or a machine, has to answer."""


def mark_in(folder: Path) -> Path:
    """A new, empty file in a folder, which is made if it is not there.

    Raises:
        OSError: it cannot be written to, or does not answer within `SECONDS`, as where a server is gone.
    """
    mark = folder.absolute() / f".seen-{uuid.uuid4().hex}"
    faults: list[OSError] = []

    def touch() -> None:
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError as fault:
            faults.append(fault)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive() or faults:
        said = faults[0].strerror if faults else f"it does not answer within {SECONDS:.0f} s"
        raise OSError(f"{folder} cannot be written to: {said}; mount it, or name another folder with --out")
    return mark
