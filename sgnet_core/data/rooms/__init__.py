"""Procedural labeled RGB-D frames of furnished rooms."""

from __future__ import annotations

from sgnet_core.data.rooms.classes import CLASSES
from sgnet_core.data.rooms.dataset import Rooms
from sgnet_core.data.rooms.tour import RoomTour

__all__ = ["CLASSES", "RoomTour", "Rooms"]
