"""How one group of channels becomes a class: equal bins, or the nearest of a list of points.

Letters beyond the package's: K bins or points, c channels of the group, R rows of points, M colours outside the
listed cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

Ends = Sequence[tuple[Any, Any]]
"""Lower and upper end of the span of each channel: numbers, or one B x 1 x 1 tensor each."""


@dataclass(frozen=True)
class Bins:
    """Equal bins along each channel of a group; all channels together have one index, whose last channel runs fastest.

    Args:
        counts: Bins per channel.
        spans: Lower and upper end per channel in natural units, or None: in each image, from the smallest value of
            its map to the largest + 1. Thanks to the 1 a flat map has bins too.
    """

    counts: tuple[int, ...]
    spans: tuple[tuple[float, float], ...] | None = None

    @property
    def num_bins(self) -> int:
        return math.prod(self.counts)

    @cached_property
    def centres(self) -> np.ndarray:
        """Centres in natural units; of bins without spans, as shares of the image's own span, 0..1."""
        spans = self.spans or ((0.0, 1.0),) * len(self.counts)
        axes = [
            low + (np.arange(count) + 0.5) * (high - low) / count
            for count, (low, high) in zip(self.counts, spans, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(self.num_bins, len(axes))

    def encode(self, map_BcHW: Tensor, ends: Ends) -> Tensor:
        """int16 bin_BHW; what lies beyond a span belongs to its first or last bin."""
        bin_BHW = None
        for value_BHW, count, (low, high) in zip(map_BcHW.unbind(1), self.counts, ends, strict=True):
            step_BHW = ((value_BHW - low) * (count / (high - low))).floor_().clamp_(0, count - 1)
            bin_BHW = step_BHW if bin_BHW is None else bin_BHW.mul_(count).add_(step_BHW)
        assert bin_BHW is not None
        return bin_BHW.to(torch.int16)

    def facts(self, letters: str) -> dict[str, Any]:
        if self.spans is None:
            shares = zip(letters, self.counts, strict=True)
            edges = {letter: np.linspace(0, 1, count + 1).tolist() for letter, count in shares}
            return {"span": "each image's smallest value to its largest + 1", "edges_of_span": edges}
        ends = zip(letters, self.counts, self.spans, strict=True)
        return {"edges": {letter: np.linspace(*span, count + 1).tolist() for letter, count, span in ends}}


@dataclass(frozen=True)
class Points:
    """The nearest of some points of the grid of step 10; of two as near, the first.

    Args:
        rows: (a, first b, last b), every tenth b between them; ascending in a.
    """

    rows: tuple[tuple[int, int, int], ...]

    @cached_property
    def centres(self) -> np.ndarray:
        rows = ([(a, b) for b in range(first, last + 1, 10)] for a, first, last in self.rows)
        return np.array([point for row in rows for point in row], dtype=np.float64)

    @property
    def num_bins(self) -> int:
        return len(self.centres)

    @cached_property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """Smallest and largest coordinate."""
        low, high = self.centres.min(axis=0).tolist(), self.centres.max(axis=0).tolist()
        return (low[0], high[0]), (low[1], high[1])

    @cached_property
    def cells(self) -> np.ndarray:
        """Index of each listed cell of the grid, -1 for the others; one row and column more than the points span."""
        (a_low, a_high), (b_low, b_high) = self.spans
        cells = np.full((int(a_high - a_low) // 10 + 3, int(b_high - b_low) // 10 + 3), -1, dtype=np.int64)
        row, column = (self.centres - (a_low, b_low)).astype(int).T // 10 + 1
        cells[row, column] = np.arange(self.num_bins)
        return cells

    def encode(self, map_BcHW: Tensor, ends: Ends) -> Tensor:
        """int16 bin_BHW."""
        cells = torch.from_numpy(self.cells).to(map_BcHW.device)
        # halves go down, to the point that is listed first
        row_BHW, column_BHW = (
            ((value_BHW - low) / 10 + 0.5).ceil_().clamp_(0, limit - 1).long()
            for value_BHW, (low, _), limit in zip(map_BcHW.unbind(1), ends, cells.shape, strict=True)
        )
        bin_BHW = cells.view(-1)[row_BHW * cells.shape[1] + column_BHW]
        outside_BHW = bin_BHW < 0
        bin_BHW[outside_BHW] = self._search(map_BcHW.movedim(1, -1)[outside_BHW])
        return bin_BHW.to(torch.int16)

    def _search(self, ab_M2: Tensor) -> Tensor:
        """Nearest point by looking at the nearest one of each row; argmin takes the first of equals."""
        a_M1, b_M1 = ab_M2.split(1, dim=1)
        a_R, first_R, last_R = ab_M2.new_tensor(self.rows).unbind(1)
        length_R = (last_R - first_R) / 10 + 1
        step_MR = ((b_M1 - first_R) / 10 - 0.5).ceil_().clamp_min(0).minimum(length_R - 1)
        far_MR = (a_M1 - a_R).square() + (b_M1 - first_R - 10 * step_MR).square()
        row_M1 = far_MR.argmin(dim=1, keepdim=True)
        index_MR = step_MR + (length_R.cumsum(0) - length_R)
        return index_MR.gather(1, row_M1).squeeze(1).long()

    def facts(self, letters: str) -> dict[str, Any]:
        return {"points": self.centres.tolist()}
