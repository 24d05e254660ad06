"""Benchmarks, each measured together with a reference."""
