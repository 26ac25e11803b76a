"""What is predicted from what: a prepared set of colour targets, and the shape of the networks that learn it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretext.artifacts.shards import DataSet
from pretext.catalog import COLOR_SPACES
from pretext.color import Quantizer
from pretext.color.downscale import Border
from pretext.errors import ArtifactError, ConfigError

# For every wiring its networks: the group of channels that each sees and the one that it predicts.
WIRINGS: dict[str, tuple[tuple[int, int], ...]] = {
    "split-brain": ((0, 1), (1, 0)),
    "colorize": ((0, 1),),
    "predict-light": ((1, 0),),
    "cross-channel": ((0, 1), (1, 0)),
    "two-colorizers": ((0, 1), (0, 1)),
}
SHARED = ("cross-channel",)  # one network for all its predictions, what it must not see blanked


@dataclass(frozen=True, slots=True)
class ColorTask:
    """A prepared target set.

    Attributes:
        stem: Its name among the data set's files.
        quantizer: Its bins.
        size: Side of the target maps.
        border: What lay outside the images when they were made small.
        count_K: How often each bin of each of the two groups occurs in the images that are learned from.
        variance_C: Variance of each channel of the small images, in units of the network's input.
        fingerprint: Of the files' content.
    """

    stem: str
    fingerprint: str
    quantizer: Quantizer
    size: int
    border: Border
    count_K: tuple[np.ndarray, np.ndarray]
    variance_C: np.ndarray


def find_color_task(data: DataSet, split: str, space: str | None, size: int | None) -> ColorTask:
    """The prepared target set of that space and size; without them the only one there is.

    Raises:
        ArtifactError: If there is none.
        ConfigError: If several fit.
    """
    sets = {stem: content["summary"] for stem, content in data.target_sets().items()}
    fits = {stem: summary for stem, summary in sets.items()
            if space in (None, summary["space"]) and size in (None, summary["size"])}  # fmt: skip
    if not fits:
        there = f"it has {', '.join(sets)}" if sets else "it has none"
        wanted = " ".join(str(word) for word in ("colour targets", space, size and f"of size {size}") if word)
        more = f" --target-size {size}" if size else ""
        raise ArtifactError(f"data set {data.name} has no {wanted}; {there}",
                            hint=f"pretext prepare-data ... --color-space {space or 'lab'}{more}, with the arguments it "
                            "was prepared with, adds them")  # fmt: skip
    if len(fits) > 1:
        flag = "--color-space" if len({summary["space"] for summary in fits.values()}) > 1 else "--target-size"
        raise ConfigError(f"data set {data.name} has several sets of colour targets: {', '.join(fits)}; {flag} chooses")
    ((stem, summary),) = fits.items()
    parts = [summary["splits"][part] for part in split.split("+")]
    counts = [np.sum([part["counts"][group] for part in parts], axis=0) for group in (0, 1)]
    return ColorTask(stem, summary["fingerprint"], COLOR_SPACES[summary["space"]].load()(), int(summary["size"]), summary["border"],
                     (counts[0], counts[1]), _variance([part["moments"] for part in parts]))  # fmt: skip


def _variance(moments: Sequence[dict[str, Any]]) -> np.ndarray:
    """Variance of each channel over several splits from their numbers, means and variances."""
    number_S = np.array([moment["n"] for moment in moments], np.float64)
    mean_SC = np.array([moment["mean"] for moment in moments])
    square_SC = np.array([moment["variance"] for moment in moments]) + mean_SC**2
    share_S1 = (number_S / number_S.sum())[:, None]
    return (share_S1 * square_SC).sum(0) - (share_S1 * mean_SC).sum(0) ** 2


def network_shape(wiring: str, task: ColorTask, loss: str) -> dict[str, Any]:
    """Which channels each sub-network sees and how many numbers it says at each place, as encoders' builders take them."""
    groups, heads = task.quantizer.groups, WIRINGS[wiring]
    sizes = task.quantizer.num_bins if loss == "cross-entropy" else tuple(len(group) for group in groups)
    outputs = [sizes[predicted] for _, predicted in heads]
    if wiring in SHARED:
        return {"channels": ["".join(groups)], "outputs": [sum(outputs)]}
    return {"channels": [groups[seen] for seen, _ in heads], "outputs": outputs}
