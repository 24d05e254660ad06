"""Definitions of installed messages, which recordings contain."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory


def message_definitions(package: str) -> dict[str, str]:
    """Return the text of each message of an installed interface package, by type name.

    Raises:
        PackageNotFoundError: the package is not installed.
    """
    folder = Path(get_package_share_directory(package), "msg")
    return {f"{package}/msg/{p.stem}": p.read_text() for p in sorted(folder.glob("*.msg"))}
