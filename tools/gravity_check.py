"""Compare the estimated direction of gravity with the one that the authors of a data set give.

python tools/gravity_check.py data/nyuv2 --rotations data/nyuv2/gravity.txt

The file of rotations has one 3x3 matrix per frame; matrix n belongs to the frame named n. As in SUN
RGB-D (Song et al., CVPR 2015), a matrix rotates camera points, written as (x, z, −y), into a
coordinate system whose third axis points up.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sgnet_core.data.catalog import open_folder
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.hha import estimated_up


def read_up(path: Path) -> NDArray[np.float64]:
    """Read (N, 3) unit vectors against gravity in the camera frame, x right, y down, z forward.

    Raises:
        ValueError: the file contains something else than 3x3 rotations.
    """
    numbers = np.loadtxt(path)
    if numbers.size % 9:
        raise ValueError(f"{path} contains {numbers.size} numbers, not 3x3 matrices")
    rotations = numbers.reshape(-1, 3, 3)
    if not np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-2):
        raise ValueError(f"{path} contains matrices that are not rotations")
    x, z, minus_y = rotations[:, 2].T
    return np.stack((x, -minus_y, z), axis=1)


def estimate(sample: Sample) -> NDArray[np.float64]:
    """Estimate the (3,) unit vector against gravity from a frame's depth."""
    depth = torch.from_numpy(sample.depth)[None, None]
    return estimated_up(depth, sample.intrinsics.parameters())[0].double().numpy()


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser("python tools/gravity_check.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="data set with frames named 1, 2, …")
    parser.add_argument("--rotations", type=Path, required=True, metavar="F")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use every N-th frame")
    args = parser.parse_args(argv)
    try:
        frames, truth = open_folder(args.folder), read_up(args.rotations)
        angles = []
        for index in tqdm(range(0, len(frames), args.every), unit="frame"):
            cosine = float(estimate(frames[index]) @ truth[int(frames.names[index]) - 1])
            angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    except (OSError, ValueError, IndexError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    median, ninety = np.percentile(angles, [50, 90])
    share = np.mean(np.asarray(angles) > 10)
    print(f"{len(angles)} frames: median {median:.2f}°, 90th percentile {ninety:.2f}°, ", end="")
    print(f"above 10° {share:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
