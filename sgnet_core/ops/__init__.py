"""Operators: deformable convolution in several implementations, and resizing of maps."""
