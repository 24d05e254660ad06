"""Sharing of one model by the nodes of several cameras in a process."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType

from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.models.model_file import default_model_path


class Models:
    """Models in use; nodes that ask for the same file, run in the same way, get the same one.

    A model lives as long as a node uses it. A file that has changed is another model.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: weakref.WeakValueDictionary[tuple[object, ...], Segmenter] = (
            weakref.WeakValueDictionary()
        )

    def get(
        self, model: str, device: str, precision: str, backend: str, load: Callable[[], Segmenter]
    ) -> Segmenter:
        """Return the model that is in use already, or the one that ``load`` returns.

        Args:
            model, device, precision, backend: the node's parameters.
            load: loads such a model; what it raises is raised.
        """
        with self._lock:
            key = (*_identity(model or str(default_model_path())), device, precision, backend)
            segmenter = self._loaded.get(key)
            if segmenter is None:
                segmenter = self._loaded[key] = load()
            return segmenter


def _identity(path: str) -> tuple[object, ...]:
    """Return the file and its state; its name alone where there is no such file."""
    try:
        state = os.stat(path)
    except OSError:
        return (path,)
    return os.path.realpath(path), state.st_mtime_ns, state.st_size


class Turns:
    """A lock that threads get in the order in which they asked for it.

    Each camera's worker asks again only after its turn, so the cameras take turns.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[int] = deque()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._queue.append(me)
            self._changed.wait_for(lambda: self._queue[0] == me)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._queue.popleft()
            self._changed.notify_all()
