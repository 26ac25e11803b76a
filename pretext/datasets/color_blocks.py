"""A block of images in other colours: in Lab as it is stored, and made small and cut into bins for every colour space.

Letters beyond the package's: G groups of channels, S side of a target map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretext.artifacts.layout import LAB
from pretext.color import Quantizer, bytes_to_lab, downscale, lab_to_bytes, lab_to_unit, rgb_to_lab, unit_to_lab
from pretext.color.downscale import Border

PIXELS_AT_ONCE = 1 << 18  # enough that calls cost little, few enough that memory does

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


def convert(image_NHWC: np.ndarray, wanted: Wanted) -> dict[str, tuple[np.ndarray, Facts]]:
    """Convert uint8 sRGB images once for everything that is wanted of them.

    Returns:
        The rows to store and what was measured on the way, by stem: Lab images (N, H, W, 3) with the error of the code
        of the first few under `lab`, and for every quantiser its bins (N, 2, S, S) int16.

    Cost: 0.2 ms on one core for an image of 96 px with its Lab image and one space, 0.3 ms with all six.
    """
    count, side = image_NHWC.shape[:2]
    small = {quantizer.image_space: torch.empty(count, 3, wanted.size, wanted.size)
             for quantizer in wanted.quantizers.values()}  # fmt: skip
    lab_NHWC = None if wanted.lab is None else torch.empty(count, side, side, 3, dtype=getattr(torch, wanted.lab))
    lab_facts: Facts = {}
    step = max(1, PIXELS_AT_ONCE // side**2)
    for start in range(0, count, step):
        rows = slice(start, start + step)
        # a copy, because PyTorch takes no array that can't be written to, such as a view into a map
        image_BCHW = torch.from_numpy(image_NHWC[rows].copy()).permute(0, 3, 1, 2).contiguous()
        if "rgb" in small:
            small["rgb"][rows] = downscale(image_BCHW.float(), wanted.size, border=wanted.border) / 255
        if "lab" not in small and lab_NHWC is None:
            continue
        lab_BCHW = rgb_to_lab(image_BCHW)
        if "lab" in small:
            small["lab"][rows] = downscale(lab_BCHW, wanted.size, border=wanted.border)
        if lab_NHWC is not None:
            code_BCHW = lab_to_bytes(lab_BCHW) if wanted.lab == "uint8" else lab_to_unit(lab_BCHW).to(lab_NHWC.dtype)
            lab_NHWC[rows] = code_BCHW.permute(0, 2, 3, 1)
            if start == 0:  # the code is the same for all; its error need not be measured on each
                lab_facts = _error_facts(_lab_of(code_BCHW).sub_(lab_BCHW).abs_())
    found = {} if lab_NHWC is None else {LAB: (lab_NHWC.numpy(), lab_facts)}
    return found | {stem: _quantize(small[quantizer.image_space], quantizer)
                    for stem, quantizer in wanted.quantizers.items()}  # fmt: skip


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
    places = error_BCHW.shape[0] * error_BCHW.shape[2] * error_BCHW.shape[3]
    return {"places": np.array(places), "error": error_BCHW.sum((0, 2, 3), dtype=torch.float64).numpy(),
            "error_max": error_BCHW.amax((0, 2, 3)).double().numpy()}  # fmt: skip


def _quantize(map_NCSS: Tensor, quantizer: Quantizer) -> tuple[np.ndarray, Facts]:
    bin_NGSS = quantizer.encode(map_NCSS)
    range_NC2 = quantizer.ranges(map_NCSS) if quantizer.per_image else None
    facts = _error_facts((quantizer.decode(bin_NGSS, range_NC2) - map_NCSS).abs_())
    unit_NCSS = (lab_to_unit(map_NCSS) if quantizer.image_space == "lab" else map_NCSS).double()
    facts |= {"value": unit_NCSS.sum((0, 2, 3)).numpy(), "square": unit_NCSS.square_().sum((0, 2, 3)).numpy()}
    for group, num_bins in enumerate(quantizer.num_bins):
        facts[f"counts{group}"] = torch.bincount(bin_NGSS[:, group].flatten().long(), minlength=num_bins).numpy()
    return bin_NGSS.numpy(), facts
