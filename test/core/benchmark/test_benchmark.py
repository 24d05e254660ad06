"""The benchmark: its figures fit together, and what it compares does the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.ops

from sgnet_core.benchmark import network as benchmark_network
from sgnet_core.benchmark.__main__ import load, main, table
from sgnet_core.benchmark.measure import (
    LEAST_ROUNDS,
    Case,
    Group,
    Machine,
    Record,
    Timing,
    _rounds,
    measure,
)
from sgnet_core.benchmark.network import network_groups, training_groups
from sgnet_core.benchmark.operator import TORCHVISION, operator_groups
from sgnet_core.benchmark.process import Subprocess
from sgnet_core.benchmark.runners import segment, segment_eagerly
from sgnet_core.benchmark.segmenter import random_frame
from sgnet_core.benchmark.shared import PASSIVE, Neighbors
from sgnet_core.benchmark.suites import SUITES
from sgnet_core.models.model_file import default_model_path
from waiting import wait_until

CPU = Machine(torch.device("cpu"), "float32", copy_rate=1e9, matmul_rate=1e9)


def core_suites(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the command know those suites alone; without names, all of this library's."""
    monkeypatch.setattr(
        "sgnet_core.benchmark.__main__.suite_names", lambda: list(names) or list(SUITES)
    )


@pytest.fixture
def no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command does without measuring the device first."""
    monkeypatch.setattr(
        "sgnet_core.benchmark.__main__.Machine", SimpleNamespace(measure=lambda d: CPU)
    )


def test_figures_are_those_of_what_ran() -> None:
    """Cases that take 2 and 8 ms, in turns, on inputs made anew each time."""
    seen: list[tuple[str, int]] = []
    count = iter(range(100))

    def case(name: str, ms: float, reference: str, traffic: int = 0) -> Case:
        def run(inputs: object) -> None:
            seen.append((name, int(str(inputs))))
            time.sleep(ms / 1000)

        return Case(name, run, reference, traffic)

    cases = (case("fast", 2, "slow", 3_000_000), case("slow", 8, "slow"))
    group = Group("s", "7", lambda: next(count), cases)
    fast, slow = measure(group, CPU, repeats=4, warm_up=1)
    assert seen[:10] == [(name, i) for i in range(5) for name in ("fast", "slow")]
    assert (fast.suite, fast.name, fast.device, fast.shape) == ("s", "fast", "cpu", "7")
    assert 2 <= fast.p50_ms <= fast.p95_ms
    assert 8 <= slow.p50_ms <= slow.p95_ms
    assert (fast.reference, slow.reference, slow.ratio) == ("slow", "slow", 1)
    assert fast.ratio == pytest.approx(fast.p50_ms / slow.p50_ms, abs=0.001)
    assert (fast.floor_ms, slow.floor_ms) == (3, None)
    assert (fast.threads, fast.rounds) == (torch.get_num_threads(), 4)
    assert fast.memory_mb > 10
    assert fast.traffic_mb == 3
    assert 0 <= fast.spread_ms <= fast.p95_ms


def test_the_spread_is_that_of_the_middle_half() -> None:
    times = iter([9.0, *(float(n) for n in range(1, 101))])  # the first one warms up
    group = Group("s", "", lambda: next(times), [Case("a", lambda s: Timing(s, 5.0), "a")])
    (record,) = measure(group, CPU, repeats=100, warm_up=1)
    assert (record.p50_ms, record.p95_ms, record.spread_ms) == (50_500, 96_000, 50_000)
    assert record.memory_mb == 5


def test_a_slow_group_gets_few_rounds() -> None:
    group = Group("s", "", lambda: 0, [Case("a", lambda _: time.sleep(0.02), "a")])
    (record,) = measure(group, CPU, repeats=1000, warm_up=1000, limit_s=0.05)
    assert record.rounds == LEAST_ROUNDS


def test_compilation_in_the_first_round_takes_no_time_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    rounds = []
    for counts in _rounds("", repeats=30, warm_up=3, limit_s=10):
        rounds.append(counts)
        now += 100 if len(rounds) == 1 else 0.5
    assert (rounds.count(False), rounds.count(True)) == (3, 19)


def test_only_training_has_gradients() -> None:
    seen = []
    for training in (False, True):
        case = Case("a", lambda _: seen.append(torch.is_grad_enabled()), "a")
        measure(Group("s", "", lambda: 0, [case], training), CPU, 1, 0)
    assert seen == [False, True]


def test_a_process_of_its_own_times_itself() -> None:
    elsewhere = Subprocess(CPU.device, partial, time.sleep)
    try:
        begin = time.perf_counter()
        timing = elsewhere(0.05)
        elapsed = time.perf_counter() - begin
    finally:
        elsewhere.close()
    assert 0.05 <= timing.seconds < elapsed, "without the start of the process"
    assert timing.memory_mb > 10


def test_the_floor_is_the_slower_of_arithmetic_and_traffic() -> None:
    assert CPU.floor_ms(flops=5_000_000, traffic=2_000_000) == 5
    assert CPU.floor_ms(flops=1_000_000, traffic=2_000_000) == 2
    left, right = torch.rand(10, 20), torch.rand(20, 30)
    group = Group("s", "", lambda: left, (Case("product", lambda x: x @ right, "product", 1),))
    (record,) = measure(group, CPU, repeats=1, warm_up=0)
    assert record.floor_ms == pytest.approx(2 * 10 * 20 * 30 / 1e6)


def test_what_the_operator_suite_compares_computes_the_same() -> None:
    deformable, generator = operator_groups(torch.device("cpu"), quick=True)
    inputs = deformable.fresh()
    found = {case.name: case.run(inputs) for case in deformable.cases}
    expected, ours = found[TORCHVISION], found["deform_conv2d"]
    assert isinstance(expected, torch.Tensor) and isinstance(ours, torch.Tensor)
    torch.testing.assert_close(ours, expected, atol=1e-2, rtol=1e-4)
    inputs = generator.fresh()
    plain, fused = (case.run(inputs) for case in generator.cases)
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-4)


def test_what_the_network_suite_compares_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_network, "multiplies_bf16", lambda device: True)
    (group,) = network_groups(torch.device("cpu"), quick=True)
    inputs = group.fresh()
    with torch.inference_mode():
        found: dict[str, Any] = {case.name: case.run(inputs) for case in group.cases}
    assert list(found) == [
        "plain_lite, fused",
        "sgnet_lite, fused",
        "sgnet_lite, eager",
        f"sgnet_lite, {TORCHVISION}",
        "sgnet_lite, bf16",
    ]
    expected = found["sgnet_lite, eager"].logits
    scale = float(expected.abs().max())
    for name in ("sgnet_lite, fused", f"sgnet_lite, {TORCHVISION}"):
        torch.testing.assert_close(found[name].logits, expected, atol=1e-3 * scale, rtol=0)
    half = found["sgnet_lite, bf16"].logits
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.03 * scale, rtol=0)
    assert not torch.allclose(found["plain_lite, fused"].logits, expected, atol=1e-3 * scale)


def test_a_training_step_trains_with_the_operator_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    operator = torchvision.ops.deform_conv2d

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return operator(*args, **kwargs)

    monkeypatch.setattr(torchvision.ops, "deform_conv2d", spy)
    (group,) = training_groups(torch.device("cpu"), quick=True)
    batch = group.fresh()
    used = {}
    for case in group.cases:
        calls.clear()
        losses: list[Any] = [case.run(batch) for _ in range(4)]
        used[case.name] = len(calls)
        assert float(losses[-1]) < float(losses[0])
    assert used == {f"sgnet_lite, {TORCHVISION}": 4 * 6, "sgnet_lite": 0}
    assert group.training


def test_what_the_segmenter_suite_compares_gives_the_same_labels() -> None:
    """Those of ONNX Runtime are held by the tests of export and quantization."""
    frame = random_frame(96, 128)
    expected = segment(str(default_model_path()), CPU.device)(frame)
    assert len(np.unique(expected)) > 1
    eager = segment_eagerly(str(default_model_path()), CPU.device)(frame)
    assert (eager == expected).mean() > 0.999


@pytest.mark.slow
def test_the_command_measures_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    core_suites(monkeypatch)  # test/ros has the node's
    assert main(["--quick", "--json", str(tmp_path / "f.json")]) == 0
    records = json.loads((tmp_path / "f.json").read_text())
    keys = "suite name device dtype shape p50_ms p95_ms reference ratio floor_ms memory_mb"
    by_name = {(r["suite"], r["shape"], r["name"]): r for r in records}
    for record in records:
        assert set(keys.split()) <= set(record)
        assert 0 < record["p50_ms"] <= record["p95_ms"]
        reference = by_name[record["suite"], record["shape"], record["reference"]]
        ratio = record["p50_ms"] / reference["p50_ms"]
        assert record["ratio"] == pytest.approx(ratio, rel=0.05, abs=0.002)
    assert {r["suite"] for r in records} == set(SUITES)
    names = {r["name"] for r in records if r["suite"] == "segmenter"}
    assert names == {"default, eager", "default, torch"}
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}" in lines[0]
    assert " ".join(lines[1].split()) == "suite shape name p50 ms p95 ms floor ms MB ratio to"
    assert len(lines) == 2 + len(records)
    assert main(["--load", str(tmp_path / "f.json")]) == 0
    assert capsys.readouterr().out == printed


def record(name: str = "a", machine: str = "m", **figures: Any) -> Record:
    known = {
        "suite": "s",
        "device": "cpu",
        "dtype": "float32",
        "shape": "1",
        "threads": 2,
        "p50_ms": 12.345,
        "p95_ms": 20.0,
        "spread_ms": 1.0,
        "rounds": 30,
        "reference": "a",
        "ratio": 1.0,
        "gflop": None,
        "traffic_mb": None,
        "floor_ms": None,
        "memory_mb": 70.6,
        "date": "2026-01-02",
    }
    return Record(name=name, machine=machine, **{**known, **figures})


def test_the_table_names_references_and_each_machine_once() -> None:
    records = [record(), record("b", ratio=0.5, floor_ms=1.0), record("c", "n")]
    assert table(records).splitlines() == [
        "2026-01-02: m",
        "suite  shape  name  p50 ms  p95 ms  floor ms  MB  ratio  to",
        "s      1      a      12.35   20.00            71   1.00",
        "s      1      b      12.35   20.00      1.00  71   0.50  a",
        "2026-01-02: n",
        "suite  shape  name  p50 ms  p95 ms  floor ms  MB  ratio  to",
        "s      1      c      12.35   20.00            71   1.00  a",
    ]


@pytest.mark.usefixtures("no_rates")
def test_a_file_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sgnet_core.benchmark.__main__.groups", lambda *args: one_group())
    with pytest.raises(SystemExit) as stopped:
        main(["--quick", "--suite", "operator", "--json", "/no/such/folder/f.json"])
    assert stopped.value.code == 2
    assert "/no/such/folder/f.json: No such file" in capsys.readouterr().err


def one_group(error: BaseException | None = None) -> Iterator[Group]:
    yield Group("s", "1", lambda: 0, [Case("a", str, "a")])
    if error is not None:
        raise error


@pytest.mark.usefixtures("no_rates")
def test_what_was_measured_before_an_interruption_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = KeyboardInterrupt()
    monkeypatch.setattr("sgnet_core.benchmark.__main__.groups", lambda *args: one_group(stop))
    assert main(["--quick", "--json", str(tmp_path / "f.json")]) == 130
    assert [r.name for r in load(str(tmp_path / "f.json"))] == ["a"]
    assert capsys.readouterr().out.splitlines()[-1].split()[:3] == ["s", "1", "a"]


@pytest.mark.usefixtures("no_rates")
def test_what_does_not_fit_into_a_gpu_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise torch.OutOfMemoryError

    large = Group("s", "16x3x720x1280", lambda: 0, [Case("large", fail, "large")])
    monkeypatch.setattr(
        "sgnet_core.benchmark.__main__.groups",
        lambda *args: (group for group in (large, *one_group())),
    )
    assert main(["--quick", "--suite", "network"]) == 0
    printed = capsys.readouterr()
    assert "left out: s 16x3x720x1280 does not fit into memory" in printed.err
    assert "large" not in printed.out
    assert printed.out.splitlines()[-1].split()[:3] == ["s", "1", "a"]


@pytest.mark.usefixtures("no_rates")
def test_without_ros_the_node_alone_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.delitem(sys.modules, "sgnet_ros.node.benchmark", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main(["--suite", "node"])
    assert stopped.value.code == 2
    reason = "suite node needs rclpy: source a ROS 2 distribution"
    assert capsys.readouterr().err.startswith(f"benchmark: {reason}")
    core_suites(monkeypatch, "operator", "node")
    assert main(["--quick"]) == 0
    printed = capsys.readouterr()
    assert f"left out: {reason}" in printed.err
    assert "deform_conv2d" in printed.out


def test_the_benchmark_loads_no_ros_and_its_processes_no_more_than_inference_needs() -> None:
    code = (
        "import sys, sgnet_core.inference.segmenter\n"
        "needed = set(sys.modules)\n"
        "import sgnet_core.benchmark.__main__, sgnet_core.benchmark.process\n"
        "import sgnet_core.benchmark.runners\n"
        "more = set(sys.modules) - needed\n"
        "assert not more & {'torchvision', 'torch._dynamo', 'onnxscript'}, more\n"
        "import sgnet_core.benchmark.segmenter\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'sgnet_ros', 'rclpy', 'onnxruntime', 'yaml'}, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_that_is_no_result_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ("{", '[{"suite": "s"}]', "[1]"):
        (tmp_path / "f.json").write_text(content)
        with pytest.raises(SystemExit) as stopped:
            main(["--load", str(tmp_path / "f.json")])
        assert stopped.value.code == 2
        assert f"{tmp_path / 'f.json'} was not written by --json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--load", str(tmp_path / "missing.json")])
    assert "missing.json: No such file" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals of POSIX")
def test_neighbors_compute_only_between_go_and_stop() -> None:
    neighbors = Neighbors(1)
    (process,) = neighbors._processes
    try:
        stat = Path(f"/proc/{process.pid}/stat")
        if not stat.exists():
            pytest.skip("needs /proc")

        def seconds() -> float:
            fields = stat.read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        neighbors.stop()
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        before = seconds()
        time.sleep(0.3)
        assert seconds() == before
        neighbors.go()
        wait_until(lambda: seconds() > before)
    finally:
        neighbors.close()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_process_gets_the_environment_that_it_is_told() -> None:
    process = Subprocess(torch.device("cpu"), partial, os.getenv, environment=PASSIVE)
    try:
        (pid,) = process._pool._processes
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    finally:
        process.close()
    assert b"OMP_WAIT_POLICY=PASSIVE" in variables
    assert "OMP_WAIT_POLICY" not in os.environ
