"""Remote folders: in an object store or on another machine, by a URL that fsspec reads, such as s3://bucket/things."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MARK = "://"
"""What a URL has and a path has not."""
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
"""Where file systems say which version of a file is there."""


@dataclass(frozen=True)
class RemoteFile:
    """A file below a remote folder."""

    url: str

    def read_bytes(self) -> bytes:
        """Its content.

        Raises:
            FileNotFoundError: it is not there.
            OSError: it cannot be read.
        """
        system, path = filesystem(self.url)
        with told(f"{self.url} cannot be read"):
            return system.cat_file(path)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder by its URL; it holds no connection, so that it can be sent to other processes."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemoteFile:
        return RemoteFile(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return posixpath.basename(self.url.rstrip("/"))

    def below(self, name: str) -> RemoteFolder:
        """A folder in it."""
        return RemoteFolder((self / name).url)

    def files(self) -> dict[str, str]:
        """The path of every file below it → its size and version, or nothing where no version is known.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be listed.
        """
        system, path = filesystem(self.url)
        with told(f"{self.url} cannot be listed"):
            found = system.find(path, detail=True)
        if not found:
            raise FileNotFoundError(
                f"No pictures at {self.url}: nothing is there. Give a folder of <leaf>/<file>.jpg."
            )
        start = f"{path.rstrip('/')}/"
        return {name.removeprefix(start): _version(about) for name, about in found.items()}


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, as fsspec has it, and the path there.

    Raises:
        ValueError: no file system has such URLs.
        ModuleNotFoundError: the package that reads them is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as fault:
        kind = url.partition(MARK)[0]
        extra = "`pip install 'taxoprobe[s3]'`" if kind in ("s3", "s3a") else "install it with pip"
        raise ModuleNotFoundError(f"{url} was asked for; {fault}: {extra}") from None
    except ValueError as fault:
        raise ValueError(
            f"{url} was asked for; {fault}: give a folder, or a URL such as s3://BUCKET/FOLDER"
        ) from None


@contextmanager
def told(what: str) -> Iterator[None]:
    """A block whose failures, of whatever kind drivers raise, are OSErrors that say what was tried."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as fault:
        said = " ".join(str(fault).split()) or type(fault).__name__
        raise OSError(f"{what}: {said[:200]}") from fault


def _version(about: dict[str, Any]) -> str:
    known = [str(about[key]) for key in _VERSIONS if about.get(key) is not None]
    return f"{about.get('size')} {known[0]}" if known else ""
