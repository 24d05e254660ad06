"""Names that launch files and node share.

Launch files import this module in the distribution's Python, where PyTorch may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

OUTPUTS = ("labels", "confidence", "overlay", "color", "points", "obstacles", "ground")
"""Topics with one message per frame; the parameter ``outputs`` selects among them."""

_NAMESPACE = re.compile(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*")


def listed(text: str) -> list[str]:
    """Return the words of a text such as "front rear" or "[front, rear]"."""
    words = [word.strip("'\"") for word in re.split(r"[\s,]+", text.strip().strip("[]"))]
    return [word for word in words if word]


def listed_names(value: str | Sequence[str] | None) -> list[str]:
    """Return the names in a list, or in a text with commas such as "chair, floor mat".

    ROS passes an empty list as None.

    Raises:
        ValueError: the value has another type.
    """
    words = value.strip().strip("[]").split(",") if isinstance(value, str) else value or ()
    if not (isinstance(words, Sequence) and all(isinstance(word, str) for word in words)):
        raise ValueError(f"is a list of names, such as [chair, floor mat], not {value}")
    return [word.strip().strip("'\"") for word in words if word.strip()]


def camera_names(value: str | Sequence[str] | None) -> list[str]:
    """Return the namespaces in a text such as "front rear" or "[front, rear]", or in a list.

    ROS passes an empty list as None.

    Raises:
        ValueError: a namespace is not a ROS name or occurs twice, or the value has another type.
    """
    words = listed(value) if isinstance(value, str) else value or ()
    if not (isinstance(words, Sequence) and all(isinstance(word, str) for word in words)):
        raise ValueError(f"is a list of namespaces, such as [front, rear], not {value}")
    names = [name.strip("/") for name in words if name.strip("/")]
    for name in names:
        if not _NAMESPACE.fullmatch(name):
            raise ValueError(f"'{name}' is not a namespace: letters, digits and _ between slashes")
        if names.count(name) > 1:
            raise ValueError(f"camera '{name}' is named twice")
    return names
