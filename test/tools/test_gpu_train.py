"""A training run is stopped in time, split into small files, and resumed on another machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import gpu_train
from gpu_train import join, main, split
from waiting import wait_until


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "predictions").mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(bytes(range(256)) * 5)
    (folder / "checkpoint_previous.pt").write_bytes(b"x")
    (folder / "log.csv").write_bytes(b"")
    (folder / "predictions" / "000001.png").write_bytes(b"x")
    return folder


def test_parts_are_small_and_join_to_the_same_files(run: Path, tmp_path: Path) -> None:
    parts, copy = tmp_path / "parts", tmp_path / "copy"
    assert split(run, parts, limit=500) == 4
    assert max(part.stat().st_size for part in parts.glob("checkpoint*")) == 500
    assert [path.name for path in join(parts, copy)] == ["checkpoint.pt", "log.csv"]
    for name in ("checkpoint.pt", "log.csv"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()
    (run / "checkpoint.pt").write_bytes(b"short")
    assert split(run, parts, limit=500) == 2  # nothing of the longer file is left
    assert sorted(p.name for p in parts.iterdir()) == [
        "checkpoint.pt.000",
        "log.csv.000",
        "parts.json",
    ]


def test_parts_that_were_lost_or_damaged_are_named(run: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    split(run, parts, limit=500)
    (parts / "checkpoint.pt.001").write_bytes(b"?" * 500)
    with pytest.raises(ValueError, match=r"parts of checkpoint.pt .* damaged"):
        join(parts, tmp_path / "copy")
    (parts / "checkpoint.pt.001").unlink()
    with pytest.raises(ValueError, match=r"lacks checkpoint.pt.001"):
        join(parts, tmp_path / "copy")


STAND_IN = """
import signal, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--output") + 1])
folder.mkdir(parents=True, exist_ok=True)
file = folder / "checkpoint.pt"
before = file.read_text() if file.exists() else ""

def stop(number, frame):
    file.write_text(before + " ".join(sys.argv[1:]) + ";")
    raise SystemExit(128 + number)

signal.signal(signal.SIGTERM, stop)
(folder.parent / "ready").touch()
time.sleep(600)
"""


def test_training_is_stopped_and_the_same_command_resumes_it_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training command is a stand-in that writes its arguments when it is stopped."""
    root = tmp_path / "root"
    (root / "sgnet_core").mkdir(parents=True)
    (root / "sgnet_core" / "train.py").write_text(STAND_IN)
    monkeypatch.setattr(gpu_train, "ROOT", root)
    monkeypatch.setenv("PYTHONPATH", str(root))
    wait = subprocess.Popen.wait

    def wait_until_ready(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        """Let the time be over when the command is ready, however slow the machine is."""
        wait_until(lambda: process.poll() is not None or list(tmp_path.glob("*/ready")))
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_until_ready)
    options = ["--minutes", "0.001", "--device", "cpu", "batch=2"]
    assert main(["--out", str(tmp_path / "a"), *options]) == 0
    (tmp_path / "a" / "ready").unlink()
    shutil.copytree(tmp_path / "a" / "parts", tmp_path / "b" / "parts")
    assert main(["--out", str(tmp_path / "b"), *options]) == 0
    (tmp_path / "b" / "run").rename(tmp_path / "b" / "lost")
    assert main(["--out", str(tmp_path / "b"), "--join"]) == 0
    found = (tmp_path / "b" / "run" / "checkpoint.pt").read_text()
    calls = [call.split() for call in found.split(";")[:-1]]
    assert len(calls) == 2
    assert all(call[2:] == ["--device", "cpu", "precision=bf16", "batch=2"] for call in calls)
