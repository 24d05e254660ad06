"""Layout of both packages: which folders and modules there are, and on which floor each stands.

A room may import the rooms on lower floors of its package. On one floor, imports go along an
entry of `ARROWS` only. Every room of `sgnet_ros` may import `sgnet_core`, never the reverse.
"""

from __future__ import annotations

from typing import NamedTuple


class Room(NamedTuple):
    """A folder or a top-level module of a package.

    Attributes:
        name: Name of the folder, with a slash at its end, or of the module.
        text: What is inside.
        folders: Folders inside it, separated by spaces.
    """

    name: str
    text: str
    folders: str = ""


class Floor(NamedTuple):
    """Rooms that stand side by side."""

    name: str
    rooms: tuple[Room, ...]


class Package(NamedTuple):
    """A package, its floors from the top to the ground."""

    name: str
    text: str
    floors: tuple[Floor, ...]


PACKAGES = (
    Package(
        "sgnet_ros",
        "knows ROS 2; asks sgnet_core one question per frame",
        (
            Floor(
                "commands",
                (
                    Room("demo/", "camera, node and observer"),
                    Room("replay_eval/", "score bags", "templates"),
                    Room("soak/", "inject faults for many frames"),
                    Room("view/", "live viewer"),
                    Room("camera", "publish rooms, folders and bags"),
                    Room("bag_export", "bag to folder"),
                    Room("bag_write", "folder to bag"),
                    Room("label_space", "classes for Hydra and Khronos"),
                ),
            ),
            Floor(
                "the node",
                (
                    Room(
                        "node/",
                        "lifecycle, inputs, synchronizer, worker, processor, publishers, "
                        "parameters, diagnostics, device health; one concern per module",
                    ),
                ),
            ),
            Floor(
                "recordings",
                (Room("recordings/", "RGB-D frames from bags, folders and rooms, without ROS"),),
            ),
            Floor(
                "ground",
                (
                    Room("messages/", "ROS messages as NumPy arrays without copies, and back"),
                    Room("system/", "environment, DDS domains, processes, topic names"),
                ),
            ),
        ),
    ),
    Package(
        "sgnet_core",
        "knows PyTorch, never ROS",
        (
            Floor(
                "commands",
                (
                    Room("train", ""),
                    Room("eval", ""),
                    Room("predict", ""),
                    Room("prepare", ""),
                    Room("convert", ""),
                    Room("export", ""),
                    Room("benchmark/", ""),
                ),
            ),
            Floor(
                "jobs",
                (
                    Room(
                        "training/",
                        "configuration, run, loss, optimizer, several processes, checkpoints "
                        "and resuming, log",
                    ),
                    Room("fleet/", "recordings labeled by Ray on many cores, GPUs and machines"),
                ),
            ),
            Floor(
                "use",
                (
                    Room(
                        "inference/",
                        "Segmenter: NumPy frame in, NumPy labels out; PyTorch, CUDA graphs, "
                        "ONNX Runtime, INT8",
                    ),
                    Room("evaluation/", "prediction of a data set, scores, report", "templates"),
                ),
            ),
            Floor(
                "data",
                (
                    Room(
                        "data/",
                        "samples, transforms, image files; data sets on disk; procedural rooms",
                        "datasets rooms",
                    ),
                ),
            ),
            Floor(
                "network",
                (
                    Room(
                        "models/",
                        "S-Conv, ResNet, heads, SGNet and its variants; label sets, model files, "
                        "preprocessing, precision",
                        "weights",
                    ),
                ),
            ),
            Floor(
                "math",
                (
                    Room(
                        "geometry/",
                        "intrinsics, lenses, registration, points, normals, gravity, HHA, holes",
                    ),
                    Room(
                        "ops/",
                        "deformable convolution in PyTorch, on the CPU and in Triton; resizing",
                    ),
                ),
            ),
            Floor(
                "ground",
                (
                    Room("files", "files that are complete or absent"),
                    Room("arguments", "command-line text to values"),
                    Room("plugins", "extensions of other packages by entry point"),
                    Room("plugins", "extensions that other packages offer"),
                ),
            ),
        ),
    ),
)

ARROWS = (
    ("sgnet_core.evaluation", "sgnet_core.inference"),
    ("sgnet_ros.bag_write", "sgnet_ros.camera"),
    ("sgnet_ros.demo", "sgnet_ros.camera"),
    ("sgnet_ros.replay_eval", "sgnet_ros.camera"),
)
"""Imports between rooms of one floor."""
