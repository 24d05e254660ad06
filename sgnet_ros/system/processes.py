"""Child processes that never outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_MARKS = ("[WARN]", "[ERROR]", "[FATAL]", "[WARNING]", "Error:")


class Child:
    """A Python module run as a process, in a session of its own.

    Ctrl-C in the terminal reaches this process alone, which stops its children in order; if it dies
    without a chance to, the kernel kills them (Linux). Start children before threads, and from the
    main thread: the kernel looks at the thread that started them.

    Args:
        module: run as ``python -m module``.
        arguments: of its command line.
        folder: gets its log, named after the module's last part: standard error, and standard
            output unless that is a pipe.
        pipes: makes standard input and output pipes, of text.

    Attributes:
        module: as given.
        log: path of the log.
        process: the running process.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], folder: Path, pipes: bool = False
    ) -> None:
        self.module = module
        self.log = folder / f"{module.rpartition('.')[2]}.log"
        self._seen = 0
        parent, prctl = os.getpid(), getattr(ctypes.CDLL(None), "prctl", None)

        def die_with_parent() -> None:
            if prctl is not None:
                prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else file,
                stderr=file,
                text=True,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def running(self) -> bool:
        """True until it ends."""
        return self.process.poll() is None

    def stop(self, patience_s: float = 5.0) -> None:
        """Ask the process to end, wait, and kill it if it does not."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        for ask in (self.process.terminate, self.process.kill):
            if self.running:
                ask()
                try:
                    self.process.wait(patience_s)
                except subprocess.TimeoutExpired:
                    continue

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def new_warnings(self) -> list[str]:
        """Return warnings and errors in the log since the last call, of this or of `new_lines`."""
        return [line for line in self.new_lines() if any(mark in line for mark in _MARKS)]

    def new_lines(self) -> list[str]:
        """Return the lines of the log since the last call."""
        with self.log.open(errors="replace") as file:
            file.seek(self._seen)
            lines = file.readlines()
            if lines and not lines[-1].endswith("\n"):
                lines.pop()  # still being written
            self._seen += sum(len(line.encode(errors="replace")) for line in lines)
        return [line.rstrip() for line in lines]

    def rss_mb(self) -> float | None:
        """Return resident memory in MiB; None once it has ended, or where there is no /proc."""
        return resident_mib(self.process.pid)

    def threads(self) -> int | None:
        """Return the number of its threads; None once it has ended, or where there is no /proc."""
        return self._count("task")

    def descriptors(self) -> int | None:
        """Return the number of its open files and sockets; None as above."""
        return self._count("fd")

    def _count(self, folder: str) -> int | None:
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/{folder}"))
        except OSError:
            return None


def resident_mib(pid: int) -> float | None:
    """Return the resident memory of a process in MiB; None if it or /proc is not there."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return None
