"""Load extensions that installed packages register as entry points.

A package offers an extension in its ``setup.py``, under a group that this library reads:

    entry_points={"sgnet.recordings": ["bags = my_package.bags:BagSource"]}

The library uses only the group and the name; it does not depend on the package.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any


class PluginError(RuntimeError):
    """An extension that cannot be loaded; the message names it and the reason."""


def plugin_names(group: str) -> list[str]:
    """Return the sorted names that installed packages register in an entry-point group."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load_plugin(group: str, name: str) -> Any:
    """Import the object that an installed package registers under ``name``.

    Args:
        group: entry-point group, for example ``sgnet.recordings``.
        name: name within the group.

    Raises:
        PluginError: no installed package registers the name, or a module that the extension
            imports is not installed.
    """
    for entry in entry_points(group=group, name=name):
        try:
            return entry.load()
        except ModuleNotFoundError as error:
            raise PluginError(f"{entry.value} needs the module {error.name}") from error
    raise PluginError(f"no installed package provides {name!r} in the entry-point group {group}")
