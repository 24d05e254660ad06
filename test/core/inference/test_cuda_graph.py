"""CUDA graphs, checked without a GPU by a recording that stands in for the device's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fake_gpu import HostTraffic, move_to_fake_gpu
from sgnet_core import Intrinsics, create_model
from sgnet_core.geometry.lens import Camera, Lens
from sgnet_core.geometry.registration import DepthRegistration
from sgnet_core.inference.cuda_graph import UNUSED_CALLS, CudaGraphs, _Recording
from sgnet_core.inference.frame_labels import frame_labels
from sgnet_core.inference.segmenter import Segmenter
from sgnet_core.inference.stage_clock import StageClock
from sgnet_core.inference.transfer import to_device, to_host
from sgnet_core.models.info import _filled

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CPU = torch.device("cpu")


class Replay:
    """Do the function's work on the recorded tensors, as a graph's replay does."""

    def __init__(self, run: Callable[[], None]) -> None:
        self.replay = run


class OnCpu(CudaGraphs):
    recorded = 0

    def _record(self, inputs: Any, keywords: Any) -> Any:
        self.recorded += 1
        kept = tuple(None if x is None else x.clone() for x in inputs)
        outputs = self._function(*kept, **keywords)

        def replay() -> None:
            for old, new in zip(outputs, self._function(*kept, **keywords), strict=True):
                if old is not None and new is not None:
                    old.copy_(new)

        return _Recording(Replay(replay), kept, outputs)  # type: ignore[arg-type]


def scaled(a: Tensor, b: Tensor | None, *, factor: int) -> tuple[Tensor, Tensor | None]:
    return a * factor, None if b is None else a + b


def test_a_replay_answers_for_the_inputs_of_this_call() -> None:
    graphs = OnCpu(scaled)
    for value in (1.0, 3.0, 5.0):
        for size in (2, 3):
            doubled, total = graphs(torch.full((size,), value), torch.ones(size), factor=2)
            assert doubled is not None and doubled.tolist() == [2 * value] * size
            assert total is not None and total.tolist() == [value + 1] * size
    assert graphs.recorded == 2  # one for each size


def test_every_property_that_a_recording_depends_on_makes_its_own() -> None:
    graphs = OnCpu(scaled, limit=9)
    cases: list[tuple[Tensor, Tensor | None, int]] = [
        (torch.ones(2), torch.ones(2), 2),
        (torch.ones(2), None, 2),
        (torch.ones(2), None, 3),
        (torch.ones(3, 2), None, 3),
        (torch.ones(2, 3).T, None, 3),  # the same shape in another memory order
        (torch.ones(3, 2).double(), None, 3),
    ]
    for first, second, factor in cases * 2:
        result = graphs(first, second, factor=factor)[0]
        assert result is not None and (result == factor).all()
    assert graphs.recorded == len(cases)


def test_an_input_is_recorded_when_it_comes_the_second_time() -> None:
    graphs = OnCpu(scaled)
    for recorded in (0, 1, 1):
        graphs(torch.ones(2), None, factor=0)
        assert graphs.recorded == recorded


def test_sizes_in_rotation_do_not_push_each_other_out() -> None:
    graphs = OnCpu(scaled, limit=4)
    for _ in range(20):
        for size in range(1, 6):
            result = graphs(torch.ones(size), None, factor=size)[0]
            assert result is not None and result.tolist() == [size] * size
    assert graphs.recorded == 4


def test_a_recording_out_of_use_gives_way() -> None:
    graphs = OnCpu(scaled, limit=1)
    for size in (1, 1, *[2] * (UNUSED_CALLS + 1)):
        graphs(torch.ones(size), None, factor=1)
    assert graphs.recorded == 1
    graphs(torch.ones(2), None, factor=1)
    assert graphs.recorded == 2
    assert len(graphs._recordings) == 1


def test_sizes_that_come_once_leave_nothing_behind() -> None:
    graphs = OnCpu(scaled)
    for size in range(1, 200):
        graphs(torch.ones(size), None, factor=1)
    assert graphs.recorded == 0
    assert len(graphs._last_call) <= 16


def test_a_kind_of_input_that_fails_is_never_recorded() -> None:
    def fails(x: Tensor) -> tuple[Tensor]:
        raise ValueError("a scale is too large")

    graphs = OnCpu(fails)
    for _ in range(3):
        with pytest.raises(ValueError, match="too large"):
            graphs(torch.ones(2))
    assert graphs.recorded == 0 and graphs._works


class OutOfResources(Exception):
    """Like Triton's, which is no RuntimeError."""


