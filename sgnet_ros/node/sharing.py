"""Sharing of one model by the nodes of several cameras in a process."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import default_model_path


class Models:
    """Loaded models; nodes that need the same file with the same settings share one model.

    A model lives as long as a node uses it. A changed file is a different model. Nodes that need a
    model wait while it is loaded; nodes that need another model do not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of both dictionaries
        self._loaded: weakref.WeakValueDictionary[tuple[object, ...], Segmenter] = (
            weakref.WeakValueDictionary()
        )
        self._loading: weakref.WeakValueDictionary[tuple[object, ...], threading.Lock] = (
            weakref.WeakValueDictionary()
        )

    def get(
        self, model: str, device: str, precision: str, backend: str, load: Callable[[], Segmenter]
    ) -> Segmenter:
        """Return the model if it is loaded already, else the one that ``load`` returns.

        Args:
            model, device, precision, backend: the node's parameters.
            load: loads the model; its exceptions are passed on.
        """
        key = (*_identity(model or str(default_model_path())), device, precision, backend)
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            with self._lock:
                segmenter = self._loaded.get(key)
            if segmenter is None:
                segmenter = load()
                with self._lock:
                    self._loaded[key] = segmenter
            return segmenter

    def forget(self, segmenter: Segmenter) -> None:
        """Forget a model whose inference hangs, so that the next node loads it again."""
        with self._lock:
            for key in [key for key, loaded in self._loaded.items() if loaded is segmenter]:
                del self._loaded[key]


def _identity(path: str) -> tuple[object, ...]:
    """Return the file and its state; only its name if there is no such file."""
    try:
        state = os.stat(path)
    except OSError:
        return (path,)
    return os.path.realpath(path), state.st_mtime_ns, state.st_size


class Turns:
    """Turns of threads that share a resource: first come, first served.

    Each camera's worker queues again only after its turn, so the cameras take turns. A turn ends
    after the limit even if its thread still runs, so that the others continue.

    Args:
        limit_s: longest turn while others wait.
    """

    def __init__(self, limit_s: float = 10.0) -> None:
        self._limit_s = limit_s
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._began_s = 0.0  # of the turn of the first in the queue

    def wait(self, who: object, canceled: Callable[[], bool] = lambda: False) -> bool:
        """Join the queue and wait for the turn, which ends with `leave`.

        Args:
            who: identifies the thread.
            canceled: returns whether to stop waiting; asked when the queue changes or at `wake`.

        Returns:
            False if ``canceled`` returned True: the thread has left the queue without a turn.
        """
        with self._changed:
            self._queue.append(who)
            if self._queue[0] is who:
                self._began_s = time.monotonic()
            while not (self._queue[0] is who or canceled()):
                left_s = self._began_s + self._limit_s - time.monotonic()
                if left_s <= 0:
                    self._remove(self._queue[0])
                else:
                    self._changed.wait(left_s)
        if canceled():
            self.leave(who)
            return False
        return True

    def leave(self, who: object) -> None:
        """End the turn of ``who``, or remove it from the queue if it still waits."""
        with self._changed:
            if who in self._queue:
                self._remove(who)
            self._changed.notify_all()

    def _remove(self, who: object) -> None:
        """Remove a thread; if it was its turn, the next thread's turn begins."""
        if self._queue[0] is who:
            self._began_s = time.monotonic()
        self._queue.remove(who)
        self._changed.notify_all()

    def wake(self) -> None:
        """Make every waiting thread check again whether it was canceled."""
        with self._changed:
            self._changed.notify_all()
