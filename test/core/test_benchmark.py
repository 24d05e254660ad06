"""The benchmark: its figures fit together."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sgnet_core.benchmark import Machine, main, measure, table
from sgnet_core.benchmark_suites import TORCHVISION, Case, Group, operator_groups

CPU = Machine(torch.device("cpu"), copy_rate=1e9, matmul_rate=1e9)


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
    assert fast.threads == torch.get_num_threads()
    assert fast.memory_mb > 10


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


def test_the_command_measures_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert {r["suite"] for r in records} == {"operator", "network", "segmenter", "spatial"}
    assert {r["name"] for r in records if r["suite"] == "network"} == {
        "sgnet_lite, torchvision.ops.deform_conv2d",
        "sgnet_lite, eager",
        "sgnet_lite, fused",
        "plain_lite, fused",
    }
    printed = capsys.readouterr().out
    assert f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}" in printed
    lines = printed.splitlines()
    assert " ".join(lines[1].split()) == "suite shape name p50 ms p95 ms floor ms ratio to"
    assert len(lines) == 2 + len(records)


def test_the_table_names_each_reference_once() -> None:
    text = table(measure(Group("s", "1", lambda: 0, (Case("a", str, "a"),)), CPU, 1, 0))
    assert text.splitlines()[1].split()[:3] == ["s", "1", "a"]
    assert text.endswith("1.00")


def test_a_file_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sgnet_core.benchmark.groups", lambda *args: [])
    monkeypatch.setattr("sgnet_core.benchmark.Machine", SimpleNamespace(measure=lambda d: CPU))
    with pytest.raises(SystemExit) as stopped:
        main(["--quick", "--json", "/no/such/folder/f.json"])
    assert stopped.value.code == 2
    assert "cannot write /no/such/folder/f.json" in capsys.readouterr().err
