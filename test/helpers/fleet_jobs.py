"""Jobs for tests of Ray's workers, which import this module by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Squares:
    """Squares numbers, and has a mishap with some."""

    tries: Path

    def start(self) -> Callable[[int], int]:
        return self.square

    def square(self, number: int) -> int:
        with open(self.tries / str(number), "a") as file:
            file.write("x")
        first = (self.tries / str(number)).stat().st_size == 1
        if number == 3:
            raise ValueError("3 is poisoned")
        if number == 5 or (number == 4 and first):
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 6:
            raise ZeroDivisionError("a bug")
        return number**2


class Broken:
    """Cannot be started."""

    def start(self) -> Callable[[int], int]:
        raise ValueError("m.safetensors: truncated")
