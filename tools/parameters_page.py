"""Write docs/parameters.md and config/sgnet.yaml from the node's parameters; `--check` compares."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from sgnet_ros.node.parameters import CHANGES, DEFAULTS, PARAMETERS, Parameter

ROOT = Path(__file__).parent.parent

PAGE = """# Parameters of the node

Set them in a file (`--params-file config/sgnet.yaml`), on the command line (`-p slop:=0.03`), or,
where the table allows it, while the node runs (`ros2 param set /sgnet overlay_alpha 0.3`). A value
that cannot be used is refused with the reason.

| name | default | range | changes | |
|---|---|---|---|---|
"""
FILE = """# All parameters of the sgnet node, with their defaults.
#
#   python -m sgnet_ros.node --ros-args --params-file config/sgnet.yaml
#
# Written by tools/parameters_page.py from sgnet_ros/node/parameters.py.
/**:
  ros__parameters:
"""


def page() -> str:
    """Return the page in Markdown."""
    return PAGE + "".join(
        f"| `{name}` | {f'`{_yaml(DEFAULTS[name])}`' if DEFAULTS[name] != '' else 'empty'} "
        f"| {parameter.values} | {parameter.changes} | {parameter.description} |\n"
        for name, parameter in PARAMETERS.items()
    )


def file() -> str:
    """Return the parameter file in YAML."""
    entries = [
        f"{_comment(parameter)}\n    {name}: {_yaml(DEFAULTS[name])}\n"
        for name, parameter in PARAMETERS.items()
    ]
    return FILE + "\n".join(entries)


def _comment(parameter: Parameter) -> str:
    values = f" Values: {parameter.values}." if parameter.values else ""
    text = f"{parameter.description}{values} {CHANGES[parameter.changes]}"
    return textwrap.fill(text, 96, initial_indent="    # ", subsequent_indent="    # ")


def _yaml(value: object) -> str:
    """Return a value as it is written in a parameter file."""
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else str(value)


FILES = {ROOT / "docs" / "parameters.md": page, ROOT / "config" / "sgnet.yaml": file}


def main() -> int:
    """Write both files, or return 1 if `--check` finds one out of date."""
    status = 0
    for path, make in FILES.items():
        if "--check" not in sys.argv:
            path.write_text(make(), encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != make():
            print(f"{path} is out of date: python tools/parameters_page.py", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
