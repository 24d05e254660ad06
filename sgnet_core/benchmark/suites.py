"""The benchmark's suites by name."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Generator, Iterator

import torch

from sgnet_core.benchmark.measure import Group

SUITES = {
    "operator": "sgnet_core.benchmark.operator:operator_groups",
    "network": "sgnet_core.benchmark.network:network_groups",
    "segmenter": "sgnet_core.benchmark.segmenter:segmenter_groups",
    "spatial": "sgnet_core.benchmark.operator:spatial_groups",
    "training": "sgnet_core.benchmark.network:training_groups",
    "node": "sgnet_ros.node.benchmark:node_groups",
}
"""Name → function that makes its groups for a device, small ones if asked to.

They are imported when they run: not every machine has what all of them need, and the one for the
node is the part of `sgnet_ros`, on which this library does not depend.
"""

REMEDIES = {
    "training": "pip install 'sgnet_ros[train]'",
    "node": "source a ROS 2 distribution with sgnet_msgs in it, or use the Python of make setup",
}


class SuiteError(RuntimeError):
    """A suite that cannot run; the message names it and the remedy."""


def groups(suite: str, device: torch.device, quick: bool) -> Generator[Group, None, None]:
    """The groups of one suite, made one after the other.

    Args:
        suite: of `SUITES`.
        device: to measure.
        quick: small sizes.

    Raises:
        SuiteError: a package that it needs is not installed, or it fails.
    """
    try:
        make: Callable[[torch.device, bool], Iterator[Group]] = pkgutil.resolve_name(SUITES[suite])
        yield from make(device, quick)
    except ModuleNotFoundError as error:
        remedy = REMEDIES.get(suite, f"pip install {error.name}")
        raise SuiteError(f"suite {suite} needs {error.name}: {remedy}") from error
