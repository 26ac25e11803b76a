"""The images that a classifier got wrong, found again in the data set they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretext.artifacts.layout import DataLayout
from pretext.artifacts.shards import DataSet, open_data
from pretext.errors import ArtifactError, PretextError, is_system_failure
from pretext.reports.gather import Result, Run, look

SHOWN = 7


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrongly classified image: what it is, what was said, and how sure (0..1)."""

    image_HWC: NDArray[np.uint8]
    truth: str
    said: str
    confidence: float


def pick_mistakes(result: Result, count: int = SHOWN) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the most and of the least confident mistakes, each from its extreme inwards; no image is in both."""
    wrong_M = np.flatnonzero(~result.correct_N)
    order_M = wrong_M[np.argsort(-result.confidence_N[wrong_M], kind="stable")]
    half = min(count, (len(order_M) + 1) // 2)
    return order_M[:half], order_M[half:][::-1][:count]


@dataclass(slots=True)
class ImageFinder:
    """Opens each data set once, and finds images by id."""

    _data: dict[str, DataSet | str] = field(default_factory=dict)
    _places: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)

    def find(self, run: Run, result: Result, index_M: Sequence[int]) -> list[NDArray[np.uint8]] | str:
        """The images at these positions of a result, or a sentence that says why they can't be shown."""
        data = self._open(run, result)
        if isinstance(data, str):
            return data
        try:
            return [self._image(data, result.ids[index]) for index in index_M]
        except PretextError as error:
            if is_system_failure(error):
                raise
            return f"The pictures can't be shown: {error.message}."

    def _open(self, run: Run, result: Result) -> DataSet | str:
        wanted = str(look(result.content, "data", "fingerprint"))
        if wanted not in self._data:
            self._data[wanted] = _open_data(run, result, wanted)
        return self._data[wanted]

    def _image(self, data: DataSet, name: str) -> NDArray[np.uint8]:
        for split in sorted(data.num_images, key=lambda split: (split != "test", split != "train")):
            key = (data.fingerprint, split)
            if key not in self._places:
                self._places[key] = {id_: row for row, id_ in enumerate(data.split(split).ids())}
            if name in self._places[key]:
                image_HWC: NDArray[np.uint8] = data.split(split).images.read(np.array([self._places[key][name]]))[0]
                return image_HWC
        raise ArtifactError(f"data set {data.name} has no image {name}")


def _open_data(run: Run, result: Result, wanted: str) -> DataSet | str:
    reason = "its files do not say where the data lie"
    for folder in data_folders(run, result):
        try:
            data = open_data(DataLayout(folder))
        except PretextError as error:
            if is_system_failure(error):
                raise
            reason = error.message
            continue
        if data.fingerprint == wanted:
            return data
        reason = f"{folder} now holds other data than was tested on"
    return f"The pictures can't be shown: {reason}."


def data_folders(run: Run, result: Result) -> Iterator[Path]:
    """Where the tested data may lie: as recorded, from here or from a folder above the run."""
    seen = set()
    for manifest in (result.content, *run.features.values(), run.manifest):
        for parent in look(manifest, "parents", default=[]):
            if look(parent, "kind") == "data" and isinstance(path := look(parent, "path"), str):
                for base in (Path(), *run.layout.folder.resolve().parents[:3]):
                    folder = base / path
                    if folder not in seen:
                        seen.add(folder)
                        yield folder
