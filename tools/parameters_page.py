"""Writes docs/parameters.md from the node's descriptions; `--check`: is the page up to date?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from rcl_interfaces.msg import ParameterDescriptor

from sgnet_ros.node.parameters import DESCRIPTORS, Settings

PAGE = Path(__file__).parent.parent / "docs" / "parameters.md"

HEAD = """# Parameters of the node

Set in a file (`--params-file config/sgnet.yaml`), on the command line (`-p slop:=0.03`), or, where
the table says so, while the node runs (`ros2 param set /sgnet overlay_alpha 0.3`). A value that
cannot be used is refused with the reason.

| name | default | range | changes | |
|---|---|---|---|---|
"""


def page() -> str:
    """The page in Markdown."""
    defaults = asdict(Settings())
    return HEAD + "".join(_row(name, defaults[name], DESCRIPTORS[name]) for name in defaults)


def _row(name: str, default: object, descriptor: ParameterDescriptor) -> str:
    ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
    allowed = f"{ranges[0].from_value:g} to {ranges[0].to_value:g}" if ranges else ""
    shown = f"`{_yaml(default)}`"
    text, changes = descriptor.description, "read-only" if descriptor.read_only else "live"
    for sentence, word in (
        (" Live.", "live"),
        (" Takes effect when the node is configured and on ~/reload.", "on `~/reload`"),
    ):
        if text.endswith(sentence):
            text, changes = text.removesuffix(sentence), word
    limits = allowed or descriptor.additional_constraints
    return f"| `{name}` | {shown if str(default) else 'empty'} | {limits} | {changes} | {text} |\n"


def _yaml(value: object) -> str:
    """As it is written in a parameter file."""
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> int:
    """Exit status 1 if `--check` finds the page out of date."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE} is out of date: python tools/parameters_page.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
