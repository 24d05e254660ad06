"""`sgnet_core.predict --ray`, with a real Ray of this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'sgnet_ros[fleet]'")

from marked_processes import Started, marked_processes, started_module, wait_for_process
from sgnet_core.predict import main
from waiting import wait_until

pytestmark = pytest.mark.slow


def command(model_file: Path, out: Path, *arguments: object) -> list[str]:
    fixed = ["--model", str(model_file), "--device", "cpu", "--out", str(out)]
    return [*map(str, arguments), *fixed]


def images(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def started(model_file: Path, out: Path, *arguments: object) -> Started:
    return started_module("sgnet_core.predict", *command(model_file, out, *arguments), mark=out)


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
        os.kill(wait_for_process(process, out, "_Worker"), signal.SIGKILL)
        printed, error = process.communicate()
        assert process.returncode == 0, error
        assert "3 recordings (0 done before), 6 frames; 0 recordings failed" in printed
    wait_until(lambda: not marked_processes(out))


def test_a_killed_command_leaves_no_process_and_is_resumed(
    recordings: Path, model_file: Path
) -> None:
    out = recordings.parent / "out"
    with started(model_file, out, f"{recordings}/*", "--ray", "--ray-cores", "2") as process:
        wait_until(lambda: list(out.glob("*/manifest.json")))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not marked_processes(out))
    done = len(list(out.glob("*/manifest.json")))
    with started(model_file, out, f"{recordings}/*", "--ray") as process:
        printed, error = process.communicate()
        assert process.returncode == 0, error
        assert f"3 recordings ({done} done before), 6 frames" in printed
    wait_until(lambda: not marked_processes(out))
