"""Readers and writers of data sets in files."""
