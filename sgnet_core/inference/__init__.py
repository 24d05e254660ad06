"""Inference: the Segmenter, which labels NumPy frames, its backends, and readers of frames."""