def test_what_cannot_be_recorded_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(OnCpu):
        def _record(self, inputs: Any, keywords: Any) -> Any:
            if len(inputs[0]) == 2:
                raise OutOfResources("shared memory")
            return super()._record(inputs, keywords)

    graphs = Broken(scaled)
    with caplog.at_level(logging.WARNING):
        for size in (3, 2):
            for value in (1.0, 2.0, 3.0):
                result = graphs(torch.full((size,), value), None, factor=4)[0]
                assert result is not None and result.tolist() == [4 * value] * size
    assert [r.message for r in caplog.records] == [
        "no more CUDA graphs are recorded; kernels are launched singly: shared memory"
    ]
    assert len(graphs._recordings) == 1  # made before the failure


def test_while_one_thread_records_another_runs_without_a_recording() -> None:
    recording, end = threading.Event(), threading.Event()

    class Slow(OnCpu):
        def _record(self, inputs: Any, keywords: Any) -> Any:
            recording.set()
            assert end.wait(60)
            return super()._record(inputs, keywords)

    slow, other = Slow(scaled), OnCpu(scaled)
    for graphs in (slow, other):
        graphs(torch.ones(2), None, factor=1)
    thread = threading.Thread(target=slow, args=(torch.ones(2), None), kwargs={"factor": 1})
    thread.start()
    assert recording.wait(60)
    for _ in range(2):
        result = other(torch.full((2,), 3.0), None, factor=1)[0]
        assert result is not None and result.tolist() == [3, 3]
    assert other.recorded == 0
    end.set()
    thread.join()
    other(torch.ones(2), None, factor=1)
    assert (slow.recorded, other.recorded) == (1, 1)


