"""Procedural labelled RGB-D frames of furnished rooms."""

from __future__ import annotations

from sgnet_core.data.rooms.classes import CLASSES
from sgnet_core.data.rooms.dataset import Rooms

__all__ = ["CLASSES", "Rooms"]
