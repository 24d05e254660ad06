"""The make targets install the right packages in the right order, and only once.

Scripts that record how they are called replace Python and CMake.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/bin/sh
echo "python $*" >> "$CALLS"
case "$*" in
  "-m venv "*)
    for prefix; do :; done
    mkdir -p "$prefix/bin" && cp "$0" "$prefix/bin/python"
    touch "$prefix/bin/sgnet" ;;
  *numpy.__version__*) echo 1.26.4 ;;
esac
"""
CMAKE = '#!/bin/sh\necho "cmake $*" >> "$CALLS"\n'

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make here")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Project:
    """A copy of the project's setup files, with stand-ins for Python and CMake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        for name in (
            "Makefile",
            "setup.py",
            "setup.cfg",
            "package.xml",
            "msg",
            "tools",
            "config",
            "launch",
            "resource",
        ):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            self.folder.mkdir(exist_ok=True)
            copy(ROOT / name, self.folder / name)
        self.venv = folder / "venv"
        self.calls = folder / "calls"
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "VENV": str(self.venv),
            "PYTHON": str(script(folder / "bin" / "stand_in_python", PYTHON)),
        }
        script(folder / "bin" / "cmake", CMAKE)

    def make(self, *arguments: str, **environment: str) -> list[str]:
        """Run make and return the calls of Python and CMake that it made."""
        self.calls.write_text("")
        self.output(*arguments, **environment)
        return self.calls.read_text().splitlines()

    def output(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        """Run make and return what it prints."""
        done = subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert bool(done.returncode) == fails, done.stdout
        return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def installs(calls: list[str]) -> list[str]:
    return [call for call in calls if " install " in call]


def test_torch_and_torchvision_are_installed_as_a_pair_from_the_given_index(project) -> None:
    wanted = re.findall(r'^ +"(torch(?:vision)?>=.*)",$', (ROOT / "setup.py").read_text(), re.M)
    assert len(wanted) == 2

    pair, rest = installs(project.make("setup", "TORCH_INDEX=file:///wheels"))[:2]

    assert pair.endswith(f"--index-url file:///wheels {wanted[0]} {wanted[1]}")
    assert rest.endswith("--editable .[ros,bags,data,train,onnx,dev]")
    assert "wheels" not in rest


def test_a_second_run_installs_nothing(project) -> None:
    first = project.make("setup")
    assert first[0] == "python tools/check_setup.py"
    assert len(installs(first)) == 2
    assert sum(call.startswith("cmake --install") for call in first) == 1

    assert project.make("setup") == []
    (project.folder / "Makefile").touch()  # as after a new clone over the same environment
    (project.folder / "setup.py").touch()
    assert project.make("setup") == []


def test_changed_messages_are_built_again_and_nothing_else(project) -> None:
    project.make("setup")
    with (project.folder / "msg" / "msg" / "ClassMap.msg").open("a") as file:
        file.write("uint8 more\n")

    calls = project.make("setup")

    assert installs(calls) == []
    assert sum(call.startswith("cmake -S msg") for call in calls) == 1


def test_changed_dependencies_are_installed(project) -> None:
    project.make("setup")
    with (project.folder / "setup.py").open("a") as file:
        file.write("# more\n")

    assert len(installs(project.make("setup"))) == 2


def test_a_sourced_distribution_takes_the_place_of_the_wheels(project) -> None:
    calls = project.make("setup", ROS_DISTRO="jazzy", AMENT_PREFIX_PATH="/opt/a:/opt/b")

    assert any("-m venv --system-site-packages" in call for call in calls)
    pair, rest = installs(calls)
    assert " numpy==1.26.4 " in pair
    assert rest.endswith(" numpy==1.26.4 --editable .[bags,data,train,onnx,dev]")
    configure = next(call for call in calls if call.startswith("cmake -S msg"))
    assert "-DCMAKE_PREFIX_PATH=/opt/a;/opt/b" in configure
    assert f"-DCMAKE_INSTALL_PREFIX={project.venv}" in configure


def test_the_environment_is_laid_out_as_ros_looks_for_it(project) -> None:
    project.make("setup")

    share = project.venv / "share"
    assert (share / "sgnet_ros/config/fastdds.xml").read_text().startswith("<?xml")
    assert (share / "sgnet_ros/package.xml").is_file()
    assert (share / "ament_index/resource_index/packages/sgnet_ros").is_file()
    assert (project.venv / "lib/sgnet_ros/sgnet").is_file()


def test_make_demo_passes_only_the_given_variables(project) -> None:
    project.make("setup")

    (plain,) = project.make("demo")
    (full,) = project.make(
        "demo",
        "SOURCE=a b",
        "RATE=5",
        "SECONDS=9",
        "SIZE=320x240",
        "DEVICE=cpu",
        "MODEL=m",
        "VIEW=1",
    )

    assert plain == "python -m sgnet_ros.demo --out out/demo"
    assert full == (
        f"{plain} --source a b --rate 5 --seconds 9 --size 320x240 --device cpu --model m --view"
    )


def test_make_soak_passes_only_the_given_variables(project) -> None:
    project.make("setup")

    (plain,) = project.make("soak")
    (full,) = project.make("soak", "FRAMES=300", "DEVICE=cuda")

    assert plain == "python -m sgnet_ros.soak --out out/soak"
    assert full == f"{plain} --frames 300 --device cuda"


def test_make_gpu_train_passes_only_the_given_variables(project) -> None:
    project.make("setup")

    (plain,) = project.make("gpu-train")
    (full,) = project.make("gpu-train", "CONFIG=a.yaml", "MINUTES=3", "DEVICE=cpu")

    assert plain == "python tools/gpu_train.py"
    assert full == f"{plain} --config a.yaml --minutes 3 --device cpu"


LINT = ["python -m ruff check", "python -m ruff format --check", "python -m mypy"]
FAST = "python -m pytest -m not slow -n logical --maxprocesses 8 --dist worksteal"
RAY = re.search(r'"fleet": \["(ray>=.*)"\]', (ROOT / "setup.py").read_text())[1]
SLOW = [
    f"python -m pip --disable-pip-version-check install --quiet {RAY}",
    "python -m pytest -m slow",
]


def test_test_runs_style_types_and_fast_tests_and_test_all_the_slow_ones_with_ray_too(
    project,
) -> None:
    project.make("setup")

    assert project.make("test") == [*LINT, FAST]
    assert project.make("test-all") == [*LINT, FAST, *SLOW]


def test_warnings_of_pip_stay_in_a_log(project) -> None:
    warn = 'case "$*" in *install*) echo "WARNING: odd" >&2 ;; esac\n'
    script(Path(project.environment["PYTHON"]), PYTHON + warn)

    assert "odd" not in project.output("setup")
    assert (project.venv / "pip.log").read_text() == "WARNING: odd\n"


def test_the_output_of_pip_is_shown_when_it_fails(project) -> None:
    fail = 'case "$*" in *install*) echo "ERROR: no such package" >&2; exit 1 ;; esac\n'
    script(Path(project.environment["PYTHON"]), PYTHON + fail)

    assert "ERROR: no such package" in project.output("setup", fails=True)


def test_each_step_of_a_first_run_is_announced(project) -> None:
    lines = project.output("setup").splitlines()

    assert [line[:5] for line in lines] == ["[1/3]", "[2/3]", "[3/3]"]


def test_commands_are_printed_on_one_line(project) -> None:
    project.make("setup")

    assert project.output("demo", "SIZE=320x240").split() == [
        *(f"{project.venv}/bin/python", "-m", "sgnet_ros.demo", "--out", "out/demo"),
        *("--size", "'320x240'"),
    ]


def test_a_missing_tool_gets_one_line_that_says_what_to_install(tmp_path) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "check_setup.py"],
        env={"PATH": str(tmp_path), "CXX": "", "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 1
    assert result.stderr == ("Build tools are missing: sudo apt install cmake g++\n")


def test_a_python_that_is_too_old_is_named_with_the_remedy(tmp_path) -> None:
    code = (
        "import sys, runpy; sys.version_info = (3, 9, 2); "
        f"runpy.run_path({str(ROOT / 'tools' / 'check_setup.py')!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "is Python 3.9; this needs 3.10 up to, not including, 3.15" in result.stderr
    assert "PYTHON=" in result.stderr


def test_a_missing_python_is_named(project) -> None:
    result = subprocess.run(
        ["make", "setup"],
        cwd=project.folder,
        env=project.environment | {"PYTHON": "python3.99"},
        capture_output=True,
        text=True,
    )

    assert result.returncode != 0
    assert "python3.99 is not there" in result.stdout + result.stderr
