"""A function of tensors on a GPU whose kernels are launched together, as one CUDA graph.

At batch 1 most kernels of a network are shorter than their launch from Python; replaying a recorded
graph costs one launch for all of them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

Tensors = tuple[Tensor | None, ...]

WARM_UP = 3
"""Calls before the recording: kernels are compiled and cuDNN picks its algorithms in them."""


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Tensors
    outputs: Tensors


class CudaGraphs:
    """Calls a function by replaying a recording of it, one for each kind of input.

    A function that cannot be recorded (it waits for the device, or memory is short) runs as it is
    from then on, which is logged once.

    Args:
        function: of tensors on one device (or None) and of hashable keywords, which launches the
            same work whatever the tensors hold; returns tensors (or None).
        limit: recordings kept, those used last; each holds the memory of its inputs and outputs,
            what is between is shared.
    """

    def __init__(self, function: Callable[..., Tensors], limit: int = 4) -> None:
        self._function, self._limit = function, limit
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()
        self._pool: Any = None
        self._works = True

    def __call__(self, *inputs: Tensor | None, **keywords: Hashable) -> Tensors:
        """The function's results, which are overwritten by the next call with like inputs."""
        if not self._works:
            return self._function(*inputs, **keywords)
        key = (*map(_kind, inputs), *sorted(keywords.items()))
        if key not in self._recordings:
            try:
                self._recordings[key] = self._record(inputs, keywords)
            except RuntimeError as error:
                self._works = False
                self._recordings.clear()
                _log.warning("the network runs without CUDA graphs: %s", error)
                return self._function(*inputs, **keywords)
            if len(self._recordings) > self._limit:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        recording = self._recordings[key]
        for kept, new in zip(recording.inputs, inputs, strict=True):
            if kept is not None and new is not None:
                kept.copy_(new)
        recording.graph.replay()
        return recording.outputs

    def _record(self, inputs: Tensors, keywords: dict[str, Hashable]) -> _Recording:
        kept = tuple(None if tensor is None else tensor.clone() for tensor in inputs)
        device = next(tensor.device for tensor in kept if tensor is not None)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        with torch.cuda.device(device):
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
    """All of a tensor that a recording depends on."""
    return None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
