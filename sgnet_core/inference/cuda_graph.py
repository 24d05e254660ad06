"""Run a function of GPU tensors as CUDA graphs: all its kernels are launched together.

At batch 1 most kernels of a network are shorter than their launch from Python; replaying a recorded
graph costs one launch for all of them.
"""

from __future__ import annotations

import contextlib
import logging
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
"""Calls before the recording, in which kernels are compiled and cuDNN picks its algorithms."""

UNUSED_CALLS = 100
"""A recording that was not replayed in that many calls gives way to a new one."""


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Tensors
    outputs: Tensors


class CudaGraphs:
    """Call a function by replaying a recording of it, one for each kind of input.

    A kind of input (shapes, strides, types, keywords) is recorded when it comes the second time: a
    size that comes once costs no recording. When the recordings are full, further kinds run as they
    are, until a recording has been unused for `UNUSED_CALLS` calls; so sizes in rotation never push
    each other out. After a recording fails (the function waits for the device, or memory is
    short), no more are made, which is logged once; those made before stay.

    Args:
        function: function of tensors on one device (or None) and of hashable keywords that launches
            the same work for all tensors of one kind; returns tensors (or None).
        limit: number of recordings kept. Each holds its inputs and outputs; intermediate results
            share one pool of memory, of the size of the largest.
    """

    def __init__(self, function: Callable[..., Tensors], limit: int = 4) -> None:
        self._function, self._limit = function, limit
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()
        self._last_call: OrderedDict[Hashable, int] = OrderedDict()
        self._calls = 0
        self._pool: Any = None
        self._works = True

    def __call__(self, *inputs: Tensor | None, **keywords: Hashable) -> Tensors:
        """Return the function's results.

        The tensors of a replay lie in memory that any later call overwrites: copy what must last.
        """
        key = (*map(_kind, inputs), *sorted(keywords.items()))
        recorded = self._recordings.get(key)
        if recorded is None and self._is_due(key):
            recorded = self._try_to_record(key, inputs, keywords)
        if recorded is None:
            results = self._function(*inputs, **keywords)
            self._note_call(key)  # not where it fails: that kind of input is never recorded
            return results
        self._note_call(key)
        self._recordings.move_to_end(key)
        for kept, new in zip(recorded.inputs, inputs, strict=True):
            if kept is not None and new is not None:
                kept.copy_(new)
        recorded.graph.replay()
        return recorded.outputs

    def _is_due(self, key: Hashable) -> bool:
        """Return True if a new recording is to be made of this kind of input."""
        if not self._works or key not in self._last_call:
            return False
        if len(self._recordings) < self._limit:
            return True
        oldest = next(iter(self._recordings))
        return self._calls - self._last_call[oldest] > UNUSED_CALLS

    def _note_call(self, key: Hashable) -> None:
        """Remember when each kind was called last; of kinds without a recording, the latest."""
        self._calls += 1
        self._last_call[key] = self._calls
        self._last_call.move_to_end(key)
        others = [known for known in self._last_call if known not in self._recordings]
        for known in others[: -4 * self._limit]:
            del self._last_call[known]

    def _try_to_record(
        self, key: Hashable, inputs: Tensors, keywords: dict[str, Hashable]
    ) -> _Recording | None:
        try:
            recording = self._record(inputs, keywords)
        except Exception as error:  # Triton's and CUDA's errors have no common base
            self._works = False
            _log.warning("no more CUDA graphs are recorded; kernels are launched singly: %s", error)
            return None
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
            # The default stream cannot be recorded.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._function(*kept, **keywords)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile: cameras of one process, a reload.
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
    """Make the current stream current again: a failed capture leaves its own behind."""
    stream = torch.cuda.current_stream()
    try:
        yield
    finally:
        torch.cuda.set_stream(stream)


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
    """Call the network so that, in a recording, the spatial branch runs beside stem and trunk.

    Each S-Conv waits for its own guidance alone. Outside a recording this is an ordinary call.
    """
    if not torch.cuda.is_current_stream_capturing():
        output: Output = network(image, spatial)
        return output
    main, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(main)
    guidance = []  # keeps every tensor until the streams are joined: no memory changes its stream
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
