"""Colour conversion in batches, beside scikit-image, numpy and scipy image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from scipy.spatial import cKDTree
from skimage.color import lab2rgb, rgb2lab
from skimage.transform import resize
from torch import Tensor

from pretext import color
from pretext.bench.measure import Contender, Row, race
from pretext.color.spaces import CHROMA_BINS, LIGHTNESS_BINS
from pretext.training.device import Compute

BATCH, PLAIN_BATCH = 256, 8
SIDE, TARGET = 96, 12
SECONDS = 1.5  # of each row
AGREEMENT = 0.999  # of classes; the rest lies on the edge of a bin, where float32 and float64 may differ


def measure(compute: Compute) -> Iterator[Row]:
    """Rows of the part `color`: images of 96 px, on the device that computes; the plain ways know the processor alone."""
    byte_BHWC = torch.randint(
        256, (BATCH, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    interleaved_BCHW = byte_BHWC.to(compute.device).permute(0, 3, 1, 2)
    planar_BCHW = interleaved_BCHW.contiguous()
    lab_BCHW = color.rgb_to_lab(planar_BCHW)
    small_BCSS = color.downscale(lab_BCHW, TARGET)
    plain_image = list(byte_BHWC[:PLAIN_BATCH].numpy())
    plain_lab, plain_small = _images(lab_BCHW), _images(small_BCSS)
    shrink = partial(resize, output_shape=(TARGET, TARGET), order=1, anti_aliasing=True, preserve_range=True)
    bins, points = color.build_lab(), color.build_lab_313()
    tree = cKDTree(points.codes[1].centres)

    def row(what: str, ours: Callable[[], Tensor], against: str, plain: Callable[[np.ndarray], np.ndarray],
            images: Sequence[np.ndarray], goal: float | None = None, bytes_each: float | None = None) -> list[Row]:  # fmt: skip
        loop = Contender(against, lambda: [plain(image) for image in images], len(images), goal)
        return race(Contender(what, ours, BATCH), loop, part="color", unit="images", device=compute.device, seconds=SECONDS,
                    bytes_each=bytes_each)  # fmt: skip

    _compare(lab_BCHW, [rgb2lab(image) for image in plain_image], 1e-3)
    for layout, image_BCHW in (("H x W x 3", interleaved_BCHW), ("3 x H x W", planar_BCHW)):
        yield from row(f"uint8 {layout} to Lab", partial(color.rgb_to_lab, image_BCHW), "rgb2lab", rgb2lab, plain_image, goal=5,
                  bytes_each=3 * SIDE**2 * (1 + 4))  # fmt: skip
    float_BCHW = planar_BCHW / 255
    yield from row("float 3 x H x W to Lab", partial(color.rgb_to_lab, float_BCHW), "rgb2lab", rgb2lab,
              [image / 255 for image in plain_image], bytes_each=3 * SIDE**2 * (4 + 4))  # fmt: skip
    _compare(color.lab_to_rgb(lab_BCHW), [lab2rgb(image) for image in plain_lab], 1e-4)
    yield from row("Lab to sRGB", partial(color.lab_to_rgb, lab_BCHW), "lab2rgb", lab2rgb, plain_lab,
              bytes_each=3 * SIDE**2 * (4 + 4))  # fmt: skip
    _compare(small_BCSS, [shrink(image) for image in plain_lab], 1e-3)
    yield from row(f"Lab, {SIDE} to {TARGET} px", partial(color.downscale, lab_BCHW, TARGET), "scikit-image's resize", shrink,
              plain_lab, bytes_each=3 * 4 * (SIDE**2 + TARGET**2))  # fmt: skip
    _compare_classes(bins.encode(small_BCSS), [digitize(image) for image in plain_small])
    yield from row(
        f"bins of lab, {TARGET} px", partial(bins.encode, small_BCSS), "numpy's digitize", digitize, plain_small
    )
    _compare_classes(points.encode(small_BCSS)[:, 1], [tree.query(image[..., 1:])[1] for image in plain_small])
    yield from row(f"both classes of lab-313, {TARGET} px", partial(points.encode, small_BCSS), "scipy's cKDTree, one class",
              lambda image: tree.query(image[..., 1:])[1], plain_small)  # fmt: skip


def digitize(lab_HW3: np.ndarray) -> np.ndarray:
    """The plain way to the bins of `lab`: (2, H, W)."""
    lightness, a, b = (
        np.digitize(lab_HW3[..., channel], np.linspace(low, high, count + 1)) - 1
        for channel, (count, (low, high)) in enumerate(
            zip(LIGHTNESS_BINS.counts + CHROMA_BINS.counts, (LIGHTNESS_BINS.spans or ()) + (CHROMA_BINS.spans or ()),
                strict=True)
        )
    )  # fmt: skip
    return np.stack((lightness, CHROMA_BINS.counts[1] * a + b))


def _images(image_BCHW: Tensor) -> list[np.ndarray]:
    """The first few, as scikit-image takes and returns them."""
    return list(image_BCHW[:PLAIN_BATCH].permute(0, 2, 3, 1).double().cpu().numpy())


def _compare(ours_BCHW: Tensor, plain: Sequence[np.ndarray], tolerance: float) -> None:
    error = np.abs(np.stack(_images(ours_BCHW)) - np.stack(plain)).max()
    assert error <= tolerance, f"{error} apart, {tolerance} is allowed"


def _compare_classes(ours: Tensor, plain: Sequence[np.ndarray]) -> None:
    share = float((ours[:PLAIN_BATCH].cpu().numpy() == np.stack(plain)).mean())
    assert share >= AGREEMENT, f"only {share:.4%} of the classes are the same"
