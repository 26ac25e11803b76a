"""Loss curves stay what they were: five small trainings on drawn shapes against those stored in golden.json.

What is meant to change a curve says so by storing it anew, with the same package versions or newer ones:

    PYTHONPATH=tests/helpers python tests/pipeline/test_golden.py

PyTorch's versions and processors round differently, and training lifts such differences: RELATIVE leaves room for that.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from tiny_chain import prepare, train

from pretext.artifacts.metrics import read_metrics

STORED = Path(__file__).with_name("golden.json")
RELATIVE = 1e-3
SHAPES = {"image_size": 64, "num_unlabeled": 72, "num_train": 20, "num_test": 20, "target_size": 4}
COMMON = {"epochs": 3, "lr": 3e-4, "batch_size": 12, "log_every": 100}
CURVES = {
    "autoencode pse": {"loss": "pse", "sigma": 2.0, "augment": "small"},
    "autoencode mse, accumulated": {"loss": "mse", "augment": "none", "accumulate": 2, "optimizer": "adamw",
                                    "weight_decay": 0.05, "schedule": "constant"},
    "denoise": {"objective": "denoise", "noise": "gaussian", "noise_level": 0.2, "augment": "flip", "loss": "bce"},
    "split-brain": {"objective": "split-brain", "encoder": "simplenet5", "width": 0.5, "latent_dim": None,
                    "augment": "flip", "rebalance": 0.5},
    "resnet18": {"encoder": "resnet18", "stem": "7x7", "augment": "strong", "loss": "mse"},
}  # fmt: skip


def curve(root: Path, name: str) -> dict[str, list[float]]:
    """Training and validation loss of every epoch of one of `CURVES`."""
    train(root, name, **COMMON, **CURVES[name])
    rows = [row for row in read_metrics(root / "runs" / name / "metrics.parquet") if row["kind"] == "epoch"]
    return {key: [row[key] for row in rows] for key in ("train/loss", "val/loss")}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("golden")
    prepare(root, **SHAPES, color_space=("lab",))
    return root


@pytest.mark.parametrize("name", CURVES)
def test_a_loss_curve_is_the_stored_one(root, name):
    stored = json.loads(STORED.read_text())[name]
    for key, losses in curve(root, name).items():
        assert losses == pytest.approx(stored[key], rel=RELATIVE)
        assert len(losses) == COMMON["epochs"]


def store() -> None:
    """Train all and store their curves."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), **SHAPES, color_space=("lab",))
        curves = {name: curve(Path(folder), name) for name in CURVES}
    STORED.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    store()