@pytest.mark.parametrize("size", [(48, 64), (31, 57)])
def test_a_segmenter_replays_what_it_computes(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", 6)
    plain, replaying = Segmenter(model, "cpu"), Segmenter(model, "cpu")
    replaying._graphs = OnCpu(partial(frame_labels, replaying.model))
    rng = np.random.default_rng(3)
    camera = Intrinsics.from_fov(size[1], size[0], 60)
    for _ in range(3):
        rgb = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        depth = rng.uniform(0.5, 5, size).astype(np.float32)
        options: Any = {"intrinsics": camera, "confidence": True, "overlay": 0.5}
        expected, got = (s.segment(rgb, depth, **options) for s in (plain, replaying))
        np.testing.assert_array_equal(got.labels, expected.labels)
        np.testing.assert_array_equal(got.confidence, expected.confidence)
        np.testing.assert_array_equal(got.overlay, expected.overlay)
        assert list(got.stages_ms) == ["preprocess", "network", "postprocess"]
    assert replaying.segment(rgb, depth, camera).confidence is None
    assert replaying._graphs.recorded == 1  # with and without confidence
    for _ in range(2):
        replaying.segment(rgb, depth, camera, scales=(1, 0.5), scores=True)
    assert replaying._graphs.recorded == 2


@pytest.mark.parametrize("holes", ["none", "nearest"])
@pytest.mark.parametrize("spatial", ["points", "hha"])
def test_spatial_inputs_are_replayed_too(spatial: str, holes: Any) -> None:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", 6, spatial=spatial)
    plain, replaying = Segmenter(model, "cpu"), Segmenter(model, "cpu")
    replaying._graphs = OnCpu(partial(frame_labels, replaying.model))
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    for fov in (50, 60, 70):
        depth = rng.uniform(0.5, 5, (40, 56)).astype(np.float32)
        depth[rng.random(depth.shape) < 0.2] = 0
        camera = Intrinsics.from_fov(56, 40, fov)
        options: Any = {"holes": holes, "up": (0.1, -0.9, fov / 100), "scores": True}
        expected, got = (s.segment(rgb, depth, camera, **options) for s in (plain, replaying))
        np.testing.assert_array_equal(got.scores, expected.scores)
    assert replaying._graphs.recorded == 1


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("spatial", ["depth", "points", "hha"])
@pytest.mark.parametrize("up", [False, True])
def test_what_a_graph_records_neither_waits_for_the_gpu_nor_copies_from_the_host(
    spatial: Any, up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without memory claim to be on a GPU; reading a value of theirs is an error."""
    monkeypatch.setattr("sgnet_core.ops.triton_support.fused_runs_on", lambda *_, **__: False)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)
    model = create_model("sgnet_lite", 6, spatial=spatial).eval()
    with FakeTensorMode(), torch.inference_mode(), torch.device("cuda"):
        move_to_fake_gpu(model)
        image, depth = torch.empty(1, 3, 64, 96), torch.empty(1, 1, 64, 96)
        camera, upward, needed = torch.empty(1, 4), torch.empty(1, 3), torch.empty(6)
        with HostTraffic() as traffic:
            finite, labels, sure, _ = frame_labels(
                model,
                needed,
                *(image, depth, camera, upward if up else None),
                size=(70, 100),
                scores=True,
                scales=(1.0, 0.5),
            )
    for result, shape in ((finite, ()), (labels, (70, 100)), (sure, (70, 100))):
        assert result is not None and (tuple(result.shape), result.is_cuda) == (shape, True)
    assert traffic.operators == []


def test_registration_on_a_gpu_neither_waits_for_it_nor_copies_from_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sgnet_core.ops.triton_support.fused_runs_on", lambda *_, **__: True)
    module = pytest.importorskip("sgnet_core.ops.triton_nearest", reason="Triton is not there")
    drawn = []

    def draw(boxes: Tensor, depth: Tensor, height: int, width: int) -> Tensor:
        drawn.append((tuple(boxes.shape), boxes.dtype, tuple(depth.shape)))
        return depth.new_zeros(height, width)

    monkeypatch.setattr(module, "draw_nearest", draw)
    lens = Lens("plumb_bob", (0.1, -0.05, 0.001, 0.002, 0.01))
    lens.distort(torch.zeros(1), torch.zeros(1))  # its table is made of real numbers
    depth_camera, rgb_camera = (
        Camera(Intrinsics.from_fov(width, 48, 60), lens) for width in (64, 80)
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        register = DepthRegistration(depth_camera, rgb_camera, np.eye(4), "cuda")
        depth = torch.empty(48, 64, device="cuda")
        with HostTraffic() as traffic:
            result = register(depth)
    assert register.never_waits and result.is_cuda and tuple(result.shape) == (48, 80)
    assert drawn == [((4, 48, 64), torch.int32, (48, 64))]
    assert traffic.operators == []


def test_constants_written_on_the_device_are_those_copied_there() -> None:
    values = (123.675, 116.28, 103.53)
    assert torch.equal(
        _filled(values, torch.ones(2, 3, 4, 5)), torch.tensor(values).view(1, 3, 1, 1)
    )


def test_other_limits_of_confidence_need_no_other_recording() -> None:
    torch.manual_seed(0)
    model = create_model("sgnet_lite", 6)
    plain, replaying = Segmenter(model, "cpu"), Segmenter(model, "cpu")
    replaying._graphs = OnCpu(partial(frame_labels, replaying.model))
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    depth = rng.uniform(0.5, 5, (48, 64)).astype(np.float32)
    for limit in (0.1, 0.25, 0.3):
        options: Any = {"min_confidence": limit, "classes": range(1, 6)}
        expected, got = (s.segment(rgb, depth, **options) for s in (plain, replaying))
        np.testing.assert_array_equal(got.labels, expected.labels)
        assert 255 in got.labels
    assert replaying._graphs.recorded == 1


@GPU
def test_a_gpu_replays_what_it_computes() -> None:
    def run(x: Tensor) -> tuple[Tensor]:
        return (x.sin().cumsum(0),)

    graphs = CudaGraphs(run)
    for seed in range(3):
        x = torch.randn(100, device="cuda", generator=torch.Generator("cuda").manual_seed(seed))
        result = graphs(x)[0]
        assert result is not None
        torch.testing.assert_close(result, run(x)[0])
    assert graphs._works


@GPU
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_network_can_be_recorded(precision: str) -> None:
    segmenter = Segmenter(device="cuda", precision=precision)
    segmenter.warm_up(240, 320)
    assert segmenter._graphs is not None
    assert segmenter._graphs._works and len(segmenter._graphs._recordings) == 1


def test_arrays_reach_the_device_with_their_values() -> None:
    for dtype in (np.uint8, np.uint16, np.float32, np.float64, np.int32, ">u2", ">f4"):
        array = np.arange(12).reshape(3, 4).astype(dtype)
        for view in (array, array[::-1, ::-1], array.T):
            view.flags.writeable = False
            tensor = to_device(view, CPU)
            kinds = (torch.uint8, torch.uint16, torch.float32)
            assert tensor.dtype in kinds
            np.testing.assert_array_equal(tensor.float().numpy(), view.astype(np.float32))
    [same, none] = to_host([tensor, None])
    assert same is tensor and none is None


def test_stages_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((1.0, 1.25, 1.75))
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = StageClock(CPU)
    clock.mark("a")
    clock.mark("b")
    assert clock.stages_ms() == {"a": 250.0, "b": 500.0}
