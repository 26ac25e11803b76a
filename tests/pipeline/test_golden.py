"""Loss curves stay what they were: small trainings on drawn shapes, at least one for each objective, against golden.json.

Those of fp32 are stored; tests/faults/test_numbers.py holds that bf16 follows them. What is meant to change a curve says
so by storing it anew, with the same package versions or newer ones:

    PYTHONPATH=tests/helpers python tests/pipeline/test_golden.py

PyTorch's versions and processors round differently, and training lifts such differences: RELATIVE leaves room for that.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from tiny_chain import extract, prepare, train

from pretext.artifacts.metrics import read_metrics
from pretext.catalog import OBJECTIVES

STORED = Path(__file__).with_name("golden.json")
RELATIVE = 1e-3
SHAPES = {"image_size": 64, "num_unlabeled": 72, "num_train": 20, "num_test": 20, "target_size": 4}
COMMON = {"epochs": 3, "lr": 3e-4, "batch_size": 12, "log_every": 100}
NETWORK = "squeezenet1_1"
CURVES = {
    "autoencode pse": {"loss": "pse", "sigma": 2.0, "augment": "small"},
    "autoencode mse, accumulated": {"loss": "mse", "augment": "none", "accumulate": 2, "optimizer": "adamw",
                                    "weight_decay": 0.05, "schedule": "constant"},
    "denoise": {"objective": "denoise", "noise": "gaussian", "noise_level": 0.2, "augment": "flip", "loss": "bce"},
    "split-brain": {"objective": "split-brain", "encoder": "simplenet5", "width": 0.5, "latent_dim": None,
                    "augment": "flip", "rebalance": 0.5},
    "resnet18": {"encoder": "resnet18", "stem": "7x7", "augment": "strong", "loss": "mse"},
    "perceptual": {"loss": "perceptual", "loss_network": NETWORK, "loss_network_weights": "random", "layer": ("1",)},
    "predict-features": {"objective": "predict-features", "features": Path(f"shapes-{NETWORK}-random"), "layer": ("1",),
                         "augment": "none"},
}  # fmt: skip


def prepare_curves(root: Path) -> None:
    """What the trainings of `CURVES` read."""
    prepare(root, **SHAPES, color_space=("lab",))
    extract(root, run=None, data="shapes", network=NETWORK, network_weights="random", layer="1", pool="avg",
            runs_dir=root / "runs")  # fmt: skip


def epochs_of(root: Path, name: str, **changes) -> list[dict]:
    """Train one of `CURVES`; returns what was told of every epoch."""
    options = {**COMMON, **CURVES[name], **changes}
    if "features" in options:
        options["features"] = root / "runs" / options["features"]
    out = " ".join((name, *changes.values()))
    train(root, out, **options)
    return [row for row in read_metrics(root / "runs" / out / "metrics.parquet") if row["kind"] == "epoch"]


def curve(root: Path, name: str) -> dict[str, list[float]]:
    """Training and validation loss of every epoch of one of `CURVES`."""
    rows = epochs_of(root, name)
    return {key: [row[key] for row in rows] for key in ("train/loss", "val/loss")}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("golden")
    prepare_curves(root)
    return root


@pytest.mark.parametrize("name", CURVES)
def test_a_loss_curve_is_the_stored_one(root, name):
    stored = json.loads(STORED.read_text())[name]
    for key, losses in curve(root, name).items():
        assert losses == pytest.approx(stored[key], rel=RELATIVE)
        assert len(losses) == COMMON["epochs"]


def test_every_objective_that_trains_has_a_curve():
    """Those that are one function with other settings share it."""
    kept = {OBJECTIVES[options.get("objective", "autoencode")].target for options in CURVES.values()}
    assert kept == {OBJECTIVES[name].target for name in OBJECTIVES if OBJECTIVES[name].trains}


def store() -> None:
    """Train all and store their curves."""
    with tempfile.TemporaryDirectory() as folder:
        prepare_curves(Path(folder))
        curves = {name: curve(Path(folder), name) for name in CURVES}
    STORED.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    store()
