"""Colour targets made in memory, as `prepare-data` makes them on disk."""

from __future__ import annotations

import torch

from pretext.catalog import COLOR_SPACES
from pretext.color import downscale, lab_to_bytes, lab_to_unit, rgb_to_lab
from pretext.objectives.base import View
from pretext.objectives.color_task import ColorTask


def make_task(image01_BCHW, space="lab", size=8, border="reflect"):
    """A task and a view of images in its space, with their bins."""
    quantizer = COLOR_SPACES[space].load()()
    natural = rgb_to_lab(image01_BCHW) if quantizer.image_space == "lab" else image01_BCHW
    small = downscale(natural, size, border=border)
    bins = quantizer.encode(small)
    counts = tuple(torch.bincount(bins[:, group].flatten().long(), minlength=quantizer.num_bins[group]).numpy()
                   for group in (0, 1))  # fmt: skip
    if quantizer.image_space == "lab":
        input01, small01 = lab_to_bytes(natural).float() / 255, lab_to_unit(small)
    else:
        input01, small01 = image01_BCHW, small
    variance = small01.double().var((0, 2, 3), correction=0).numpy()
    task = ColorTask(f"targets-{space}-{size}", "0" * 8, quantizer, size, border, counts, variance)
    return task, View(input01, torch.Generator().manual_seed(0), bins)
