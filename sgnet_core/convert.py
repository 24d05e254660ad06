"""Convert a checkpoint released by the authors of SGNet to a model file.

python -m sgnet_core.convert RELEASED.pth OUT.safetensors
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from sgnet_core.geometry.spatial import SPATIAL_CHANNELS
from sgnet_core.models.checkpoints import read_checkpoint
from sgnet_core.models.model_file import ModelFileError, save_model
from sgnet_core.models.released import convert_state_dict


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or exit with 2 and one line on stderr for an error."""
    parser = argparse.ArgumentParser(
        prog="python -m sgnet_core.convert",
        description="Convert a checkpoint released by the authors of SGNet to a model file. The "
        "variant is recognized from the keys; no code in the checkpoint is run.",
    )
    parser.add_argument("released", metavar="RELEASED.pth", help="the released .pth or .pth.tar")
    parser.add_argument("out", metavar="OUT.safetensors", help="the model file to write")
    parser.add_argument(
        "--spatial",
        choices=[kind for kind, channels in SPATIAL_CHANNELS.items() if channels],
        help="spatial input with which the checkpoint was trained; required if its S-Convs read "
        "three channels",
    )
    args = parser.parse_args(argv)
    try:
        state, record = read_checkpoint(args.released)
        record["converted_from"] = os.path.basename(args.released)
        model = convert_state_dict(state, record, args.spatial)
        save_model(model, args.out)
    except ModelFileError as error:
        parser.exit(2, f"convert: {error}\n")
    except ValueError as error:
        parser.exit(2, f"convert: {args.released}: {error}\n")
    except OSError as error:
        parser.exit(2, f"convert: cannot write {args.out}: {error.strerror or error}\n")
    count = sum(p.numel() for p in model.parameters())
    print(f"{args.out}: {model.info.name}, {len(model.info.labels)} classes, {count / 1e6:.1f} M")
    return 0


if __name__ == "__main__":
    sys.exit(main())
