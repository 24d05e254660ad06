"""Checkpoints: whole or as before, verified, with the one before in reserve."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
import torch

from sgnet_core.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    previous,
    save_checkpoint,
)


def content(number: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(number)
    return {"number": number, "weights": torch.rand(1000, generator=generator)}


def saved(folder: Path, *numbers: int) -> Path:
    path = folder / "checkpoint.pt"
    for number in numbers:
        save_checkpoint(path, content(number))
    return path


def test_the_newest_checkpoint_is_read_back(tmp_path: Path) -> None:
    path = saved(tmp_path, 1, 2, 3)
    loaded = load_checkpoint(path)
    assert loaded is not None and loaded["number"] == 3
    assert torch.equal(loaded["weights"], content(3)["weights"])  # type: ignore[arg-type]
    assert torch.load(previous(path), weights_only=True)["number"] == 2
    names = ["checkpoint.pt", "checkpoint.sha256", "checkpoint_previous.pt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_the_checksums_are_those_of_the_files(tmp_path: Path) -> None:
    path = saved(tmp_path, *range(20))
    checksums = (tmp_path / "checkpoint.sha256").read_text().split()
    files = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, previous(path))]
    assert checksums[:2] == files and len(checksums) == 16


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, 1)
    (tmp_path / "checkpoint.sha256").unlink()
    assert load_checkpoint(path)["number"] == 1  # type: ignore[index]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoint.pt") is None


def flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2  # in the tensor
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, lambda data: data[:-100], lambda data: b"", lambda data: b"\0" * len(data)],
    ids=["one bit", "truncated", "empty", "zeros"],
)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = saved(tmp_path, 1, 2)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"checkpoint\.pt is damaged .* checkpoint_previous"):
        loaded = load_checkpoint(path)
    assert loaded is not None and loaded["number"] == 1
    assert path.with_suffix(".damaged").exists() and not path.exists()
    save_checkpoint(path, content(5))
    assert load_checkpoint(previous(path))["number"] == 1, "still there"  # type: ignore[index]
    assert load_checkpoint(path)["number"] == 5  # type: ignore[index]


def test_when_all_are_damaged_nothing_is_touched_and_the_error_helps(tmp_path: Path) -> None:
    path = saved(tmp_path, 1, 2)
    path.write_bytes(b"x")
    previous(path).write_bytes(b"y")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="new --output folder"):
            load_checkpoint(path)
    assert path.read_bytes() == b"x" and previous(path).read_bytes() == b"y"


def test_a_crash_between_the_two_renames_leaves_the_previous_one(tmp_path: Path) -> None:
    path = saved(tmp_path, 1, 2)
    os.replace(path, previous(path))  # as save_checkpoint does before its last step
    assert load_checkpoint(path)["number"] == 2  # type: ignore[index]


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"number": Path("x")}, path)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, 1, 2)
    before = state_of(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"No space .*checkpoint\.pt"):
        patch.setattr(os, "fsync", full)
        save_checkpoint(path, content(3))
    assert state_of(tmp_path) == before


def test_a_write_that_breaks_off_loses_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="file size limits are POSIX's")
    path = saved(tmp_path, 1, 2)
    before = state_of(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match=r"checkpoint\.pt"):
            save_checkpoint(path, content(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert state_of(tmp_path) == before
