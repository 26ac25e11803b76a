"""The stages at their smallest: drawn shapes, a narrow encoder, seconds in all."""

from __future__ import annotations

from pathlib import Path

from pretext import stage_configs as configs
from pretext.stages import extract_features, prepare_data, pretrain

TINY = {
    "encoder": "cnn",
    "width": 0.125,
    "latent_dim": 12,
    "epochs": 2,
    "batch_size": 16,
    "precision": "fp32",
    "device": "cpu",
}


def prepare(root: Path, **changes) -> dict:
    options = {"num_unlabeled": 96, "num_train": 60, "num_test": 50, "data_dir": root / "data", "workers": 1, **changes}
    return prepare_data.run(configs.PrepareDataConfig(**options), explicit=frozenset(changes))


def train(root: Path, name: str = "run", **changes) -> dict:
    options = {**TINY, "data_dir": root / "data", "out": root / "runs" / name, **changes}
    return pretrain.run(configs.PretrainConfig(**options))


def extract(root: Path, name: str = "run", **changes) -> dict:
    options = {"run": root / "runs" / name, "data_dir": root / "data", "device": "cpu", **changes}
    return extract_features.run(configs.ExtractFeaturesConfig(**options))
