"""`sgnet_core.prepare rooms --ray`, with a real Ray of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'sgnet_ros[fleet]'")

from sgnet_core.prepare import main

pytestmark = pytest.mark.slow


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "rooms.json"
    }


def test_rooms_on_ray_are_those_of_the_plain_command_and_a_second_run_does_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, out = tmp_path / "plain", tmp_path / "ray"

    def rooms(folder: Path, seed: int, *options: str) -> int:
        fixed = ["--seed", str(seed), "--count", "18", "--size", "32x24", "--out", str(folder)]
        return main(["rooms", *fixed, *options])

    assert rooms(plain, 5) == 0
    assert rooms(out, 5, "--ray") == 0
    expected = files(plain)
    assert files(out) == expected
    assert len([name for name in expected if name.startswith("labels/")]) == 18
    (out / "rgb" / "000004.png").write_bytes(b"kept")
    (out / "labels" / "000017.png").unlink()
    (out / "classes.json").unlink()
    assert rooms(out, 5, "--ray") == 0
    assert files(out) == {**expected, "rgb/000004.png": b"kept"}
    assert rooms(out, 6, "--ray") == 2
    assert "rooms.json is for other rooms" in capsys.readouterr().err
    assert rooms(plain, 5, "--ray") == 2
    assert "already contains frames" in capsys.readouterr().err
