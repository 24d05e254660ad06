"""Cameras and what depth says: points, normals, gravity, HHA, registration."""
