"""Files that are written whole or not at all, and errors that name them."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from sgnet_core.files import atomic_write, check_writable


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_write(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"x"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe)
    with atomic_write(pipe) as file:
        file.write(b"x")
    assert os.read(reader, 10) == b"x" and pipe.is_fifo()
    os.close(reader)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_folder_without_permission_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{dir}/tmp1234")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # the tests may run as root
    with pytest.raises(PermissionError) as error:
        check_writable(tmp_path / "a")
    assert error.value.filename == str(tmp_path / "a")


def test_errors_name_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IsADirectoryError) as error, atomic_write(tmp_path):
        pass
    assert str(error.value) == f"[Errno 21] Is a directory: '{tmp_path}'"
    missing = tmp_path / "none" / "a"
    with pytest.raises(FileNotFoundError) as error, atomic_write(missing):
        pass
    assert str(error.value) == f"[Errno 2] No such file or directory: '{missing}'"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "a"
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"), atomic_write(path):
        pass
    assert list(tmp_path.iterdir()) == []
