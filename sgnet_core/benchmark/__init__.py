"""Measure speed, each figure beside its reference."""
