"""Choose the device of a command by name."""

from __future__ import annotations

import torch


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device for a name.

    Args:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …

    Raises:
        ValueError: the name is unknown, or this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device is auto, cpu, cuda or cuda:N; got {device!r}") from error
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"this machine has no device {device}: use auto or cpu")
    return picked
