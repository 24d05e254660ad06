"""Handle of the process that evaluates one bag."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgnet_ros.system.processes import Child


class BagProcess:
    """A process that evaluates a bag with a node of its own.

    Args:
        bag: path of the bag.
        domain: DDS domain of the process and its node.
        arguments: arguments of `add_arguments`.
        folder: folder to create, for the result and the logs.

    Attributes:
        child: the process.
        done: number of frames played so far.
        of: number of frames in the bag; 0 before the first report.
    """

    def __init__(self, bag: Path, domain: int, arguments: Sequence[str], folder: Path) -> None:
        folder.mkdir()
        self.bag, self.domain, self._folder = bag, domain, folder
        os.environ["ROS_DOMAIN_ID"] = str(domain)  # for the child
        arguments = [str(bag), "--out", str(folder), *arguments]
        self.child = Child("sgnet_ros.replay_eval.bag", arguments, folder)
        self.done, self.of = 0, 0

    def poll(self) -> list[str]:
        """Read the progress; return the warnings since the last call."""
        warnings = []
        for line in self.child.new_lines():
            if line.startswith("{"):
                progress = json.loads(line)
                self.done, self.of = progress["done"], progress["of"]
            elif line.startswith("["):
                warnings.append(f"{self.bag}: {line}")
        return warnings

    def result(self) -> dict[str, Any] | str:
        """Return the result, or the reason why there is none."""
        try:
            result: dict[str, Any] = json.loads((self._folder / "result.json").read_text())
            return result
        except FileNotFoundError:
            _, found, reason = self.child.log.read_text(errors="replace").rpartition("Error: ")
            return reason.strip() if found else self.child.tail()
