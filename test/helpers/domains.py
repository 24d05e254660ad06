"""DDS domains for test processes that run at the same time."""

from __future__ import annotations

import fcntl
import os
import tempfile

# The product's commands choose from 1 to 100; the ports of these lie above the ephemeral ones.
_DOMAINS = range(215, 233)


def reserve_domain() -> int:
    """Return a DDS domain that no other test process on this machine has reserved.

    The reservation is a locked file, which stays open until the process ends.

    Raises:
        RuntimeError: every domain is taken.
    """
    for domain in _DOMAINS:
        path = os.path.join(tempfile.gettempdir(), f"sgnet_ros_test_domain_{domain}")
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        return domain
    raise RuntimeError(f"{len(_DOMAINS)} test processes have taken all DDS domains for tests")
