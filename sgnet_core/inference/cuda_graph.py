"""Run a function of GPU tensors as a CUDA graph.

At batch 1, most kernels of a network take less time than their launch from Python. A recorded graph
launches all of them at once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgnet_core.models.sconv import Guidance
from sgnet_core.models.sgnet import Output, SGNet
from sgnet_core.ops.cudnn import fastest_algorithms

_log = logging.getLogger(__name__)

Tensors = tuple[Tensor | None, ...]

WARM_UP = 3
"""Number of calls before a recording, in which Triton compiles and cuDNN chooses algorithms."""

UNUSED_CALLS = 100
"""Number of calls without a replay after which a new recording may replace an old one."""

_recording = threading.Lock()
"""Held during a recording, because a process can only make one at a time."""


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Tensors
    outputs: Tensors


class CudaGraphs:
    """Call a function by replaying a recording of it, one for each kind of input.

    A kind of input (shapes, strides, types, keywords) is recorded when it occurs for the second
    time, so that a single frame of a size costs no recording. When ``limit`` recordings exist,
    other kinds run without one, until a recording has been unused for `UNUSED_CALLS` calls. While
    another thread records, this one does not. If a recording fails (the function waits for the
    device, or memory is short), this is logged, no more are made, and existing ones stay in use.

    Args:
        function: function of tensors on one device (or None) and of hashable keywords. It launches
            the same work for all tensors of one kind and returns tensors (or None).
        limit: maximum number of recordings. Each stores its inputs and outputs; intermediate
            results share one memory pool, of the size of the largest.
    """

    def __init__(self, function: Callable[..., Tensors], limit: int = 4) -> None:
        self._function, self._limit = function, limit
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()
        self._last_call: OrderedDict[Hashable, int] = OrderedDict()
        self._calls = 0
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None
        self._works = True

    def __call__(self, *inputs: Tensor | None, **keywords: Hashable) -> Tensors:
        """Return the results of the function. A later call may overwrite the tensors."""
        key = (*map(_kind, inputs), *sorted(keywords.items()))
        recorded = self._recordings.get(key)
        if recorded is None and self._is_due(key):
            recorded = self._try_to_record(key, inputs, keywords)
        if recorded is None:
            results = self._function(*inputs, **keywords)
            self._note_call(key)  # after the call, so that inputs that fail are never recorded
            return results
        self._note_call(key)
        self._recordings.move_to_end(key)
        for kept, new in zip(recorded.inputs, inputs, strict=True):
            if kept is not None and new is not None:
                kept.copy_(new)
        recorded.graph.replay()
        return recorded.outputs

    def _is_due(self, key: Hashable) -> bool:
        """Return True if this kind of input should be recorded now."""
        if not self._works or key not in self._last_call:
            return False
        if len(self._recordings) < self._limit:
            return True
        oldest = next(iter(self._recordings))
        return self._calls - self._last_call[oldest] > UNUSED_CALLS

    def _note_call(self, key: Hashable) -> None:
        """Store the time of the last call of each kind; forget old kinds without a recording."""
        self._calls += 1
        self._last_call[key] = self._calls
        self._last_call.move_to_end(key)
        others = [known for known in self._last_call if known not in self._recordings]
        for known in others[: -4 * self._limit]:
            del self._last_call[known]

    def _try_to_record(
        self, key: Hashable, inputs: Tensors, keywords: dict[str, Hashable]
    ) -> _Recording | None:
        if not _recording.acquire(blocking=False):
            return None
        try:
            recording = self._record(inputs, keywords)
        except Exception as error:  # errors of Triton and CUDA have no common base class
            self._works = False
            text = "no more CUDA graphs are recorded; kernels are launched singly: %s"
            _log.warning(text, _reasons(error))
            return None
        finally:
            _recording.release()
        if len(self._recordings) >= self._limit:
            self._recordings.popitem(last=False)
        self._recordings[key] = recording
        return recording

    def _record(self, inputs: Tensors, keywords: dict[str, Hashable]) -> _Recording:
        kept = tuple(None if tensor is None else tensor.clone() for tensor in inputs)
        device = next(tensor.device for tensor in kept if tensor is not None)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        with torch.cuda.device(device), _current_stream_restored(), fastest_algorithms():
            # The default stream cannot be recorded. All recordings use the same one, because memory
            # of the pool is reused only on the stream that it was allocated on.
            stream = self._stream = self._stream or torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._function(*kept, **keywords)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # "thread_local" allows other threads to use the device during the capture.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
            ):
                outputs = self._function(*kept, **keywords)
        return _Recording(graph, kept, outputs)


def _kind(tensor: Tensor | None) -> Hashable:
    """Return the properties of a tensor that a recording depends on."""
    return None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)


@contextlib.contextmanager
def _current_stream_restored() -> Iterator[None]:
    """Restore the current stream at the end; a failed capture would leave its own."""
    stream = torch.cuda.current_stream()
    try:
        yield
    finally:
        torch.cuda.set_stream(stream)


def _reasons(error: BaseException) -> str:
    """Return an error and those before it: the end of a failed capture raises another one."""
    texts = []
    context: BaseException | None = error
    while context is not None:
        texts.append(str(context).partition("\n")[0])
        context = context.__context__
    return "; then: ".join(reversed(texts))


def replayed(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the function as a replay of its recording, for tensors of one kind.

    Its results lie in memory that the next call overwrites.
    """

    def results(tensor: Tensor | None) -> Tensors:
        assert tensor is not None
        return (function(tensor),)

    graphs = CudaGraphs(results, limit=1)

    def call(tensor: Tensor) -> Tensor:
        (result,) = graphs(tensor)
        assert result is not None
        return result

    return call


def forward_on_two_streams(network: SGNet, image: Tensor, spatial: Tensor | None) -> Output:
    """Call the network; in a recording, the spatial branch runs in parallel to stem and trunk.

    Each S-Conv waits only for its own guidance.
    """
    if not torch.cuda.is_current_stream_capturing():
        output: Output = network(image, spatial)
        return output
    main = torch.cuda.current_stream()
    side = _side_stream(main)
    side.wait_stream(main)
    guidance = []  # keeps all tensors alive until the streams are joined
    with torch.cuda.stream(side):
        for item in network.spatial_branch(spatial, (image.shape[2], image.shape[3])):
            guidance.append((item, side.record_event()))

    def awaited() -> Iterator[Guidance]:
        for item, ready in guidance:
            main.wait_event(ready)
            yield item

    output = network.rgb_branch(network.trunk.stem(image), awaited())
    main.wait_stream(side)
    return output


@functools.cache
def _side_stream(main: torch.cuda.Stream) -> torch.cuda.Stream:
    """Return the stream beside a recorded one, always the same, so that it reuses its memory."""
    return torch.cuda.Stream(main.device)
