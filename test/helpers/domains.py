"""DDS domains for test processes that run at the same time."""

from __future__ import annotations

import socket

# The product's commands choose from 1 to 100; the ports of these lie above the ephemeral ones.
_DOMAINS = range(215, 232)
_reservations: list[socket.socket] = []


def reserve_domain() -> int:
    """Return a DDS domain that no other test process on this machine has reserved.

    The last of the 250 ports of a domain, which a participant needs only after some hundred others,
    stays bound until the process ends.

    Raises:
        RuntimeError: every domain is taken.
    """
    for domain in _DOMAINS:
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", 7400 + 250 * domain + 249))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return domain
    raise RuntimeError(f"{len(_DOMAINS)} test processes have taken all DDS domains for tests")
