"""The build of colcon: CMake builds the Python packages and the messages into one prefix."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("ament_package", reason="needs ament, of a ROS 2 distribution or its wheels")

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake"),
]

REPORT = """
import json, sys
import sgnet_core.models.model_file, sgnet_msgs.msg, sgnet_ros
from importlib.metadata import entry_points
from sgnet_ros.system.environment import share_file
sgnet_msgs.msg.FrameStats(age_ms=1.5)  # loads the libraries
print(json.dumps({
    "files": [m.__file__ for m in (sgnet_core, sgnet_msgs, sgnet_ros)],
    "weights": sgnet_core.models.model_file.default_model_path().is_file(),
    "launch": str(share_file("launch/sgnet.launch.py")),
    "recordings": [e.value for e in entry_points(group="sgnet.recordings")],
}))
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install as `colcon build` does; return the prefix."""
    build, prefix = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("prefix")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    environment = {**os.environ, "AMENT_PREFIX_PATH": prefixes}
    configure = ["-S", str(ROOT), "-B", str(build), f"-DCMAKE_INSTALL_PREFIX={prefix}"]
    configure += [f"-DPython3_EXECUTABLE={sys.executable}", "-Wno-dev"]
    configure += [f"-DCMAKE_PREFIX_PATH={prefixes.replace(os.pathsep, ';')}"]
    for arguments in (configure, ["--build", str(build)], ["--install", str(build)]):
        result = subprocess.run(
            ["cmake", *arguments], env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
    return prefix


def test_both_packages_are_found_in_the_prefix(prefix: Path) -> None:
    index = prefix / "share/ament_index/resource_index"

    assert {path.name for path in (index / "packages").iterdir()} == {"sgnet_ros", "sgnet_msgs"}
    assert "msg/FrameStats.msg" in (index / "rosidl_interfaces/sgnet_msgs").read_text().split()
    assert (prefix / "share/sgnet_msgs/msg/FrameStats.msg").is_file()
    for name in ("sgnet", "sgnet_camera", "sgnet_replay_eval"):
        assert os.access(prefix / "lib/sgnet_ros" / name, os.X_OK)
    hooks = (prefix / "share/sgnet_ros/local_setup.dsv").read_text()
    for variable in ("ament_prefix_path", "library_path", "pythonpath"):
        assert f"environment/{variable}.sh" in hooks


def test_the_installed_packages_run_without_the_checkout(prefix: Path, tmp_path: Path) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (site,) = prefix.glob(f"**/{version}/*-packages")
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "AMENT_PREFIX_PATH": f"{prefix}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}",
        "LD_LIBRARY_PATH": os.pathsep.join(
            [str(prefix / "lib"), sysconfig.get_path("data") + "/lib"]
            + [path for path in [os.environ.get("LD_LIBRARY_PATH")] if path]
        ),
    }
    result = subprocess.run(
        [sys.executable, "-c", REPORT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert all(Path(file).is_relative_to(site) for file in report["files"])
    assert report["weights"]
    assert report["launch"] == str(prefix / "share/sgnet_ros/launch/sgnet.launch.py")
    assert "sgnet_ros.recordings.bag_source:BagSource" in report["recordings"]
