"""Procedural labeled RGB-D frames of furnished rooms.

`layout` composes a scene of primitives, `pose` chooses a camera, `render` casts rays and shades,
and `sensor` simulates the cameras. Rooms are in meters, with z up.
"""

from __future__ import annotations

from sgnet_core.data.rooms.classes import CLASSES
from sgnet_core.data.rooms.dataset import Rooms
from sgnet_core.data.rooms.tour import RoomTour

__all__ = ["CLASSES", "RoomTour", "Rooms"]
