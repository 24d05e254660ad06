"""Deformable convolution and the ways to run it; resizing of maps."""
