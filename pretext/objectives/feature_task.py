"""Features of the training images that were extracted once: what is predicted, or what a reconstruction's are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretext.artifacts.features import open_feature_targets
from pretext.artifacts.rows import Rows
from pretext.artifacts.shards import DataSet
from pretext.errors import ConfigError

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

    def check_network(self, facts: Mapping[str, Any]) -> None:
        """Refuse features of another network than the loss's.

        Raises:
            ConfigError: Naming what differs.
        """
        for name in DECISIVE:
            ours, theirs = facts.get(name), self.facts.get(name)
            if ours != theirs:
                raise ConfigError(f"--features {self.folder} are of {name} {theirs}, but the loss compares {name} {ours}",
                                  hint="extract them with the same network, layer and options")  # fmt: skip


def find_feature_task(folder: Path, layer: str, data: DataSet, split: str) -> FeatureTask:
    """The features of a split's images that lie in a run's folder.

    Raises:
        ArtifactError: If there are none, or they are of other images.
    """
    rows, facts = open_feature_targets(folder, layer, data, split)
    return FeatureTask(folder, rows, facts)
