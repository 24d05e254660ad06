"""Settings of convolutions hold within their block alone."""

from __future__ import annotations

import torch

from sgnet_core.ops.cudnn import fastest_algorithms


def test_algorithms_are_timed_within_the_block_alone_and_never_in_deterministic_mode() -> None:
    assert not torch.backends.cudnn.benchmark
    with fastest_algorithms():
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    try:
        with fastest_algorithms():
            assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
