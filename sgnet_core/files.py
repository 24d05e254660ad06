"""Write files atomically, and read files with a limit on their size."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new binary file that replaces ``path`` when the block ends without an error.

    The file is written next to its target, flushed to the disk, and renamed. If the disk is full,
    or after a crash or an exception, ``path`` is unchanged. A device or a pipe, such as
    /dev/stdout, is not replaced but written to.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    if _is_device(path):
        with open(path, "wb") as file:
            yield file
        return
    target = Path(path).resolve()  # a symbolic link stays, and its target is replaced
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.filename in (None, str(temporary)) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def cache_folder(name: str) -> Path:
    """Return the folder ``$XDG_CACHE_HOME/sgnet/NAME``, which may not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "sgnet", name)


def check_writable(path: Path) -> None:
    """Make the folder of a file if necessary, and check that `atomic_write` can write the file.

    Raises:
        OSError: it cannot; the error names ``path`` or its folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_device(path):
        return
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is_device(path: str | os.PathLike[str]) -> bool:
    """Return True for existing paths other than regular files and folders."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def check_regular(path: str | os.PathLike[str]) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        OSError: the file does not exist, or is a folder, a device or a pipe.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return status.st_size


def not_hidden(paths: Iterable[Path]) -> list[Path]:
    """Return the paths sorted, without hidden files such as ``._NAME`` of macOS."""
    return sorted(path for path in paths if not path.name.startswith("."))


def mistaken_for(start: bytes) -> str:
    """Describe a file that is obviously not an image or a data set, with the remedy.

    Args:
        start: at least the first hundred bytes of the file.

    Returns:
        For example "a web page: …"; empty if the kind is not recognized.
    """
    if not start:
        return "empty: download or copy it again"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page: open the link in a browser and download the file itself"
    if start.startswith((b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"Rar!", b"7z\xbc\xaf")):
        return "a compressed archive: unpack it first"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: run git lfs pull"
    if start.startswith(b"\x00\x05\x16\x07"):
        return "macOS metadata of another file: remove files whose names begin with ._"
    return ""


def read_limited(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: it is larger.
    """
    if (size := check_regular(path)) > limit:
        raise ValueError(f"it has {size} bytes; at most {limit} are read")
    with open(path, "rb") as file:
        return file.read(limit)
