"""The live viewer of camera and node."""
