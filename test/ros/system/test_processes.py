"""Child processes: warnings in their logs, memory, and their end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgnet_ros.system.processes import Child
from waiting import wait_until


@pytest.fixture
def stubborn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """A child that warns, and ignores SIGTERM."""
    (tmp_path / "stubborn_child.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sys.stderr.write('[INFO] up\\n[WARN] careful\\nhalf [WARN] a li'); sys.stderr.flush()\n"
        "time.sleep(3600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = Child("stubborn_child", [], tmp_path)
    yield child
    child.process.kill()
    child.process.wait()


def test_a_child_that_does_not_end_is_killed(stubborn: Child) -> None:
    wait_until(lambda: "half" in stubborn.tail())
    assert stubborn.new_warnings() == ["[WARN] careful"]
    with stubborn.log.open("a") as file:
        file.write("ne\n[ERROR] more\n")
    assert stubborn.new_warnings() == ["half [WARN] a line", "[ERROR] more"]
    assert stubborn.tail(2) == "half [WARN] a line\n[ERROR] more"
    rss = stubborn.rss_mib()
    assert rss is not None and 2 < rss < 500
    stubborn.stop(timeout_s=0.5)
    assert (stubborn.running, stubborn.process.returncode) == (False, -signal.SIGKILL)
    assert stubborn.rss_mib() is None
