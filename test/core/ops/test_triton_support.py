"""A GPU is asked once whether it runs the Triton kernels, and a failure names its remedy."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from sgnet_core.ops import triton_support
from sgnet_core.ops.triton_support import fused_runs_on

GPU = torch.device("cuda", 1)
SelfTest = Callable[[torch.device, bool], float]


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Pretend that there is an H100 and that Triton is installed."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("SGNET_TRITON", raising=False)
    caplog.set_level(logging.INFO)
    triton_support._test.cache_clear()
    yield
    triton_support._test.cache_clear()


@pytest.fixture
def replace_self_test(monkeypatch: pytest.MonkeyPatch) -> Callable[[SelfTest], None]:
    def replace(function: SelfTest) -> None:
        name = "sgnet_core.ops.triton_deform"
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(self_test=function))

    return replace


def raise_out_of_resources(device: torch.device, gradients: bool) -> float:
    raise Exception("out of resource: shared memory")  # Triton's is no RuntimeError either


def test_a_gpu_is_tested_once_for_results_and_once_for_gradients(
    replace_self_test: Callable[[SelfTest], None],
) -> None:
    tested = []

    def self_test(device: torch.device, gradients: bool) -> float:
        tested.append((device, gradients))
        return 1e-3

    replace_self_test(self_test)
    assert fused_runs_on(GPU) and fused_runs_on(GPU, False) and fused_runs_on(GPU, gradients=False)
    assert fused_runs_on(GPU, gradients=True) and fused_runs_on(GPU, True)
    assert tested == [(GPU, False), (GPU, True)]


def test_wrong_results_switch_the_kernels_off(
    replace_self_test: Callable[[SelfTest], None], caplog: pytest.LogCaptureFixture
) -> None:
    replace_self_test(lambda device, gradients: 0.5)
    assert not fused_runs_on(GPU)
    assert "cuda:1: torchvision; the fused kernel is off by 0.5" in caplog.text


def test_a_kernel_that_does_not_fit_switches_the_kernels_off(
    replace_self_test: Callable[[SelfTest], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.ones(()))  # the GPU still answers
    replace_self_test(raise_out_of_resources)
    assert not fused_runs_on(GPU)
    assert "Triton failed: out of resource: shared memory" in caplog.text


def test_a_gpu_that_a_kernel_made_unusable_is_an_error_with_the_remedy(
    replace_self_test: Callable[[SelfTest], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "zeros", fail)
    replace_self_test(raise_out_of_resources)
    with pytest.raises(RuntimeError, match=r"cuda:1 unusable .* restart it with SGNET_TRITON=0"):
        fused_runs_on(GPU)


def test_other_gpus_and_the_users_choice_are_not_tested(
    replace_self_test: Callable[[SelfTest], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_self_test(lambda device, gradients: pytest.fail("tested"))
    monkeypatch.setenv("SGNET_TRITON", "0")
    assert not fused_runs_on(GPU)
    monkeypatch.delenv("SGNET_TRITON")
    triton_support._test.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not fused_runs_on(GPU)
