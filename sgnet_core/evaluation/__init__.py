"""Evaluation: masks of a data set, their scores, and reports."""
