"""Data: samples, procedural rooms and data sets."""
