"""Learning curve of a model, from its training record or from the log beside its file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def training_curve(model_file: Path, training: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the records of a training with at least ``iteration`` and ``miou``, by iteration.

    They come from a list of such records in the model's training record, or from the ``log.csv``
    that training leaves beside the model; [] where there is neither.
    """
    lists = [value for value in training.values() if isinstance(value, list)]
    log = model_file.parent / "log.csv"
    if log.is_file():
        with open(log, newline="", encoding="utf-8") as file:
            lists.append(list(csv.DictReader(file)))
    for rows in lists:
        records = [_numbers(row) for row in rows if isinstance(row, Mapping)]
        records = [record for record in records if {"iteration", "miou"} <= set(record)]
        if records:
            return sorted(records, key=lambda record: record["iteration"])
    return []


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries that are numbers."""
    numbers = {}
    for key, value in row.items():
        try:
            numbers[key] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers
