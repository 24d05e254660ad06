"""An interrupt comes at once, or after a deferred block."""

from __future__ import annotations

import os
import signal

import pytest

from sgnet_ros.system.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_a_deferred_block(number: signal.Signals) -> None:
    done = []
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.deferred():
            os.kill(os.getpid(), number)
            done.append("block")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            signal.pause()
        with interrupts.deferred():  # the first one is not raised again
            done.append("next")
    assert done == ["block", "next"]
    assert signal.getsignal(number) == before
