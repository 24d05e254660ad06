"""The keys of a training configuration as text: ``--help`` and the table of docs/training.md."""

from __future__ import annotations

import textwrap
from dataclasses import fields
from typing import NamedTuple

import yaml

from sgnet_core.training.config import TrainConfig


class Key(NamedTuple):
    """A configuration key, its default as YAML text, and its meaning."""

    name: str
    default: str
    meaning: str


def describe_keys() -> list[Key]:
    """Return every key of the configuration, in the order of `TrainConfig`."""
    defaults = TrainConfig().to_dict()
    return [
        Key(
            entry.name,
            yaml.safe_dump(defaults[entry.name], default_flow_style=True).split("\n")[0],
            entry.metadata["meaning"],
        )
        for entry in fields(TrainConfig)
    ]


def keys_help() -> str:
    """Return the keys with their defaults and meanings as text for a terminal."""
    return "\n".join(
        textwrap.fill(
            f"{key.name} ({key.default}): {key.meaning}",
            width=98,
            initial_indent="  ",
            subsequent_indent="      ",
        )
        for key in describe_keys()
    )
