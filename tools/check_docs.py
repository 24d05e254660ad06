"""Run every command of README and docs on small inputs in a scratch folder: `make docs-check`.

Every command needs a rule below, so that no new command escapes. Commands that cannot be run here,
because they need `ros2` or a second machine, for example, are printed with the reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md")
TINY = (
    "iterations=2 batch=2 size=[64,96] validate_every=2 checkpoint_every=2 warmup=1 workers=0 "
    "weights=none class_balance=0"
)


@dataclass(frozen=True)
class Rule:
    """Instructions to try the commands that match a pattern.

    Attributes:
        pattern: regular expression that is searched in the command.
        add: text to append to the command.
        replace: pairs of a text in the command and its replacement.
        seconds: time after which the command is stopped and has passed; 0 waits for its end.
        skip: reason not to run the command.
    """

    pattern: str
    add: str = ""
    replace: tuple[tuple[str, str], ...] = ()
    seconds: int = 0
    skip: str = ""


ROOMS = (("rooms:2000:200", "rooms:2000:2"), ("rooms:1000:100", "rooms:1000:2"))
RULES = (
    Rule(r"^(ros2|colcon|rosdep|source|rviz2) ", skip="needs a ROS 2 distribution"),
    Rule(r"^git |^cd |pre-commit", skip="changes the checkout"),
    Rule(r"^make ", replace=(("make ", "make --dry-run "),)),
    Rule(r"^(export|sudo|sysctl|docker|pip) ", skip="changes the machine"),
    Rule(r"pytest ", skip="is a test"),
    Rule(r"torchrun --nnodes", skip="needs several machines"),
    Rule(r"torchrun|nyuv2|sunrgbd|cityscapes", skip="needs a data set that has to be asked for"),
    Rule(r"tools/ablation", skip="takes hours; its parts are tested"),
    Rule(r"sgnet_core\.train .*own_data", add=TINY),
    Rule(r"sgnet_core\.train ", add=TINY + " train=rooms:1:4 validation=rooms:1000:2"),
    Rule(
        r"sgnet_core\.convert |sgnet_r101\.safetensors",
        skip="needs the released checkpoint; the oracle tests run it",
    ),
    Rule(r"sgnet_core\.benchmark", add="--quick"),
    Rule(
        r"sgnet_core\.prepare rooms",
        replace=(("--count 2400", "--count 4"), ("--count 200", "--count 2")),
    ),
    Rule(r"sgnet_ros\.node", seconds=20),
    Rule(r"sgnet_ros\.view|sgnet_ros\.demo .*--view", skip="needs the extra viz and a screen"),
    Rule(r"sgnet_ros\.soak", replace=(("100000", "200"),)),
    Rule(r"^(\.venv/bin/)?python -m sgnet_(core|ros)\.", replace=ROOMS),
    Rule(r"^(\.venv/bin/)?python (tools/|-c )"),
)


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and command of each line in a shell block, with continued lines joined."""
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            text = page.read_text(encoding="utf-8")
            for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
                for line in re.sub(r"\\\n\s*", "", block).splitlines():
                    command = re.sub(r"\s+#.*", "", line).strip()
                    if command and not command.startswith("#"):
                        yield str(page.relative_to(ROOT)), command


def rule_for(command: str) -> Rule | None:
    """Return the first rule whose pattern is found; None if there is none."""
    return next((rule for rule in RULES if re.search(rule.pattern, command)), None)


def main() -> int:
    """Run all commands; return 1 if one failed or has no rule."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        furnish(scratch)
        for page, command in dict.fromkeys(commands()):
            started = time.monotonic()
            outcome = attempt(command, scratch)
            failed += outcome.startswith("FAILED")
            print(
                f"{time.monotonic() - started:6.1f} s  {page}: {command}\n{'':10}{outcome}",
                flush=True,
            )
    print(f"{failed} failed" if failed else "all passed")
    return min(failed, 1)


def furnish(scratch: Path) -> None:
    """Create the files that the commands use."""
    for name in ("config", "tools", "Makefile", "setup.py", "msg", "launch"):
        (scratch / name).symlink_to(ROOT / name)
    run = "import sys; from sgnet_core.{0} import main; sys.exit(main({1!r}))"
    for folder in ("my_data", "data/mine"):
        (scratch / folder).parent.mkdir(parents=True, exist_ok=True)
        arguments = ["rooms", "--seed", "3", "--count", "6", "--size", "96x64", "--out", folder]
        _python(run.format("prepare", arguments), scratch)
        names = sorted(path.stem for path in (scratch / folder / "rgb").iterdir())
        splits = scratch / folder / "splits"
        splits.mkdir(exist_ok=True)
        (splits / "train.txt").write_text("\n".join(names[:4]) + "\n")
        (splits / "val.txt").write_text("\n".join(names[4:]) + "\n")
    first = sorted((scratch / "my_data" / "rgb").iterdir())[0]
    shutil.copy(first, scratch / "frame.png")
    shutil.copy(scratch / "my_data" / "depth" / (first.stem + ".png"), scratch / "depth.png")
    default = ROOT / "sgnet_core" / "models" / "weights" / "default.safetensors"
    for name in ("rooms/best", "third/last", "fourth/last"):
        model = scratch / "runs" / f"{name}.safetensors"
        model.parent.mkdir(parents=True)
        shutil.copy(default, model)
    shutil.copy(default, scratch / "my.safetensors")
    recorded = shutil.copytree(scratch / "my_data", scratch / "recorded")
    shutil.rmtree(recorded / "cameras")  # A recording has one camera and no labels.
    shutil.rmtree(recorded / "labels")
    _python(
        "from sgnet_ros.bag_write import main; import sys; "
        "sys.exit(main(['recorded', 'recording.mcap']))",
        scratch,
    )


def _python(code: str, scratch: Path) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=scratch, check=True, capture_output=True)


def attempt(command: str, scratch: Path) -> str:
    """Run one command and return the outcome."""
    rule = rule_for(command)
    if rule is None:
        return "FAILED: no rule in tools/check_docs.py says how to try this"
    if rule.skip:
        return f"not run: {rule.skip}"
    for old, new in rule.replace:
        command = command.replace(old, new)
    words = [*shlex.split(command), *shlex.split(rule.add)]
    if words[0] in ("python", ".venv/bin/python"):
        words[0] = sys.executable
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        words,
        cwd=scratch,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=rule.seconds or 600)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate(timeout=60)
        ended = f"ended with {process.returncode} after {rule.seconds or 600} s"
        passed = rule.seconds and process.returncode in (0, -15)
        return f"passed: {ended}" if passed else f"FAILED: {ended}\n{output[-2000:]}"
    if process.returncode:
        return f"FAILED: {process.returncode}\n{output[-2000:]}"
    return "passed"


if __name__ == "__main__":
    sys.exit(main())
