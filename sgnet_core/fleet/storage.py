"""Recordings and results in folders or object stores (``s3://``, ``gs://``, …), with fsspec."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sgnet_core.files import atomic_write

_CHANGED_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")
"""Keys of file-system entries that change with the content of a file, the most exact first."""


class StorageError(ValueError):
    """A path or URL that cannot be used; the message names it."""


@dataclass(frozen=True)
class Source:
    """A recording: a file or a folder.

    Attributes:
        path: local path or URL.
        name: name for the folder of its results: the part of the path that matched the first
            wildcard and all after it, without suffix.
    """

    path: str
    name: str


def find_sources(patterns: Sequence[str]) -> list[Source]:
    """Return the recordings that match paths, URLs and globs, in order, without duplicates.

    Raises:
        StorageError: a pattern matches nothing, or two recordings have the same name.
    """
    found: dict[str, Source] = {}
    for pattern in patterns:
        for source in _matches(pattern):
            other = found.setdefault(source.name, source)
            if other.path != source.path:
                raise StorageError(
                    f"{other.path} and {source.path} would both be named {source.name}: quote the "
                    "glob, as in 'ROBOTS/*/*.mcap', so that the names include the folders"
                )
    return list(found.values())


def is_url(name: str) -> bool:
    """Return True for URLs, False for local paths."""
    return "://" in name


def _matches(pattern: str) -> list[Source]:
    system, path = _open(pattern)
    if system.exists(path):
        return [Source(_named(system, path), PurePosixPath(path.rstrip("/")).stem)]
    paths = sorted(system.glob(path)) if glob.has_magic(path) else []
    if not paths:
        raise StorageError(
            f"{pattern} matches no file" if glob.has_magic(path) else f"{pattern} does not exist"
        )
    fixed = 0
    parts = PurePosixPath(path).parts
    while not glob.has_magic(parts[fixed]):
        fixed += 1
    sources = []
    for match in paths:
        below = PurePosixPath(*PurePosixPath(match).parts[fixed:])
        sources.append(Source(_named(system, match), str(below.with_suffix(""))))
    return sources


def _named(system: Any, path: str) -> str:
    """Return the local path, or the URL."""
    return str(path) if isinstance(system, LocalFileSystem) else system.unstrip_protocol(path)


def _open(place: str) -> tuple[Any, str]:
    try:
        system, path = fsspec.core.url_to_fs(
            place if is_url(place) else str(Path(place).expanduser())
        )
    except (ImportError, ValueError) as error:
        raise StorageError(f"{place}: {error}") from error
    return system, path


def fingerprint(place: str) -> str:
    """Return a hash of names, sizes and times (or checksums) of a file or all files of a folder."""
    system, path = _open(place)
    digest = hashlib.sha256()
    found = system.find(path, detail=True)
    for name in sorted(found):
        info = found[name]
        changed = next((info[key] for key in _CHANGED_KEYS if info.get(key)), None)
        digest.update(repr((name[len(path) :], info["size"], str(changed))).encode())
    return digest.hexdigest()


@contextlib.contextmanager
def local_copy(place: str) -> Iterator[Path]:
    """Yield the path of a local file or folder, or of a temporary copy of a remote one.

    Raises:
        StorageError: a remote file cannot be copied.
    """
    system, path = _open(place)
    if isinstance(system, LocalFileSystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="sgnet_source_") as scratch:
        copy = Path(scratch, PurePosixPath(path).name)
        try:
            system.get(path, str(copy), recursive=True)
        except OSError as error:
            raise StorageError(f"{place} cannot be copied: {error}") from error
        yield copy


class Destination:
    """A folder for results, local or remote. Names are relative paths with slashes.

    Args:
        place: local path or URL.

    Raises:
        StorageError: the protocol is unknown, or its driver is not installed.
    """

    def __init__(self, place: str) -> None:
        self.place = place or "."
        self._system, self._root = _open(place)

    @property
    def is_local(self) -> bool:
        """True for local paths."""
        return isinstance(self._system, LocalFileSystem)

    def path(self, name: str) -> str:
        """Return the path or URL of a name, for messages."""
        return f"{self.place.rstrip('/')}/{name}" if name else self.place

    def _inside(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """Yield a local folder, which may not exist yet, for files that belong in folder ``name``.

        For a remote destination, the files are uploaded when the block ends without an error.

        Raises:
            OSError: a file cannot be written or uploaded.
        """
        if self.is_local:
            yield Path(self._inside(name))
            return
        with tempfile.TemporaryDirectory(prefix="sgnet_results_") as scratch:
            yield Path(scratch)
            for file in sorted(path for path in Path(scratch).rglob("*") if path.is_file()):
                below = file.relative_to(scratch).as_posix()
                self._system.put_file(str(file), f"{self._inside(name)}/{below}")

    def count_files(self, name: str) -> int:
        """Return the number of entries of a folder; 0 if it does not exist."""
        try:
            return len(self._system.ls(self._inside(name), detail=False))
        except FileNotFoundError:
            return 0

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file; None if it does not exist or is not JSON."""
        try:
            return json.loads(self._system.cat_file(self._inside(name)))
        except (FileNotFoundError, ValueError, RecursionError):
            return None

    def write_json(self, name: str, values: Any) -> None:
        """Write a JSON file; it appears only when it is complete."""
        content = (json.dumps(values, indent=1) + "\n").encode()
        path = self._inside(name)
        if self.is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(content)
        else:
            self._system.pipe_file(path, content)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._inside(name))
