"""A block of images in other colours: in Lab as it is stored, and made small and cut into bins for every colour space.

Letters beyond the package's: G groups of channels, S side of a target map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretext.artifacts.layout import LAB
from pretext.color import Quantizer, bytes_to_lab, downscale, lab_to_bytes, lab_to_unit, rgb_to_lab, unit_to_lab
from pretext.color.downscale import Border

PIXELS_AT_ONCE = 1 << 17  # enough that calls cost little, few enough that memory does
PIXELS_MEASURED = 1 << 13  # of each call; the error of a code is the same for all, so it need not be measured on each

# What was measured over some images: sums, and where the name ends in `max` the greatest values.
Facts = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to compute.

    Attributes:
        lab: Dtype of the stored Lab image, uint8 codes or float16 in 0..1; None for no Lab image.
        quantizers: The colour spaces to cut into bins, by the stem of their files.
        size: Side of the target maps, px.
        border: What lies outside an image when it is made small.
    """

    lab: str | None
    quantizers: Mapping[str, Quantizer]
    size: int
    border: Border


class Converter:
    """Converts uint8 sRGB images once for everything that is wanted of them.

    Its memory is used again from call to call: on many machines new memory costs as much time as the arithmetic. So
    one converter serves one thread, and the Lab images it returned are good until its next call.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._memory: dict[str, Tensor] = {}

    def __call__(self, image_NHWC: np.ndarray) -> dict[str, tuple[np.ndarray, Facts]]:
        """Convert images (N, H, W, 3).

        Returns:
            The rows to store and what was measured on the way, by stem: Lab images (N, H, W, 3) under `lab`, and for
            every quantiser its bins (N, 2, S, S) int16. Errors of the codes are of the first few images.

        Cost: 0.15 ms on one core for an image of 96 px with its Lab image and one space, and little more with all six.
        """
        wanted, (count, side) = self.wanted, image_NHWC.shape[:2]
        spaces = {quantizer.image_space for quantizer in wanted.quantizers.values()}
        small = {space: torch.empty(count, 3, wanted.size, wanted.size) for space in spaces}
        code_NHWC = None if wanted.lab is None else self._tensor("code", image_NHWC.shape, getattr(torch, wanted.lab))
        lab_facts: Facts = {}
        step = max(1, PIXELS_AT_ONCE // side**2)
        for start in range(0, count, step):
            rows = slice(start, start + step)
            shape = (len(image_NHWC[rows]), 3, side, side)
            image_BCHW = self._tensor("image", shape, torch.uint8)
            value_BCHW = self._tensor("value", shape, torch.float32)
            np.copyto(image_BCHW.numpy(), image_NHWC[rows].transpose(0, 3, 1, 2))
            if "rgb" in spaces:
                value_BCHW.copy_(image_BCHW)
                small["rgb"][rows] = downscale(value_BCHW, wanted.size, border=wanted.border) / 255
            if "lab" not in spaces and code_NHWC is None:
                continue
            rgb_to_lab(image_BCHW, out=value_BCHW)
            if "lab" in spaces:
                small["lab"][rows] = downscale(value_BCHW, wanted.size, border=wanted.border)
            if code_NHWC is not None:
                code_BCHW = code_NHWC[rows].permute(0, 3, 1, 2)
                if wanted.lab == "uint8":
                    lab_to_bytes(value_BCHW, out=code_BCHW)
                else:
                    code_BCHW.copy_(lab_to_unit(value_BCHW))
                if start == 0:
                    some = slice(0, max(1, PIXELS_MEASURED // side**2))
                    lab_facts = _error_facts(_lab_of(code_BCHW[some]).sub_(value_BCHW[some]).abs_())
        found = {} if code_NHWC is None else {LAB: (code_NHWC.numpy(), lab_facts)}
        moments = {space: _moment_facts(map_NCSS, space) for space, map_NCSS in small.items()}
        return found | {stem: _quantize(small[quantizer.image_space], quantizer, moments[quantizer.image_space])
                        for stem, quantizer in wanted.quantizers.items()}  # fmt: skip

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor with anything in it, in the memory of the last one of this name if that is large enough."""
        size = math.prod(shape)
        if name not in self._memory or self._memory[name].numel() < size:
            self._memory[name] = torch.empty(size, dtype=dtype)
        return self._memory[name][:size].view(shape)


def merge(parts: list[Facts]) -> Facts:
    """Facts of some images and of others become facts of all of them; an empty one is of no images."""
    merged: Facts = {}
    for part in parts:
        for name, value in part.items():
            join = np.maximum if name.endswith("max") else np.add
            merged[name] = join(merged[name], value) if name in merged else value
    return merged


def _lab_of(code_BCHW: Tensor) -> Tensor:
    return bytes_to_lab(code_BCHW) if code_BCHW.dtype == torch.uint8 else unit_to_lab(code_BCHW.float())


def _error_facts(error_BCHW: Tensor) -> Facts:
    return {"measured": np.array(_places(error_BCHW)), "error": error_BCHW.sum((0, 2, 3), dtype=torch.float64).numpy(),
            "error_max": error_BCHW.amax((0, 2, 3)).double().numpy()}  # fmt: skip


def _places(map_BCHW: Tensor) -> int:
    return map_BCHW.shape[0] * map_BCHW.shape[2] * map_BCHW.shape[3]


def _moment_facts(map_NCSS: Tensor, space: str) -> Facts:
    """Sums over all places of each channel and of its square, on the scale of a network's input."""
    unit_NCSS = (lab_to_unit(map_NCSS) if space == "lab" else map_NCSS).double()
    return {"places": np.array(_places(map_NCSS)), "value": unit_NCSS.sum((0, 2, 3)).numpy(),
            "square": unit_NCSS.square_().sum((0, 2, 3)).numpy()}  # fmt: skip


def _quantize(map_NCSS: Tensor, quantizer: Quantizer, moments: Facts) -> tuple[np.ndarray, Facts]:
    bin_NGSS = quantizer.encode(map_NCSS)
    some = slice(0, max(1, PIXELS_MEASURED // map_NCSS.shape[2] ** 2))
    range_NC2 = quantizer.ranges(map_NCSS[some]) if quantizer.per_image else None
    facts = _error_facts((quantizer.decode(bin_NGSS[some], range_NC2) - map_NCSS[some]).abs_()) | moments
    for group, num_bins in enumerate(quantizer.num_bins):
        facts[f"counts{group}"] = torch.bincount(bin_NGSS[:, group].flatten().long(), minlength=num_bins).numpy()
    return bin_NGSS.numpy(), facts
