"""The environment of a process before its first node."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sgnet_ros.system import environment
from sgnet_ros.system.environment import prepare_environment, share_file

FAST_DDS_2, FAST_DDS_3 = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set AMENT_PREFIX_PATH to a ROS 2 distribution alone."""
    for variable in (FAST_DDS_2, FAST_DDS_3):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.delenv("SGNET_DDS_PROFILE", raising=False)
    monkeypatch.setattr(environment, "_shared_memory_mib", lambda: 1000.0)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    return tmp_path


@pytest.mark.parametrize(
    ("package", "variable", "other"),
    [("fastrtps", FAST_DDS_2, FAST_DDS_3), ("fastdds", FAST_DDS_3, FAST_DDS_2)],
)
def test_the_profile_is_set_in_the_variable_of_the_installed_fast_dds(
    prefix: Path, package: str, variable: str, other: str
) -> None:
    (prefix / "share" / package).mkdir(parents=True)
    prepare_environment()
    assert os.environ[variable] == str(share_file("config/fastdds.xml"))
    assert not os.environ[other], "newer ones warn of it"


def test_a_profile_of_the_user_is_kept(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAST_DDS_2, "mine.xml")
    (prefix / "share" / "fastdds").mkdir(parents=True)
    prepare_environment()
    assert os.environ[FAST_DDS_2] == "mine.xml"
    assert not os.environ[FAST_DDS_3]


def test_packages_beside_the_interpreter_are_found_first_and_once(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = Path(sys.prefix)
    (python / "share" / "ament_index").mkdir(parents=True)
    for _ in range(2):
        prepare_environment()
        assert os.environ["AMENT_PREFIX_PATH"] == os.pathsep.join([str(python), str(prefix)])


def test_a_small_shared_memory_gets_the_small_profile(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_shared_memory_mib", lambda: 64.0)
    prepare_environment()
    assert os.environ[FAST_DDS_2] == str(share_file("config/fastdds_small.xml"))


def test_the_profile_can_be_left_out(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_environment(dds_profile=False)
    assert not os.environ[FAST_DDS_2]
    monkeypatch.setenv("SGNET_DDS_PROFILE", "none")
    prepare_environment()
    assert not os.environ[FAST_DDS_2]


@pytest.mark.parametrize(("name", "mib"), [("fastdds", 32), ("fastdds_small", 8)])
def test_a_profile_has_the_documented_segment_size(name: str, mib: int) -> None:
    profile = ElementTree.parse(share_file(f"config/{name}.xml")).getroot()
    (size,) = (e.text for e in profile.iter() if e.tag.endswith("segment_size"))
    (message,) = (e.text for e in profile.iter() if e.tag.endswith("maxMessageSize"))
    assert int(size) == mib * 2**20
    assert 1920 * 1080 * 3 < int(message) <= int(size)


@pytest.mark.parametrize("name", ["fastdds", "fastdds_small"])
def test_a_profile_keeps_udp_beside_shared_memory(name: str) -> None:
    root = ElementTree.parse(share_file(f"config/{name}.xml")).getroot()
    namespace = {"dds": root.tag.partition("}")[0].strip("{")}
    transports = {
        transport.findtext("dds:type", namespaces=namespace): transport.findtext(
            "dds:transport_id", namespaces=namespace
        )
        for transport in root.iterfind(".//dds:transport_descriptor", namespace)
    }
    in_use = [e.text for e in root.iterfind(".//dds:userTransports/dds:transport_id", namespace)]
    assert set(transports) == {"SHM", "UDPv4"}
    assert set(in_use) == set(transports.values())
