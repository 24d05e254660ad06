"""The configuration of training: nothing unknown gets in, and every key is documented."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from sgnet_core.train import main
from sgnet_core.training.config import TrainConfig, load_config
from sgnet_core.training.config_help import describe_keys

DOCS = Path(__file__).parents[3] / "docs" / "training.md"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rate=1", "unknown configuration key 'learning_rate'"),
        ("batchs=1", "did you mean batch"),
        ("batch=two", "batch must be of type int"),
        ("batch=0", "batch must be finite and at least 1"),
        ("accumulate=3", "batch 8 cannot be divided into 3"),
        ("lr", "write key=value"),
        ("lr=-1", "lr must be finite and at least 0"),
        ("lr=.nan", "lr must be finite and at least 0"),
        ("patience=-1", "patience must be finite and at least 0"),
        ("aux_weight=.inf", "aux_weight must be finite"),
        ("seed=4294967296", "seed must be at most 4294967295"),
        ("size=[0,320]", r"size must be \[height, width\] in pixels, got \(0, 320\)"),
        ("size=[240.5,320]", r"size must be like \[240, 320\], got \[240.5, 320\]"),
        ("size=240", r"size must be like \[240, 320\], got 240"),
        ("augment={flip: [1", r"'\{flip: \[1' is not YAML"),
        ("augment.flip=often", "flip must be of type float, got 'often'"),
        ("augment.flop=0.5", "unknown configuration key 'flop'; did you mean flip?"),
        ("augment.scale=2", r"scale must be like \[1.0, 1.0\], got 2"),
        ("augment.scale=[1,.inf]", "both positive"),
        ("label_smoothing=1", "label_smoothing must be below 1"),
        ("deterministic=1", "deterministic must be of type bool"),
        ("augment.shear=1", "unknown configuration key 'shear'"),
        ("optimizer=adam", "adamw, sgd"),
        ("precision=fp8", "fp32, bf16, fp16"),
        ("freeze_bn=head", "none, trunk, all"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(None, [override])


def test_a_value_that_has_no_entries_is_named(tiny_file: Path) -> None:
    with pytest.raises(ValueError, match=r"batch\.x=1: batch has no entries"):
        load_config(tiny_file, ["batch.x=1"])


def test_overrides_stand_anywhere_in_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lr=1e-3", "--output", str(tmp_path), "bach=2", "--device", "cpu"]) == 2
    assert "did you mean batch?" in capsys.readouterr().err


def test_overrides_win_over_the_file(tiny_file: Path) -> None:
    config = load_config(tiny_file, ["lr=3e-4", "augment.flip=0.25", "size=[64,96]"])
    assert config.lr == 3e-4
    assert config.size == (64, 96)
    assert config.augment["flip"] == 0.25
    assert config.augment["color"] == 0.2, "the rest of the mapping stays"


def test_a_configuration_survives_its_file(tmp_path: Path, tiny_file: Path) -> None:
    overrides = ["precision=bf16", "deterministic=true", "patience=3", "depth_range=[0.3,8]"]
    config = load_config(tiny_file, overrides)
    assert config.depth_range == (0.3, 8.0)
    path = tmp_path / "copy.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert load_config(path) == config


def test_every_key_is_documented_with_its_default() -> None:
    keys = describe_keys()
    assert [key.name for key in keys] == [f.name for f in fields(TrainConfig)]
    for key in keys:
        assert len(key.meaning) > 5, key.name
    defaults = {key.name: yaml.safe_load(key.default) for key in keys}
    assert defaults == TrainConfig().to_dict()


def test_help_lists_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for key in describe_keys():
        assert f"\n  {key.name} ({key.default}): " in text


def test_the_documentation_has_the_table_of_keys() -> None:
    rows = [f"| `{key.name}` | `{key.default}` | {key.meaning} |" for key in describe_keys()]
    table = "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])
    assert table in DOCS.read_text(encoding="utf-8"), f"paste it there:\n{table}"


@pytest.mark.parametrize("package", ["yaml", "tensorboard"])
def test_a_missing_package_of_training_is_named_with_its_extra(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import sgnet_core.train as t; "
    code += "sys.exit(t.main(['--output', 'none']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: training needs {package}: pip install 'sgnet_ros[train]'\n"
