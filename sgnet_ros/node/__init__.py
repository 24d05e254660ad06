"""The lifecycle node, one concern per module."""
