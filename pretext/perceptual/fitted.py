"""The file of a metric that was fitted to people: weights of a network's channels, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretext.artifacts.checkpoint import read_header, read_tensors, write_tensors
from pretext.artifacts.layout import RunLayout
from pretext.artifacts.manifest import require_done
from pretext.errors import ArtifactError

FIT_STEM = "fit-metric"
FILE = "metric.safetensors"
KIND = "fitted metric"


@dataclass(frozen=True, slots=True)
class Fitted:
    """Weights of the squared differences of unit-length features.

    Args:
        network: Facts of the network whose channels they weigh, as `FeatureNetwork.facts` has them.
        layers: Its layers, as chosen.
        weights: Of each layer float32 (C,), finite, >= 0.
    """

    network: dict[str, Any]
    layers: tuple[str, ...]
    weights: list[Tensor]


def write_fitted(path: Path, fitted: Fitted, header: Mapping[str, Any]) -> None:
    """Write a fitted metric atomically.

    Args:
        path: The file.
        fitted: The metric.
        header: JSON facts of the fit, beside the network and its layers.

    Raises:
        ValueError: If there is not one vector of weights a layer, or a weight is negative or not finite.
    """
    if len(fitted.weights) != len(fitted.layers):
        raise ValueError(
            f"weights must be one vector a layer, got {len(fitted.weights)} for {len(fitted.layers)} layers"
        )
    if problem := _problem(fitted.weights):
        raise ValueError(f"weights must be vectors of finite numbers of at least 0, got {problem}")
    tensors = {f"layer{number}": weight_C.float() for number, weight_C in enumerate(fitted.weights)}
    write_tensors(path, tensors, {**header, "kind": KIND, "network": fitted.network, "layers": list(fitted.layers)})


def read_fitted(path: Path) -> Fitted:
    """Read a fitted metric, from its file or the folder of its run.

    Raises:
        ArtifactError: If it is missing or broken, the run is not finished, or the file holds something else.
    """
    if path.is_dir():
        require_done(RunLayout(path).record(FIT_STEM), hint="pretext fit-metric makes one")
        path = path / FILE
    header = read_header(path)
    network, layers = header.get("network"), header.get("layers")
    if header.get("kind") != KIND or not isinstance(network, dict) or not isinstance(layers, list):
        raise ArtifactError(f"{path} holds no fitted metric", hint="pretext fit-metric makes one")
    found = read_tensors(path)
    names = [f"layer{number}" for number in range(len(layers))]
    if sorted(found) != sorted(names):
        raise ArtifactError(f"{path} is damaged: it has weights {', '.join(sorted(found))} for {len(names)} layers")
    weights = [found[name].float() for name in names]
    if problem := _problem(weights):
        raise ArtifactError(f"{path} is damaged: its weights are {problem}")
    return Fitted(network, tuple(layers), weights)


def _problem(weights: list[Tensor]) -> str | None:
    for weight_C in weights:
        if weight_C.ndim != 1:
            return f"of shape {tuple(weight_C.shape)}"
        if not bool(torch.isfinite(weight_C).all() and (weight_C >= 0).all()):
            return "negative or not finite"
    return None
