"""Cameras, and geometry computed from depth: points, normals, gravity, HHA, registration."""
