"""Suites of the benchmark by name: those of this library, and plugins of other packages."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Generator, Iterator

import torch

from sgnet_core.benchmark.measure import Group
from sgnet_core.plugins import PluginError, load_plugin, plugin_names

SUITES = {
    "operator": "sgnet_core.benchmark.operator:operator_groups",
    "network": "sgnet_core.benchmark.network:network_groups",
    "segmenter": "sgnet_core.benchmark.segmenter:segmenter_groups",
    "shared": "sgnet_core.benchmark.shared:shared_groups",
    "spatial": "sgnet_core.benchmark.operator:spatial_groups",
    "training": "sgnet_core.benchmark.network:training_groups",
}
"""Functions (device, quick) → groups of this library by name of the suite.

They are imported when they run, because not every machine has the packages of all suites."""

PLUGINS = "sgnet.benchmark_suites"
"""Entry-point group for suites of other packages: functions with the same arguments."""


class SuiteError(RuntimeError):
    """A suite that cannot run; the message names it and the remedy."""


def suite_names() -> list[str]:
    """Return the names of all suites, this library's first."""
    return [*SUITES, *(name for name in plugin_names(PLUGINS) if name not in SUITES)]


def groups(suite: str, device: torch.device, quick: bool) -> Generator[Group, None, None]:
    """Make the groups of one suite, one after the other.

    Args:
        suite: one of `suite_names`.
        device: device to measure.
        quick: make small sizes.

    Raises:
        SuiteError: a package that the suite needs is not installed, or the suite fails.
    """
    try:
        make: Callable[[torch.device, bool], Iterator[Group]]
        if suite in SUITES:
            make = pkgutil.resolve_name(SUITES[suite])
        else:
            make = load_plugin(PLUGINS, suite)
        yield from make(device, quick)
    except PluginError as error:
        raise SuiteError(f"suite {suite}: {error}") from error
    except ModuleNotFoundError as error:
        remedy = "'sgnet_ros[train]'" if suite == "training" else error.name
        raise SuiteError(f"suite {suite} needs {error.name}: pip install {remedy}") from error
