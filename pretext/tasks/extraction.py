"""Images through a frozen network into a file of features: reading, network and writing at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pretext.artifacts.features import FeatureChunk, write_features
from pretext.artifacts.overlap import overlap
from pretext.artifacts.rows import Rows
from pretext.artifacts.shards import Split
from pretext.augment import augment_batch

PART_ROWS = 4096  # images, about, between two points from which a stopped extraction goes on; what ranks divide

Reader = Callable[[Tensor], Tensor]


def as_stored(image_BHWC: Tensor) -> Tensor:
    """Images as they lie on disk, as a network takes them: (B, 3, H, W) in 0..1."""
    return augment_batch(image_BHWC, "none", None)


@dataclass(frozen=True, slots=True)
class Part:
    """The features of some images of a split, from `start` up to `stop`, in a file of their own."""

    path: Path
    reader: SplitReader
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def write(self, header: Mapping[str, Any], advance: Callable[[int], None]) -> None:
        """Write the file, see `SplitReader.write`; one that is there is whole, and kept."""
        if self.path.exists():
            advance(len(self))
        else:
            self.reader.write(self.path, header, self.start, self.stop, advance)


@dataclass(frozen=True, slots=True)
class SplitReader:
    """One split through one network.

    Args:
        name: The split's name.
        split: Where ids, labels and folds are.
        rows: The stored images, as many as the split has.
        extract: From images (B, 3, H, W) in 0..1 to features (B, D) float32, both on the device.
        num_features: D.
        batch_size: B; a file has one row group for each batch.
        device: Where the network is.
    """

    name: str
    split: Split
    rows: Rows
    extract: Reader
    num_features: int
    batch_size: int
    device: torch.device

    def parts(self, folder: Path) -> list[Part]:
        """The split in parts of whole batches, so that where a part ends does not show in what they make together.

        Where a part begins and ends is in its name: a file of another division is never taken for it.
        """
        step, total = self.batch_size * max(1, PART_ROWS // self.batch_size), len(self.rows)
        spans = [(start, min(start + step, total)) for start in range(0, total, step)]
        return [Part(folder / f"part-{self.name}-{start}-{stop}.parquet", self, start, stop) for start, stop in spans]

    def write(self, path: Path, header: Mapping[str, Any], start: int, stop: int,
              advance: Callable[[int], None]) -> None:  # fmt: skip
        """Write the features of the images from `start` up to `stop` to one file, atomically.

        The processor only hands out work: on a GPU no step waits for the one before it. A few batches are in memory.

        Args:
            path: The file.
            header: What the features are of.
            start: The first image's number in the split.
            stop: The number after the last one's.
            advance: Is told the size of every batch that the network was given.
        """
        write_features(path, header, self.num_features, self._chunks(start, stop, advance))

    @torch.inference_mode()
    def _chunks(self, start: int, stop: int, advance: Callable[[int], None]) -> Iterator[FeatureChunk]:
        facts = self.split.facts(start, stop)
        spans = [(first, min(first + self.batch_size, stop)) for first in range(start, stop, self.batch_size)]
        copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        loaded = overlap(lambda span: self._load(*span, copies), spans)
        for (first, end), (image_BHWC, arrived) in zip(spans, loaded, strict=True):
            if arrived is not None:
                arrived.wait()
                image_BHWC.record_stream(torch.cuda.current_stream(self.device))
            feature_BD = self.extract(as_stored(image_BHWC))
            ids, labels, folds = facts.slice(first - start, end - first).columns
            advance(end - first)
            yield self.name, ids, labels, folds, _Leaving(feature_BD) if copies else feature_BD.numpy()

    def _load(self, first: int, end: int, copies: torch.cuda.Stream | None) -> tuple[Tensor, torch.cuda.Event | None]:
        """A batch on the device; on a GPU it may still be under way."""
        image_BHWC = _over(self.rows.span(first, end))
        if copies is None:
            return image_BHWC, None
        with torch.cuda.stream(copies):
            return image_BHWC.pin_memory().to(self.device, non_blocking=True), copies.record_event()


def _over(value: np.ndarray) -> Tensor:
    """A tensor over memory that must not be written to, such as a memory map; torch.from_numpy would warn of it."""
    return torch.from_dlpack(pa.array(value.reshape(-1))).view(value.shape)


class _Leaving:
    """Features on their way from the GPU; whoever turns them into an array waits for them."""

    def __init__(self, feature_BD: Tensor) -> None:
        self._host_BD = torch.empty(feature_BD.shape, dtype=feature_BD.dtype, pin_memory=True)
        self._host_BD.copy_(feature_BD, non_blocking=True)
        self._here = torch.cuda.current_stream(feature_BD.device).record_event()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._here.synchronize()
        return self._host_BD.numpy().astype(dtype or np.float32, copy=bool(copy))
