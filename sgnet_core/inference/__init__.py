"""Numpy frames in, numpy masks out: the Segmenter and its backends."""
