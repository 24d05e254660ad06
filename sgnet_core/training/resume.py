"""What a run goes on from, and what may be different when it does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sgnet_core.training.checkpoint import CheckpointError, load_checkpoint
from sgnet_core.training.config import TrainConfig

CONFIG = "config.yaml"
"""The configuration that a run was last started with, in its folder."""

FIXED = (
    *("model", "architecture", "weights", "optimizer", "trunk_lr", "guidance_lr"),
    *("freeze_bn", "class_balance", "new_classes"),
)
"""Keys that a checkpoint is made with. Of ``ema``, whether it is on; the others may change."""


def find_checkpoint(folder: Path, config: TrainConfig) -> tuple[dict[str, Any] | None, list[str]]:
    """The checkpoint in ``folder``, None for a new run; and the keys that have changed since.

    The changes are texts, "lr 0.001 → 0.0001". Where the validation set is another one, the best
    score so far counts for nothing.

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
            f"({', '.join(texts[key] for key in fixed)}); put that back, or train into a new "
            f"--output folder, from this run's weights if you like: "
            f"weights={folder}/last.safetensors"
        )
    if "validation" in changed:
        saved = {**saved, "best_miou": -1.0, "stale": 0}
    return saved, list(texts.values())


def _before(path: Path) -> Mapping[str, Any]:
    """The configuration of the last start; empty where nobody can tell."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
