"""Data sets by name, and the plain folder: values as in the files, errors that name the file."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from sgnet_core.data.catalog import open_dataset
from sgnet_core.data.datasets.folder import read_camera, read_classes
from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics
from sgnet_core.models.labels import NYU40
from sgnet_core.models.sgnet import MODELS, SGNetConfig
from sgnet_core.training.config import load_config
from write_files import change_files, save, write_json

CONFIGS = Path(__file__).parents[4] / "config" / "train"

SIZE = (1, 1)  # of rooms; means nothing to frames in files
H, W = 6, 8
OPTICS = {"width": W, "height": H, "fx": 7.0, "fy": 7.5, "cx": 3.25, "cy": 2.5}


def random_frame(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Color, millimeters with a hole, ids 0..4."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (H, W, 3), np.uint8)
    millimeters = rng.integers(500, 9000, (H, W)).astype(np.uint16)
    millimeters[0, 0] = 0
    return rgb, millimeters, rng.integers(0, 5, (H, W)).astype(np.uint8)


def plain_folder(folder: Path, names: tuple[str, ...] = ("a", "b", "c")) -> Path:
    for seed, name in enumerate(names):
        rgb, millimeters, ids = random_frame(seed)
        save(folder / "rgb" / f"{name}.png", rgb)
        save(folder / "depth" / f"{name}.png", millimeters)
        save(folder / "labels" / f"{name}.png", ids)
    write_json(folder / "camera.json", OPTICS)
    write_json(folder / "classes.json", {"names": ["wall", "floor", "desk", "chair", "robot"]})
    return folder


def assert_frame(sample: Sample, seed: int) -> None:
    """The values of `random_frame`."""
    rgb, millimeters, ids = random_frame(seed)
    np.testing.assert_array_equal(sample.rgb, rgb)
    assert sample.rgb.dtype == np.uint8
    np.testing.assert_allclose(sample.depth, millimeters / 1000, rtol=1e-6)
    assert sample.depth.dtype == np.float32 and sample.depth[0, 0] == 0
    np.testing.assert_array_equal(sample.labels, ids)
    assert sample.labels.dtype == np.uint8


def test_a_plain_folder_gives_exactly_what_its_files_hold(tmp_path: Path) -> None:
    samples, classes = open_dataset(str(plain_folder(tmp_path / "mine")), SIZE)
    assert len(samples) == 3
    for index in range(3):
        assert_frame(samples[index], index)
    assert samples[0].intrinsics == Intrinsics(7.0, 7.5, 3.25, 2.5, W, H)
    assert classes.names == ("wall", "floor", "desk", "chair", "robot") and classes.name == "mine"


def test_jpeg_color_and_float_depth(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path, ("a",))
    (folder / "rgb" / "a.png").unlink()
    (folder / "depth" / "a.png").unlink()
    save(folder / "rgb" / "a.jpg", np.full((H, W, 3), 90, np.uint8))
    meters = np.full((H, W), 2.5, np.float64)
    meters[0] = (np.nan, np.inf, -1, 0, 1, 2, 3, 4)
    save(folder / "depth" / "a.npy", meters)
    sample = open_dataset(str(folder), SIZE)[0][0]
    assert abs(int(sample.rgb[2, 2, 1]) - 90) <= 1
    assert sample.depth.dtype == np.float32
    assert sample.depth[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4] and sample.depth[1, 1] == 2.5


def test_depth_scale_and_one_camera_per_image(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path)
    write_json(folder / "camera.json", {**OPTICS, "depth_scale": 0.0002})
    write_json(folder / "cameras" / "b.json", {**OPTICS, "fx": 9.0})
    samples, _ = open_dataset(str(folder), SIZE)
    np.testing.assert_allclose(samples[0].depth, random_frame(0)[1] / 5000, rtol=1e-6)
    np.testing.assert_allclose(samples[1].depth, random_frame(1)[1] / 1000, rtol=1e-6)
    assert [samples[i].intrinsics.fx for i in range(3)] == [7.0, 9.0, 7.0]


def test_ids_of_ones_own_become_classes_from_zero(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path, ("a",))
    ids = np.array([[10, 20, 200, 255, 0, 3, 20, 10]] * H, np.uint8)
    save(folder / "labels" / "a.png", ids)
    write_json(
        folder / "classes.json",
        {
            "name": "lab",
            "ids": [20, 10, 3],
            "names": ["table", "robot", "cable"],
            "colors": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
            "ignore": [0, 200],
        },
    )
    samples, classes = open_dataset(str(folder), SIZE)
    assert samples[0].labels[0].tolist() == [1, 0, 255, 255, 255, 2, 0, 1]
    assert (classes.name, classes.names) == ("lab", ("table", "robot", "cable"))
    assert classes.colors == ((1, 2, 3), (4, 5, 6), (7, 8, 9))


def test_a_built_in_set_by_name(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path)
    write_json(folder / "classes.json", "nyu40")
    assert open_dataset(str(folder), SIZE)[1] is NYU40


def test_splits_choose_frames_in_their_order(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path)
    (folder / "splits").mkdir()
    (folder / "splits" / "train.txt").write_text("# mine\nc\n\na\n")
    (folder / "splits" / "val.txt").write_text("b\n")
    samples, _ = open_dataset(f"{folder}:train", SIZE)
    assert len(samples) == 2
    assert_frame(samples[0], 2)
    assert_frame(samples[1], 0)
    assert len(open_dataset(f"{folder}:val", SIZE)[0]) == 1
    assert len(open_dataset(str(folder), SIZE)[0]) == 3


def test_a_split_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path, ("küche 1", "bad"))
    (folder / "splits").mkdir()
    (folder / "splits" / "val.txt").write_text("küche 1\r\n", encoding="utf-8-sig")
    samples, _ = open_dataset(f"{folder}:val", SIZE)
    assert_frame(samples[0], 0)


def test_a_data_set_travels_to_a_worker_process(tmp_path: Path) -> None:
    samples, _ = open_dataset(str(plain_folder(tmp_path)), SIZE)
    assert_frame(pickle.loads(pickle.dumps(samples))[1], 1)


@pytest.mark.parametrize(
    ("files", "named", "reason"),
    [
        ({"rgb/b.png": 60}, "rgb/b.png", "truncated|broken|cannot read"),
        ({"depth/b.png": 60}, "depth/b.png", "truncated|broken|cannot read"),
        ({"labels/b.png": 60}, "labels/b.png", "truncated|broken|cannot read"),
        ({"depth/b.png": np.zeros((H, W), np.uint8)}, "depth/b.png", "8-bit"),
        ({"labels/b.png": np.zeros((H, W, 3), np.uint8)}, "labels/b.png", "RGB"),
        ({"depth/b.png": np.ones((H, W + 1), np.uint16)}, "depth/b.png", "9x6.*8x6"),
        ({"labels/b.png": np.full((H, W), 77, np.uint8)}, "labels/b.png", "77"),
        ({"rgb/b.png": np.ones((H, W), np.uint16)}, "rgb/b.png", "not 8-bit"),
        (
            {"depth/b.png": None, "depth/b.npy": np.array([{}], object)},
            *("depth/b.npy", "holds Python objects"),
        ),
        ({"cameras/b.json": {**OPTICS, "width": 640}}, "cameras/b.json", "640x6.*8x6"),
    ],
)
def test_a_damaged_file_is_named_when_its_frame_is_read(
    tmp_path: Path, files: dict[str, object], named: str, reason: str
) -> None:
    folder = plain_folder(tmp_path)
    change_files(folder, files)
    samples, _ = open_dataset(str(folder), SIZE)
    assert_frame(samples[0], 0)
    with pytest.raises(ValueError, match=reason) as error:
        samples[1]
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("files", "named", "reason"),
    [
        ({"depth/b.png": None}, "depth/b(.png|.npy)", "does not exist.*prepare check"),
        ({"labels/b.png": None}, "labels/b.png", "does not exist"),
        ({"camera.json": None}, "camera.json", "intrinsics.*2 more"),
        ({"classes.json": None}, "classes.json", "does not exist"),
        ({f"rgb/{name}.png": None for name in "abc"}, "rgb", "no image"),
        ({"depth/b.npy": np.ones((H, W))}, "depth/b.npy", "keep one"),
        ({"classes.json": "{"}, "classes.json", "cannot read"),
        ({"classes.json": '"nyu41"'}, "classes.json", "nyu41.*nyu40"),
        ({"classes.json": {"names": ["a", "b"], "ids": [1]}}, "classes.json", "2 names"),
        (
            {"classes.json": {"names": ["a", "b"], "ids": [0, 1], "ignore": 0}},
            *("classes.json", "both a class and ignored"),
        ),
        ({"classes.json": {"names": ["a", "b"], "ids": [0, 256]}}, "classes.json", "0..255"),
        ({"classes.json": {"names": ["a", "b"], "ids": [0.5, 1]}}, "classes.json", "0..255"),
        ({"camera.json": {**OPTICS, "depth_sclae": 0.001}}, "camera.json", "depth_sclae"),
        ({"camera.json": {"fx": 1, "fy": 1}}, "camera.json", "lacks width, height, cx, cy"),
        ({"camera.json": {**OPTICS, "fx": 0}}, "camera.json", "focal"),
    ],
)
def test_what_is_missing_is_named_when_the_folder_is_opened(
    tmp_path: Path, files: dict[str, object], named: str, reason: str
) -> None:
    folder = plain_folder(tmp_path)
    change_files(folder, files)
    with pytest.raises(DatasetError, match=reason) as error:
        open_dataset(str(folder), SIZE)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("split", "text", "reason"),
    [
        ("val", "", r"splits/val.txt is empty"),
        ("val", "# none yet\n", r"splits/val.txt is empty"),
        ("val", "\udcff\n", r"cannot read the list .*splits/val.txt"),
        ("val", "nowhere\n", r"splits/val.txt names 'nowhere'"),
        ("test", "a\n", r"no split 'test'; there is: val"),
    ],
)
def test_a_split_in_disorder_is_named(tmp_path: Path, split: str, text: str, reason: str) -> None:
    folder = plain_folder(tmp_path)
    (folder / "splits").mkdir()
    (folder / "splits" / "val.txt").write_text(text, errors="surrogateescape")
    with pytest.raises(DatasetError, match=reason):
        open_dataset(f"{folder}:{split}", SIZE)


def test_rooms_by_name() -> None:
    rooms, classes = open_dataset("rooms:3:2", (24, 32))
    assert len(rooms) == 2 and classes is NYU40
    assert rooms[1].rgb.shape == (24, 32, 3)
    assert len(open_dataset("rooms:3", (24, 32))[0]) > 10**9


@pytest.mark.parametrize("name", ["rooms:", "rooms:x", "rooms:1:0", "rooms:1:2:3", "rooms:-1:4"])
def test_other_names_of_rooms_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="rooms:SEED"):
        open_dataset(name, (24, 32))


def test_an_unknown_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is empty") as error:
        open_dataset(str(tmp_path), SIZE)
    for expected in (str(tmp_path), "rgb/", "leftImg8bit/", "SUNRGBDtoolbox/", "Label/", "train*"):
        assert expected in str(error.value)
    (tmp_path / "readme").touch()
    with pytest.raises(DatasetError, match="is not a data set"):
        open_dataset(str(tmp_path), SIZE)
    (tmp_path / "nyu_depth_v2_labeled.mat").touch()
    with pytest.raises(DatasetError, match="prepare nyuv2"):
        open_dataset(str(tmp_path), SIZE)
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(str(tmp_path / "elsewhere:train"), SIZE)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_training_configuration_is_valid_and_names_a_model(path: Path) -> None:
    config = load_config(path)
    assert config.model in MODELS
    SGNetConfig.from_dict({**MODELS[config.model], **config.architecture})
    assert config.train != config.validation


def test_the_files_that_the_documentation_shows_are_valid(tmp_path: Path) -> None:
    text = (CONFIGS.parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    camera, built_in, own = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "file.json"
    path.write_text(camera)
    assert read_camera(path).intrinsics.width == 640
    path.write_text(built_in)
    assert read_classes(path).label_set is NYU40
    path.write_text(own)
    classes = read_classes(path)
    assert classes.label_set.names == ("floor", "table", "robot")
    assert classes.table[[0, 1, 2, 7, 255]].tolist() == [255, 0, 1, 2, 255]
