"""Masks of a data set, their scores, and the report."""
