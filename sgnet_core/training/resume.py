"""Find the checkpoint of a run and check which configuration keys have changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sgnet_core.training.checkpoint import CheckpointError, load_checkpoint
from sgnet_core.training.config import TrainConfig

CONFIG = "config.yaml"
"""File in the folder of a run with the configuration of its last start."""

FIXED = (
    *("model", "architecture", "weights", "optimizer", "trunk_lr", "guidance_lr"),
    *("freeze_bn", "class_balance", "new_classes"),
)
"""Keys that must not change when a run resumes. In addition, ``ema`` must not turn on or off."""


def find_checkpoint(folder: Path, config: TrainConfig) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the checkpoint in ``folder`` (None for a new run) and the changed keys.

    The changes are texts such as "lr 0.001 → 0.0001". A new validation set resets the best score.

    Raises:
        CheckpointError: all checkpoints are damaged, or one of `FIXED` has changed.
        OSError: a file cannot be read.
    """
    saved = load_checkpoint(folder / "checkpoint.pt")
    if saved is None:
        return None, []
    old, new = _before(folder / CONFIG), config.to_dict()
    changed = {key for key, value in new.items() if key in old and old[key] != value}
    texts = {key: f"{key} {old[key]} → {new[key]}" for key in new if key in changed}
    fixed = [key for key in texts if key in FIXED]
    if "ema" in changed and not (old["ema"] and new["ema"]):
        fixed.append("ema")
    if fixed:
        raise CheckpointError(
            f"the checkpoint in {folder} is not of this configuration "
            f"({', '.join(texts[key] for key in fixed)}); restore the old values, or train into a "
            "new --output folder, for example from this run's weights: "
            f"weights={folder}/last.safetensors"
        )
    if "validation" in changed:
        saved = {**saved, "best_miou": -1.0, "stale": 0}
    return saved, list(texts.values())


def _before(path: Path) -> Mapping[str, Any]:
    """Return the configuration of the last start, or {} if it cannot be read."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
