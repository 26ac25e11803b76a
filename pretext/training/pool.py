"""Batches of uint8 images from the memory-mapped shards to the device, one batch ahead of the step that needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pretext.artifacts.shards import Split

DEVICE_SHARE = 0.5  # of the free GPU memory that the whole data set may take


class ImagePool:
    """Some images of a split, addressed 0..N-1.

    Args:
        split: Where the images lie.
        position_N: Which images of the split belong to the pool.
        device: Where batches go. On a GPU the whole pool is copied there once if it fits.
    """

    def __init__(self, split: Split, position_N: np.ndarray, *, device: torch.device) -> None:
        self.split, self.position_N, self.device = split, position_N, device
        self._resident: Tensor | None = None
        if device.type == "cuda":
            size = len(position_N) * split.image_size**2 * 3
            if size < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
                self._resident = torch.empty((len(position_N), split.image_size, split.image_size, 3),
                                             dtype=torch.uint8, device=device)  # fmt: skip
                for start in range(0, len(position_N), 4096):
                    part = split.read_images(position_N[start : start + 4096])
                    self._resident[start : start + 4096] = torch.from_numpy(part).to(device)

    def __len__(self) -> int:
        return len(self.position_N)

    def batches(self, indices: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield (index_B, image_BHWC uint8 on the device) for every array of indices."""
        if self._resident is not None:
            for index_B in indices:
                yield index_B, self._resident[torch.from_numpy(index_B).to(self.device)]
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

    def _load(self, index_B: np.ndarray) -> Tensor:
        image = torch.from_numpy(self.split.read_images(self.position_N[index_B]))
        return image.pin_memory() if self.device.type == "cuda" else image

    def _ready(self, index_B: np.ndarray, ahead) -> tuple[np.ndarray, Tensor]:  # type: ignore[no-untyped-def]
        return index_B, ahead.result().to(self.device, non_blocking=True)


def chunk_indices(num_images: int, size: int) -> Iterator[np.ndarray]:
    """0..N-1 in order, `size` at a time; the last one may be smaller."""
    for start in range(0, num_images, size):
        yield np.arange(start, min(start + size, num_images))
