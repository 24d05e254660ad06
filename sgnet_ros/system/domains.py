"""DDS domains that separate simultaneous runs on one machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection

_LAST = 100


def free_domain(taken: Collection[int] = ()) -> int:
    """Return a DDS domain, 1 to 100, without a participant on this machine; 0 if there is none.

    Args:
        taken: reserved domains, which may not have a participant yet.
    """
    for i in range(_LAST):
        domain = 1 + (os.getpid() + i) % _LAST
        # DDS gives a domain 250 ports from 7400 on; its n-th participant listens on 10 + 2n.
        ports = (7400 + 250 * domain + offset for offset in (0, *range(10, 30, 2)))
        if domain not in taken and all(map(_is_free, ports)):
            return domain
    return 0


def stay_local() -> None:
    """Restrict DDS discovery to this machine unless the user has decided otherwise."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if os.environ.get("ROS_DISTRO") == "humble":  # does not know the variable above
        os.environ.setdefault("ROS_LOCALHOST_ONLY", "1")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
