"""Write the figures of ``make gpu`` into docs/benchmarks.md, between its two GPU marks.

    python tools/gpu_docs.py --report out/gpu/report.json

The records are also written to ``docs/benchmarks/gpu.json``. Reports of other devices are refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from page_marks import replaced
from sgnet_core.benchmark.__main__ import table
from sgnet_core.benchmark.measure import Record

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
RECORDS = ROOT / "docs" / "benchmarks" / "gpu.json"
MARK = "gpu"


def section(report: Mapping[str, Any]) -> str:
    """Format a report as the text between the marks.

    Raises:
        ValueError: a record was not measured on a GPU, or there is none.
    """
    records = [Record(**record) for record in report["records"]]
    if not records or any(record.device != "cuda" for record in records):
        raise ValueError("the report is not of a GPU: run make gpu on a machine with one")
    lines = ["```", table(records), "```"]
    for part in report["parts"]:
        if part["status"] != "passed":
            lines += ["", f"Part `{part['name']}` did not pass: {part['status']}."]
        elif part["name"] in ("tiles", "resources", "compile"):
            lines += ["", f"`{part['command']}`:", "", "```", part["tail"], "```"]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 for a report that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python tools/gpu_docs.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = ROOT / "out" / "gpu" / "report.json"
    parser.add_argument("--report", type=Path, default=default, metavar="F")
    args = parser.parse_args(argv)
    try:
        report = json.loads(args.report.read_bytes())
        page = replaced(PAGE.read_text(), MARK, section(report))
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.exit(2, f"gpu_docs: {args.report}: {error}\n")
    PAGE.write_text(page)
    RECORDS.write_text(json.dumps(report["records"], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
