"""The capture of CUDA graphs, on streams that stand in for those of a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sgnet_core import create_model
from sgnet_core.inference.cuda_graph import CudaGraphs, forward_on_two_streams


class Stream:
    """A stream of a GPU; work on it runs at once, on the CPU."""

    made = 0
    device = torch.device("cpu")

    def __init__(self, device: torch.device = device) -> None:
        Stream.made += 1

    def wait_stream(self, other: Stream) -> None: ...

    def wait_event(self, event: object) -> None: ...

    def record_event(self) -> object:
        return object()


class Graph:
    def replay(self) -> None: ...


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, object]]:
    """Let a graph be captured without a GPU; return the pool and the stream of every capture."""
    found: list[tuple[object, object]] = []
    current = [Stream()]

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        before, current[0] = current[0], stream
        yield
        current[0] = before

    def graph(
        graph: object, pool: object, stream: Stream, capture_error_mode: str
    ) -> contextlib.AbstractContextManager[None]:
        assert capture_error_mode == "thread_local"
        found.append((pool, stream))
        return on(stream)

    for name, stand_in in {
        "Stream": Stream,
        "stream": on,
        "current_stream": lambda: current[0],
        "set_stream": lambda stream: current.__setitem__(0, stream),
        "device": lambda device: contextlib.nullcontext(),
        "CUDAGraph": Graph,
        "graph": graph,
        "graph_pool_handle": object,
        "is_current_stream_capturing": lambda: bool(found) and current[0] is found[-1][1],
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(Stream, "made", 0)
    return found


@pytest.mark.usefixtures("small_network")
def test_recordings_of_all_sizes_reuse_the_memory_of_one_pool(
    captures: list[tuple[object, object]],
) -> None:
    """PyTorch reuses memory only on the stream that it was allocated on."""
    network = create_model("sgnet_lite", 6).eval()

    def run(image: Tensor | None, depth: Tensor | None) -> tuple[Tensor]:
        assert image is not None
        return (forward_on_two_streams(network, image, depth).logits,)

    graphs = CudaGraphs(run)
    with torch.inference_mode():
        for height in (32, 64, 96):
            for _ in range(2):
                graphs(torch.zeros(1, 3, height, 32), torch.ones(1, 1, height, 32))
    assert len(captures) == 3
    assert len(set(captures)) == 1
    assert Stream.made == 2  # one for the trunk, one for the geometry


@pytest.mark.usefixtures("captures")
def test_the_reason_of_a_failed_capture_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of a failed capture raises an error of its own, which names no reason."""
    capturing = False

    @contextlib.contextmanager
    def capture(*_: object, **__: object) -> Iterator[None]:
        nonlocal capturing
        capturing = True
        try:
            yield
        finally:
            capturing = False
            raise RuntimeError("CUDA error: previous error during capture\nSearch for it")

    def waits(x: Tensor | None) -> tuple[Tensor | None]:
        if capturing:
            raise RuntimeError("CUDA error: not permitted when stream is capturing\nCompile with")
        return (x,)

    monkeypatch.setattr(torch.cuda, "graph", capture)
    graphs, x = CudaGraphs(waits), torch.ones(2)
    assert all(graphs(x) == (x,) for _ in range(3))
    assert [r.message for r in caplog.records] == [
        "no more CUDA graphs are recorded; kernels are launched singly: CUDA error: not permitted "
        "when stream is capturing; then: CUDA error: previous error during capture"
    ]
