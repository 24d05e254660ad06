"""Commands whose children, also those of other sessions, are known by a mark in the environment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from waiting import wait_until

Started: TypeAlias = AbstractContextManager[subprocess.Popen[str]]


def marked_processes(mark: Path) -> dict[int, str]:
    """Command lines of the processes in whose environment ``mark`` is, by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and os.fsencode(mark) in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def wait_for_process(command: subprocess.Popen[str], mark: Path, name: str) -> int:
    """Wait for a marked process with ``name`` in its command line; return its id."""

    def found() -> list[int]:
        assert command.poll() is None, command.communicate()
        return [pid for pid, words in marked_processes(mark).items() if name in words]

    return wait_until(found)[0]


@contextlib.contextmanager
def started_module(module: str, *arguments: object, mark: Path) -> Iterator[subprocess.Popen[str]]:
    """``python -m module`` in a process that is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, "TEST_MARK": str(mark)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
