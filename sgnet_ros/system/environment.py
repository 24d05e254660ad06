"""Environment variables that ROS 2 reads, set before the first node of a process is made."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

DDS_PROFILE = "SGNET_DDS_PROFILE"
"""Variable that the user sets to "none" to run this package without its Fast DDS profile."""

_FAST_DDS_2 = "FASTRTPS_DEFAULT_PROFILES_FILE"  # Humble, Jazzy
_FAST_DDS_3 = "FASTDDS_DEFAULT_PROFILES_FILE"  # Kilted and later, which warn about the other one
_LARGE_MIB = 256  # enough for the segments of seven processes, 34 MiB each


def share_file(name: str) -> Path:
    """Return the path of a data file of this package, such as ``"config/fastdds.xml"``.

    The checkout's own file comes first, then the copy that an installation puts into
    ``share/sgnet_ros`` of the package's prefix.

    Raises:
        FileNotFoundError: neither exists; the message names the paths.
    """
    package = Path(__file__).resolve().parents[1]
    candidates = [package.parent / name]
    # <prefix>/lib/pythonX.Y/site-packages/sgnet_ros (pip, colcon), or local/lib/... (Debian)
    candidates += [
        parent.parent / "share" / "sgnet_ros" / name
        for parent in package.parents
        if parent.name == "lib"
    ]
    for path in candidates:
        if path.is_file():
            return path
    looked_at = ", ".join(map(str, candidates))
    raise FileNotFoundError(
        f"{name} of sgnet_ros is missing, looked at: {looked_at}; install sgnet_ros again"
    )


def prepare_environment(dds_profile: bool = True) -> None:
    """Let this process and its children find the installed interfaces and use shared memory.

    Prepend the interpreter's prefix to ``AMENT_PREFIX_PATH`` if ROS packages are installed there,
    as the ROS 2 wheels are. Set this package's Fast DDS profile for images, unless the user has set
    another one or ``SGNET_DDS_PROFILE=none``. Call this before ``rclpy.init``.

    Args:
        dds_profile: False sets no profile.
    """
    prefixes = [path for path in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if path]
    if sys.prefix not in prefixes and Path(sys.prefix, "share", "ament_index").is_dir():
        prefixes = [sys.prefix, *prefixes]
        os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(prefixes)

    chosen = os.environ.get(_FAST_DDS_2) or os.environ.get(_FAST_DDS_3)
    if dds_profile and not chosen and os.environ.get(DDS_PROFILE) != "none":
        variable, path = profile_variable()
        os.environ[variable] = path


def profile_variable() -> tuple[str, str]:
    """Return the environment variable of Fast DDS's profile, and the path of this package's."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    newer = any(Path(prefix, "share", "fastdds").is_dir() for prefix in prefixes if prefix)
    small = _shared_memory_mib() < _LARGE_MIB
    path = share_file("config/fastdds_small.xml" if small else "config/fastdds.xml")
    return _FAST_DDS_3 if newer else _FAST_DDS_2, str(path)


def _shared_memory_mib() -> float:
    """Return the size of /dev/shm in MiB; infinity if there is no /dev/shm."""
    try:
        found = os.statvfs("/dev/shm")
    except (OSError, AttributeError):
        return math.inf
    return found.f_blocks * found.f_frsize / 2**20
