"""Layout of both packages: their components (folders and top-level modules) in layers.

A component may import those of lower layers of its package, and those of its own layer that an
entry of `ARROWS` allows. Every component of `sgnet_ros` may import `sgnet_core`, never the reverse.
"""

from __future__ import annotations

from typing import NamedTuple


class Component(NamedTuple):
    """A folder or a top-level module of a package.

    Attributes:
        name: name of the folder, with a slash at its end, or of the module.
        text: description of the contents.
        folders: folders inside it, separated by spaces.
    """

    name: str
    text: str
    folders: str = ""


class Layer(NamedTuple):
    """Components that are drawn side by side."""

    name: str
    components: tuple[Component, ...]


class Package(NamedTuple):
    """A package, with its layers from top to bottom."""

    name: str
    text: str
    layers: tuple[Layer, ...]


PACKAGES = (
    Package(
        "sgnet_ros",
        "knows ROS 2; asks sgnet_core one question per frame",
        (
            Layer(
                "commands",
                (
                    Component("demo/", "camera, node and observer"),
                    Component("replay_eval/", "score bags", "templates"),
                    Component("soak/", "inject faults for many frames"),
                    Component("view/", "live viewer"),
                    Component("camera", "publish rooms, folders and bags"),
                    Component("bag_export", "bag to folder"),
                    Component("bag_write", "folder to bag"),
                    Component("label_space", "classes for Hydra and Khronos"),
                ),
            ),
            Layer(
                "the node",
                (
                    Component(
                        "node/",
                        "lifecycle, inputs, synchronizer, worker, processor, publishers, "
                        "parameters, diagnostics, device health; one concern per module",
                    ),
                ),
            ),
            Layer(
                "recordings",
                (
                    Component(
                        "recordings/", "RGB-D frames from bags, folders and rooms, without ROS"
                    ),
                ),
            ),
            Layer(
                "ground",
                (
                    Component("messages/", "ROS messages as NumPy arrays without copies, and back"),
                    Component("system/", "environment, DDS domains, processes, topic names"),
                ),
            ),
        ),
    ),
    Package(
        "sgnet_core",
        "knows PyTorch, never ROS",
        (
            Layer(
                "commands",
                (
                    Component("train", ""),
                    Component("eval", ""),
                    Component("predict", ""),
                    Component("prepare", ""),
                    Component("convert", ""),
                    Component("export", ""),
                    Component("benchmark/", ""),
                ),
            ),
            Layer(
                "jobs",
                (
                    Component(
                        "training/",
                        "configuration, run, loss, optimizer, several processes, checkpoints "
                        "and resuming, log",
                    ),
                    Component(
                        "fleet/", "recordings labeled by Ray on many cores, GPUs and machines"
                    ),
                ),
            ),
            Layer(
                "use",
                (
                    Component(
                        "inference/",
                        "Segmenter: NumPy frame in, NumPy labels out; PyTorch, CUDA graphs, "
                        "ONNX Runtime, INT8",
                    ),
                    Component(
                        "evaluation/", "prediction of a data set, scores, report", "templates"
                    ),
                ),
            ),
            Layer(
                "data",
                (
                    Component(
                        "data/",
                        "samples, transforms, image files; data sets on disk; procedural rooms",
                        "datasets rooms",
                    ),
                ),
            ),
            Layer(
                "network",
                (
                    Component(
                        "models/",
                        "S-Conv, ResNet, heads, SGNet and its variants; label sets, model files, "
                        "preprocessing, precision",
                        "weights",
                    ),
                ),
            ),
            Layer(
                "math",
                (
                    Component(
                        "geometry/",
                        "intrinsics, lenses, registration, points, normals, gravity, HHA, holes",
                    ),
                    Component(
                        "ops/",
                        "deformable convolution in PyTorch, on the CPU and in Triton; resizing",
                    ),
                ),
            ),
            Layer(
                "ground",
                (
                    Component("files", "files that are complete or absent"),
                    Component("arguments", "command-line text to values"),
                    Component("plugins", "extensions of other packages by entry point"),
                ),
            ),
        ),
    ),
)

ARROWS = (
    ("sgnet_core.evaluation", "sgnet_core.inference"),
    ("sgnet_core.geometry", "sgnet_core.ops"),
)
"""Allowed imports between components of one layer."""
