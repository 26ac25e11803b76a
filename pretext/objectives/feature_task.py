"""Features of the training images that were extracted once: what is predicted, or what a reconstruction's are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretext.artifacts.features import open_feature_targets
from pretext.artifacts.rows import Rows
from pretext.artifacts.shards import DataSet
from pretext.errors import ConfigError
from pretext.perceptual.networks import FeatureNetwork

# What of a network decides its features of an image.
DECISIVE = ("network", "nodes", "weights", "fingerprint", "normalize")


@dataclass(frozen=True, slots=True)
class FeatureTask:
    """The features of one split.

    Attributes:
        folder: The run of extract-features.
        rows: One row an image, in the split's order: a vector (D,) or a map (C, h, w), float32.
        facts: The network they are of, as the file's header says.
    """

    folder: Path
    rows: Rows
    facts: Mapping[str, Any]

    def check_network(self, network: FeatureNetwork, image_size: int) -> None:
        """Refuse features of another network than the loss's, or features that are not all of the layer.

        Raises:
            ConfigError: Naming what differs.
        """
        ours, theirs = network.facts, self.facts
        if ours["weights"] == "run":
            ours = {"checkpoint": ours["fingerprint"], "layer": ours["layers"][0]}
        for name in ours.keys() & {*DECISIVE, "checkpoint", "layer"}:
            if ours[name] != theirs.get(name):
                raise ConfigError(f"--features {self.folder} are of {name} {theirs.get(name)}, but the loss compares {name} "
                                  f"{ours[name]}", hint="extract them with the same network, layer and options")  # fmt: skip
        with torch.no_grad():
            (feature_1CHW,) = network(torch.zeros(1, 3, image_size, image_size))
        if feature_1CHW.shape[1:] != (*self.rows.row_shape, 1, 1)[:3]:
            raise ConfigError(f"--features {self.folder} are {self.rows.row_shape}, but the layer gives "
                              f"{tuple(feature_1CHW.shape[1:])}", hint="extract them with --pool flatten")  # fmt: skip

    def told(self) -> dict[str, Any]:
        """What a record says of them; where they lie is among its parents."""
        facts = {name: self.facts[name] for name in ("network", "name", "weights", "normalize") if name in self.facts}
        saw = self.facts.get("saw")
        return {"features_of": facts} | ({"loss_network_saw": saw} if saw else {})


def find_feature_task(folder: Path, layer: str, data: DataSet, split: str) -> FeatureTask:
    """The features of a split's images that lie in a run's folder.

    Raises:
        ArtifactError: If there are none, or they are of other images.
    """
    rows, facts = open_feature_targets(folder, layer, data, split)
    return FeatureTask(folder, rows, facts)
