"""Errors of recordings."""

from __future__ import annotations


class SourceError(ValueError):
    """A source that can't be played; the message names the file and what to do."""


class BagError(ValueError):
    """A bag that can't be read or doesn't hold what is asked for; the message names the file."""
