"""The network: S-Conv, trunk, heads, labels, and the files that hold a model."""
