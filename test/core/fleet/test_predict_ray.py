"""`sgnet_core.predict --ray`, with a real Ray of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'sgnet_ros[fleet]'")

from sgnet_core.predict import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def command(model_file: Path, out: Path, *arguments: object) -> list[str]:
    fixed = ["--model", str(model_file), "--device", "cpu", "--out", str(out)]
    return [*map(str, arguments), *fixed]


def images(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def processes(mark: str) -> dict[int, str]:
    """Command lines of the processes in whose environment ``mark`` is, by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def wait_for(condition: Callable[[], object]) -> None:
    while not condition():  # pytest-timeout ends it
        time.sleep(0.1)


@contextlib.contextmanager
def started(model_file: Path, out: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process whose children are known by ``out`` in their environment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sgnet_core.predict", *command(model_file, out, *arguments)],
        env={**os.environ, "FLEET_TEST": str(out)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_results_are_those_of_the_plain_command_and_a_bad_recording_is_passed_by(
    recordings: Path, model_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = recordings.parent / "out"
    (recordings / "torn.mcap").write_bytes(b"no bag")
    given = (f"{recordings}/*", "--ray")
    assert main(command(model_file, out, *given)) == 1
    printed = capfd.readouterr()
    assert "3 recordings (0 done before), 6 frames; 1 recordings failed" in printed.out
    failures = [line for line in printed.err.splitlines() if "failed:" in line]
    assert len(failures) == 1 and str(recordings / "torn.mcap") in failures[0]
    for name in ("walk0", "walk1", "walk2"):
        alone = recordings.parent / "alone" / name
        assert main(command(model_file, alone, recordings / name)) == 0
        assert images(out / name) == images(alone)
        assert len(images(alone)) == 4
    kept = out / "walk1" / "labels" / "0.png"
    kept.write_bytes(b"kept")
    (out / "walk2" / "manifest.json").unlink()
    (out / "walk2" / "labels" / "0.png").unlink()
    assert main(command(model_file, out, *given, "--max-failed", "0.25")) == 0
    assert "3 recordings (2 done before)" in capfd.readouterr().out
    assert kept.read_bytes() == b"kept"
    assert images(out / "walk2") == images(recordings.parent / "alone" / "walk2")


def test_a_killed_worker_changes_nothing(recordings: Path, model_file: Path) -> None:
    out = recordings.parent / "out"
    with started(model_file, out, f"{recordings}/*", "--ray") as process:

        def worker() -> int | None:
            at_work = (pid for pid, name in processes(str(out)).items() if "_Worker" in name)
            return next(at_work, None)

        wait_for(worker)
        victim = worker()
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        printed, error = process.communicate()
        assert process.returncode == 0, error
        assert "3 recordings (0 done before), 6 frames; 0 recordings failed" in printed
    wait_for(lambda: not processes(str(out)))


def test_a_killed_command_leaves_no_process_and_is_resumed(
    recordings: Path, model_file: Path
) -> None:
    out = recordings.parent / "out"
    with started(model_file, out, f"{recordings}/*", "--ray", "--ray-cores", "2") as process:
        wait_for(lambda: list(out.glob("*/manifest.json")))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not processes(str(out)))
    done = len(list(out.glob("*/manifest.json")))
    with started(model_file, out, f"{recordings}/*", "--ray") as process:
        printed, error = process.communicate()
        assert process.returncode == 0, error
        assert f"3 recordings ({done} done before), 6 frames" in printed
    wait_for(lambda: not processes(str(out)))
