"""Batches of images from the memory-mapped shards to the device, one batch ahead of the step that needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pretext.artifacts.rows import Rows
from pretext.augment import Span

DEVICE_SHARE = 0.5  # of the free GPU memory that the whole data set may take
ROWS_PER_COPY = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some images of a pool, on its device, as they lie on disk.

    Args:
        index_B: Their numbers in the pool.
        image_BHWC: uint8 sRGB or Lab code, or float16 Lab in 0..1.
        target_BGHW: int16 bins, where the pool has them: one map a group.
        span: Which rows of a step's whole batch they are, where they are a part of one.
    """

    index_B: np.ndarray
    image_BHWC: Tensor
    target_BGHW: Tensor | None = None
    span: Span | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.index_B)

    def part(self, rows: slice, span: Span | None = None) -> Batch:
        """These rows of it, as views, which are `span` of the whole batch; by default this is the whole batch."""
        start, stop, _ = rows.indices(len(self))
        target_BGHW = None if self.target_BGHW is None else self.target_BGHW[rows]
        return Batch(self.index_B[rows], self.image_BHWC[rows], target_BGHW, span=span or Span(start, stop, len(self)))


class ImagePool:
    """Some images of a split, addressed 0..N-1.

    Args:
        images: The split's images, (H, W, 3) uint8 or float16 each.
        position_N: Which images of the split belong to the pool.
        device: Where batches go. On a GPU the whole pool is copied there once if it fits.
        targets: The same images' targets, row by row.

    Raises:
        ValueError: If there are not as many targets as images.
    """

    def __init__(
        self, images: Rows, position_N: np.ndarray, *, device: torch.device, targets: Rows | None = None
    ) -> None:
        if targets is not None and len(targets) != len(images):
            raise ValueError(f"targets must be as many as the images, {len(images)}; got {len(targets)}")
        self.position_N, self.device = position_N, device
        self._columns = [images] if targets is None else [images, targets]
        self._resident: list[Tensor] | None = None
        if device.type == "cuda":
            size = len(position_N) * sum(column.row_bytes for column in self._columns)
            if size < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
                self._resident = [self._copy(column) for column in self._columns]

    def __len__(self) -> int:
        return len(self.position_N)

    def batches(self, indices: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Yield the batch of every array of indices, in that order."""
        if self._resident is not None:
            for index_B in indices:
                index_on_device_B = torch.from_numpy(index_B).to(self.device)
                yield Batch(index_B, *(column[index_on_device_B] for column in self._resident))
            return
        with ThreadPoolExecutor(1) as reader:
            waiting = None
            for index_B in indices:
                ahead = reader.submit(self._load, index_B)
                if waiting is not None:
                    yield self._ready(*waiting)
                waiting = (index_B, ahead)
            if waiting is not None:
                yield self._ready(*waiting)

    def _copy(self, column: Rows) -> Tensor:
        """A whole column on the device."""
        dtype = torch.from_numpy(np.empty(0, column.dtype)).dtype
        whole = torch.empty((len(self), *column.row_shape), dtype=dtype, device=self.device)
        for index_B in chunk_indices(len(self), ROWS_PER_COPY):
            part = torch.from_numpy(column.read(self.position_N[index_B]))
            whole[int(index_B[0]) : int(index_B[-1]) + 1] = part.to(self.device)
        return whole

    def _load(self, index_B: np.ndarray) -> list[Tensor]:
        read = [torch.from_numpy(column.read(self.position_N[index_B])) for column in self._columns]
        return [tensor.pin_memory() for tensor in read] if self.device.type == "cuda" else read

    def _ready(self, index_B: np.ndarray, ahead: Future[list[Tensor]]) -> Batch:
        return Batch(index_B, *(tensor.to(self.device, non_blocking=True) for tensor in ahead.result()))


def chunk_indices(num_images: int, size: int) -> Iterator[np.ndarray]:
    """0..N-1 in order, `size` at a time; the last one may be smaller."""
    for start in range(0, num_images, size):
        yield np.arange(start, min(start + size, num_images))
