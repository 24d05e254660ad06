"""Print what has to be installed before `make setup` can run.

Any Python may run this file, so it uses only syntax and modules of old versions, too.
"""

import os
import re
import shutil
import sys
import sysconfig


def allowed_versions():
    """Return the lower (included) and upper (excluded) Python version of setup.py as tuples."""
    with open(os.path.join(os.path.dirname(__file__), "..", "setup.py")) as file:
        low, high = re.search(r'python_requires=">=([\d.]+),<([\d.]+)"', file.read()).groups()
    return tuple(map(int, low.split("."))), tuple(map(int, high.split(".")))


def missing_packages():
    """Return the missing packages by their names in Debian and Ubuntu."""
    packages = []
    if not shutil.which("cmake"):
        packages.append("cmake")
    if not any(map(shutil.which, [(os.environ.get("CXX") or "c++").split()[0], "g++", "clang++"])):
        packages.append("g++")
    python = "python{}.{}".format(*sys.version_info)
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        packages.append(python + "-venv")
    if not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")):
        packages.append(python + "-dev")
    return packages


def main():
    """Exit with a message if this machine cannot run `make setup`."""
    low, high = allowed_versions()
    if not low <= sys.version_info[:2] < high:
        sys.exit(
            "{} is Python {}.{}; this needs {}.{} up to, not including, {}.{}: "
            "name one with PYTHON=".format(sys.executable, *sys.version_info[:2], *low, *high)
        )
    packages = missing_packages()
    if packages:
        sys.exit("Build tools are missing: sudo apt install " + " ".join(packages))
    if os.environ.get("ROS_DISTRO"):
        try:
            import rclpy  # noqa: F401
        except ImportError as error:
            sys.exit(
                "ROS_DISTRO is {}, but {} cannot import rclpy ({}): "
                "name the distribution's Python with PYTHON=".format(
                    os.environ["ROS_DISTRO"], sys.executable, error
                )
            )


if __name__ == "__main__":
    main()
