"""Measure the stages of a frame in milliseconds, on the CPU or a GPU."""

from __future__ import annotations

import time

import torch


class StageClock:
    """Clock for the stages of a frame; marks do not wait for a GPU.

    Args:
        device: device that does the work. A stage ends when the device has finished all work that
            was submitted before its mark.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = [("", self._now())]

    def mark(self, stage: str) -> None:
        """Record the end of ``stage``."""
        self._marks.append((stage, self._now()))

    def stages_ms(self) -> dict[str, float]:
        """Wait for the device and return the milliseconds of every stage."""
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return {stage: _between(start, end) for (_, start), (stage, end) in pairs}

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def _between(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float) and isinstance(end, float)
        return (end - start) * 1000
    return float(start.elapsed_time(end))
