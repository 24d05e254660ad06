"""Errors of recordings."""

from __future__ import annotations


class SourceError(ValueError):
    """A source that cannot be played; the message names the file and the remedy."""


class BagError(ValueError):
    """A bag that cannot be read or lacks a message; the text names the file and the remedy."""
