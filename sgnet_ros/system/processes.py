"""Child processes that end with the process that started them."""

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
_WARNING_MARKS = ("[WARN]", "[ERROR]", "[FATAL]", "[WARNING]", "Error:")


class Child:
    """A Python module that runs as a process, in a session of its own.

    Ctrl-C in the terminal reaches only the parent, which stops its children in order. If the parent
    dies first, the kernel kills them (Linux). Start children from the main thread, before other
    threads: the kernel kills a child when the thread that started it ends.

    Args:
        module: run as ``python -m module``.
        arguments: command-line arguments.
        folder: folder of the log, which is named after the last part of the module's name and
            contains standard error, and standard output unless it is a pipe.
        pipes: make standard input and output text pipes.

    Attributes:
        module: name of the module.
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
            if os.getppid() != parent:  # the parent died before the call above
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
        """True until the process ends."""
        return self.process.poll() is None

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the process to end, and kill it if it does not within ``timeout_s``."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        for ask in (self.process.terminate, self.process.kill):
            if self.running:
                ask()
                try:
                    self.process.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    continue

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def new_warnings(self) -> list[str]:
        """Return warnings and errors in the log since the last call of this or of `new_lines`."""
        return [line for line in self.new_lines() if any(mark in line for mark in _WARNING_MARKS)]

    def new_lines(self) -> list[str]:
        """Return the lines of the log since the last call."""
        with self.log.open(errors="replace") as file:
            file.seek(self._seen)
            lines = file.readlines()
            if lines and not lines[-1].endswith("\n"):
                lines.pop()  # still being written
            self._seen += sum(len(line.encode(errors="replace")) for line in lines)
        return [line.rstrip() for line in lines]

    def rss_mib(self) -> float | None:
        """Return the resident memory in MiB; None if the process has ended or without /proc."""
        return resident_mib(self.process.pid)

    def threads(self) -> int | None:
        """Return the number of threads; None if the process has ended or without /proc."""
        return self._count("task")

    def descriptors(self) -> int | None:
        """Return the number of open files and sockets; None as in `threads`."""
        return self._count("fd")

    def _count(self, folder: str) -> int | None:
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/{folder}"))
        except OSError:
            return None


def resident_mib(pid: int) -> float | None:
    """Return the resident memory of a process in MiB; None if it has ended or without /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return None
