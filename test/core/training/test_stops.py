"""Training runs that end before their last iteration, or refuse to begin."""

from __future__ import annotations

import csv
import errno
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgnet_core.data.loading import Batch
from sgnet_core.data.sample import Sample
from sgnet_core.train import main
from sgnet_core.training import run as run_module
from sgnet_core.training.config import TrainConfig, load_config
from sgnet_core.training.device import check_parts
from sgnet_core.training.divergence import Diverged, divergence
from sgnet_core.training.interruption import Interruption
from sgnet_core.training.run import Run

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("small_network")


def start(tiny: dict[str, Any], folder: Path, **values: Any) -> Run:
    return Run.start(TrainConfig(**{**tiny, **values}), folder, CPU)


def test_a_validation_set_without_labels_is_refused(
    tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(tiny_file)
    run = Run.start(config, tmp_path / "run", CPU)
    sample = run.validation[0]
    run.validation = [replace(sample, labels=np.full_like(sample.labels, 255))]
    with pytest.raises(ValueError, match="boxes:val: no pixel is labeled"):
        run.train()


def poison(run: Run, value: float) -> None:
    for parameter in run.state.model.head.parameters():
        parameter.data.fill_(value)


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_the_batch(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    run = start(tiny, tmp_path, accumulate=2)
    expected = Batch.joined(next(run._batches()))
    poison(run, float("nan"))
    with pytest.raises(Diverged, match=r"iteration 0: the loss became nan.*bad_batch_0\.pt.*lower"):
        run.train()
    saved = torch.load(tmp_path / "bad_batch_0.pt", weights_only=True)
    for name, value in vars(expected).items():
        assert torch.equal(saved[name], value), name
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_command_ends_with_a_status_of_its_own_when_training_goes_wrong(
    tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(tiny_file), "--output", str(tmp_path / "run")]
    assert main([*arguments, "lr=1e30", "warmup=0", "clip=0", "optimizer=sgd"]) == 3
    error = capsys.readouterr().err
    assert "bad_batch_" in error and "lower lr" in error


@pytest.mark.parametrize(
    ("loss", "norm", "iteration", "wrong"),
    [
        (float("inf"), 1.0, 0, "loss became inf"),
        (1.0, float("nan"), 0, "gradient's norm became nan"),
        (25.0, 1.0, 100, "exploded: 25 after 2"),
        (15.0, 1.0, 100, None),
        (25.0, 1.0, 5, None),  # nobody knows yet what is usual
    ],
)
def test_what_counts_as_divergence(
    loss: float, norm: float, iteration: int, wrong: str | None
) -> None:
    found = divergence(loss, norm, 2.0, iteration, bound=10)
    assert found is None if wrong is None else wrong in str(found)
    assert divergence(9.0, 1.0, 0.01, 100, bound=10) is None, "a small loss may rise to a usual one"
    assert divergence(1e9, 1.0, 2.0, 100, bound=0) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_it_goes_on_from_there(
    tmp_path: Path, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str], number: int
) -> None:
    run = start(tiny, tmp_path, workers=1)
    step = run.step

    def signaled(parts: Sequence[Batch]) -> float:
        if run.state.iteration == 1:
            [loader] = multiprocessing.active_children()
            for process in (loader.pid, os.getpid()):  # as Ctrl-C does, and job schedulers
                os.kill(int(process or 0), number)
        return step(parts)

    run.step = signaled  # type: ignore[method-assign]
    before = signal.getsignal(number)
    assert run.train() == 128 + number
    assert signal.getsignal(number) is before
    assert "stopped at iteration 2; the same command resumes" in capsys.readouterr().out
    assert start(tiny, tmp_path).state.iteration == 2


def test_a_signal_breaks_a_validation_off_which_is_done_when_the_run_goes_on(
    tmp_path: Path,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny |= {"validate_every": 2, "checkpoint_every": 100}
    run = start(tiny, tmp_path)

    class Signaling(list[Sample]):
        def __getitem__(self, index: Any) -> Any:
            if run.state.iteration == 4 and index == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitem__(index)

    run.validation = Signaling(run.validation[i] for i in range(len(run.validation)))
    assert run.train() == 128 + signal.SIGTERM
    assert "stopped at iteration 4; the same command resumes" in capsys.readouterr().out
    assert logged(tmp_path) == ["2"]
    assert not (tmp_path / "predictions" / "000004.png").exists()
    resumed = start(tiny, tmp_path)
    assert (resumed.state.iteration, resumed.state.validated) == (4, 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resumed, "step", interrupted)  # as if killed before the next checkpoint
        resumed.train()
    assert logged(tmp_path) == ["2", "4"]
    assert start(tiny, tmp_path).train() == 0
    assert logged(tmp_path) == ["2", "4", "6"], "once each"


def test_a_signal_that_is_passed_on_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches torchrun's processes from the terminal, and then from torchrun."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        clock[0] += 2.0
        signal.raise_signal(signal.SIGTERM)
        assert interruption.number == signal.SIGINT
        clock[0] += 2.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with Interruption() as interruption:
        assert interruption.number == 0


def test_a_run_that_is_made_shorter_is_validated_where_it_stands(
    tmp_path: Path, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny |= {"validate_every": 1000}
    run = start(tiny, tmp_path)
    for _ in range(3):
        run.step(next(run._batches()))
    run.save()
    shorter = start(tiny, tmp_path, iterations=2)
    assert shorter.train() == 0
    assert logged(tmp_path) == ["3"] and shorter.state.iteration == 3
    assert "best at iteration 3" in capsys.readouterr().out
    assert not start(tiny, tmp_path, iterations=2).validation_due


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["start", "step"])
def test_a_second_interruption_ends_the_command_at_once(
    tmp_path: Path,
    tiny_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    when: str,
) -> None:
    monkeypatch.setattr(Run, when, interrupted)
    arguments = ["--config", str(tiny_file), "--output", str(tmp_path / "run")]
    assert main(arguments) == 128 + signal.SIGINT
    assert "the same command resumes from the last checkpoint" in capsys.readouterr().err


def logged(folder: Path) -> list[str]:
    with open(folder / "log.csv", newline="") as file:
        return [row["iteration"] for row in csv.DictReader(file)]


def test_early_stopping_counts_validations_and_survives_a_resume(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.5, 0.4, 0.5, 0.45])
    monkeypatch.setattr(Run, "_score", lambda run, log: next(scores))
    monkeypatch.setattr(run_module, "summary", lambda config, folder: "")
    tiny |= {"iterations": 20, "validate_every": 1, "checkpoint_every": 1, "patience": 3}
    first = start(tiny, tmp_path, iterations=3)
    first.train()
    assert (first.state.best_miou, first.state.stale) == (0.5, 1)
    second = start(tiny, tmp_path)
    assert second.train() == 0
    assert (second.state.iteration, second.state.stale) == (5, 3)
    assert start(tiny, tmp_path).finished


def test_a_full_disk_ends_the_run_with_what_was_saved_before(
    tmp_path: Path,
    tiny_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save = run_module.save_checkpoint

    def full(path: Path, content: dict[str, Any]) -> None:
        if content["iteration"] > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(path, content)

    arguments = ["--config", str(tiny_file), "--output", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_checkpoint", full)
        assert main(arguments) == 4
    error = capsys.readouterr().err
    assert "No space left on device" in error and "checkpoint.pt" in error
    assert "same command then resumes" in error
    assert main(arguments) == 0
    assert "at iteration 3 of 6" in capsys.readouterr().out


def test_a_damaged_checkpoint_is_refused(
    tmp_path: Path, tiny: dict[str, Any], tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    assert main(["--config", str(tiny_file), "--output", str(tmp_path)]) == 2
    assert "checkpoint.pt is damaged" in capsys.readouterr().err


def test_what_a_cpu_cannot_do_is_said_at_the_start(
    tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(tiny_file), "--output", str(tmp_path / "r"), "--device", "cpu"]
    for override, message in (
        ("sync_bn=true", "SyncBatchNorm needs a GPU"),
        ("precision=fp16", "on the CPU use bf16"),
    ):
        assert main([*arguments, override]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "processes", "message"),
    [
        ({"batch": 6}, 4, r"batch 6 cannot be divided into 4 processes x 1 .* multiple of 4"),
        ({"batch": 6, "accumulate": 2}, 2, r"2 processes x 2 parts"),
        ({"batch": 4, "accumulate": 2}, 2, r"one pixel, but batch norm needs at least two"),
    ],
)
def test_a_batch_that_cannot_be_cut_so_is_refused_at_the_start(
    values: dict[str, Any], processes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_parts(TrainConfig(**values), "aspp", processes)


def test_one_frame_at_a_time_is_enough_where_norms_need_no_second() -> None:
    check_parts(TrainConfig(batch=2, accumulate=2), "fcn", 1)
    check_parts(TrainConfig(batch=2, accumulate=2, freeze_bn="all"), "aspp", 1)
    check_parts(TrainConfig(batch=4, accumulate=2), "aspp", 1)


def test_the_command_refuses_such_a_batch(
    tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(tiny_file), "--output", str(tmp_path / "run"), "batch=1"]
    assert main([*arguments, "model=sgnet_r18", "architecture.head=aspp"]) == 2
    assert "one pixel" in capsys.readouterr().err
