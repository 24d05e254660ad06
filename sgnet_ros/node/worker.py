"""A thread with a slot for one item, in which a newer item replaces an older one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from sgnet_ros.node.sharing import Turns

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Call a function for the newest item offered, in a separate thread.

    Items offered while the function runs replace each other, so the next item is always the latest.
    Exceptions of the function are reported, and the thread continues.

    Args:
        consume: called with one item at a time.
        on_error: called, in the same thread, with the exception that ``consume`` raised.
        name: name of the thread.
        wait_s: returns the seconds to wait for a newer item; called once, before an item is
            consumed.
        turns: for workers that share a resource.
    """

    def __init__(
        self,
        consume: Callable[[Item], None],
        on_error: Callable[[Exception], None],
        name: str = "worker",
        wait_s: Callable[[Item], float] = lambda item: 0.0,
        turns: Turns | None = None,
    ) -> None:
        self._consume = consume
        self._on_error = on_error
        self._wait_s = wait_s
        self._turns = turns
        self._slot: list[Item] = []  # empty or one item
        self._stopping = False
        self._consuming = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> bool:
        """Put an item into the slot without waiting.

        Returns:
            True if an older item was waiting there and is now lost.

        Raises:
            RuntimeError: the worker was stopped.
        """
        with self._changed:
            if self._stopping:
                raise RuntimeError(f"worker '{self._thread.name}' was stopped")
            replaced = bool(self._slot)
            self._slot[:] = [item]
            self._changed.notify()
        return replaced

    @property
    def consuming(self) -> bool:
        """True while an item is consumed."""
        return self._consuming

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the thread when the running call returns; may be called again.

        Args:
            timeout_s: longest wait for that call; None waits as long as it takes. If the call takes
                longer, `consuming` stays True, and the thread ends with the call.

        Returns:
            True if an item was waiting and is now lost.
        """
        with self._changed:
            self._stopping = True
            waiting = bool(self._slot)
            self._slot.clear()
            self._changed.notify()
        if self._turns is not None:
            self._turns.wake()
        self._thread.join(timeout_s)
        if self._turns is not None:
            self._turns.leave(self)  # a call that does not return must not hold up the others
        return waiting

    def _run(self) -> None:
        while self._wait():
            if self._turns is None:
                self._work()
            elif self._turns.wait(self, lambda: self._stopping):
                try:
                    self._work()
                finally:
                    self._turns.leave(self)

    def _work(self) -> None:
        for item in self._take():
            try:
                self._consume(item)
            except Exception as error:
                self._on_error(error)
            finally:
                self._consuming = False

    def _wait(self) -> bool:
        """Wait for an item to take; return False when the worker is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._slot)
            if self._slot:
                waiting = self._slot[0]
                self._changed.wait_for(
                    lambda: self._stopping or self._slot[0] is not waiting,
                    self._wait_s(waiting),
                )
            return not self._stopping

    def _take(self) -> list[Item]:
        """Return the newest item in a list; an empty one when the worker is to end."""
        with self._changed:
            taken, self._slot = self._slot, []
            self._consuming = bool(taken)
            return taken
