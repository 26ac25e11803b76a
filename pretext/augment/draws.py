"""The random numbers of one augmented batch: small CPU tensors, whatever device the images are on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pretext.augment.presets import Augmentation

CROP_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Span:
    """Which rows of a step's whole batch a part of it is.

    What is random is drawn for the whole batch and then cut, so that it is the same however a batch is divided.
    """

    start: int
    stop: int
    whole: int

    def __len__(self) -> int:
        return self.stop - self.start

    def cut(self, drawn: Tensor) -> Tensor:
        """The part's rows of what was drawn for the whole batch."""
        return drawn[self.start : self.stop]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """What happens to each image of a batch; None where nothing of that kind does.

    Attributes:
        colour: (operation, factor_B) in the order of application; operations as in `pretext.augment.jitter.ADJUST`.
        shift_B2: Window's top left corner in the padded image, (row, column), whole pixels in 0..2 * crop_padding.
        flip_B: True where the image is mirrored.
        box_B4: Crop's top, left, height, width in whole pixels.
        angle_B: Rotation in degrees, counter-clockwise.
        corner_B42: Where the corners (top left, top right, bottom right, bottom left) go, (x, y) in pixels.
    """

    colour: tuple[tuple[str, Tensor], ...] = ()
    shift_B2: Tensor | None = None
    flip_B: Tensor | None = None
    box_B4: Tensor | None = None
    angle_B: Tensor | None = None
    corner_B42: Tensor | None = None

    def part(self, span: Span) -> Draws:
        """What happens to the images of a part of the batch."""
        cut = {name: value if value is None else span.cut(value) for name, value in
               ((field.name, getattr(self, field.name)) for field in fields(self)) if name != "colour"}  # fmt: skip
        return Draws(colour=tuple((operation, span.cut(factor_B)) for operation, factor_B in self.colour), **cut)


def draw(augmentation: Augmentation, count: int, height: int, width: int, generator: torch.Generator) -> Draws:
    """Draw one batch's changes; `generator`'s state decides them and nothing else does.

    Each image has its own numbers. The order of the colour operations is drawn once per batch, not per image, so that
    each operation is one pass over all images.

    Args:
        augmentation: The ranges.
        count: Images in the batch.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        generator: On the CPU.

    Raises:
        ValueError: If `generator` is not on the CPU: another device would draw other numbers.
    """
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, got {generator.device}")

    def uniform(least: float, most: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=torch.float64) * (most - least) + least

    colour = []
    ranges = [(name, getattr(augmentation, name)) for name in ("brightness", "contrast", "saturation", "hue")]
    ranges = [(name, reach) for name, reach in ranges if reach > 0]
    for index in torch.randperm(len(ranges), generator=generator).tolist():
        name, reach = ranges[index]
        colour.append((name, uniform(-reach, reach) if name == "hue" else uniform(max(0.0, 1 - reach), 1 + reach)))

    shift_B2 = flip_B = box_B4 = angle_B = corner_B42 = None
    if augmentation.crop_padding:
        shift_B2 = torch.randint(2 * augmentation.crop_padding + 1, (count, 2), generator=generator)
    if augmentation.flip_probability:
        flip_B = uniform(0, 1) < augmentation.flip_probability
    if augmentation.is_resized_crop:
        box_B4 = _draw_boxes(augmentation, height, width, uniform)
    if augmentation.rotation_degrees:
        angle_B = uniform(-augmentation.rotation_degrees, augmentation.rotation_degrees)
    if augmentation.is_perspective:
        chosen_B = uniform(0, 1) < augmentation.perspective_probability
        inwards_B4 = [
            torch.randint(int(augmentation.perspective_distortion * (side // 2)) + 1, (count, 4), generator=generator)
            for side in (width, height)
        ]
        inwards_B42 = torch.stack(inwards_B4, dim=2) * chosen_B[:, None, None]
        direction_42 = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        corner_B42 = rectangle_corners(height, width) + direction_42 * inwards_B42
    return Draws(
        colour=tuple(colour), shift_B2=shift_B2, flip_B=flip_B, box_B4=box_B4, angle_B=angle_B, corner_B42=corner_B42
    )


def rectangle_corners(height: int, width: int) -> Tensor:
    """Centres of an image's corner pixels as corner_42: top left, top right, bottom right, bottom left, each (x, y)."""
    return torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])


def _draw_boxes(augmentation: Augmentation, height: int, width: int, uniform: Callable[..., Tensor]) -> Tensor:
    """Ten candidates of random area and shape per image; the first that fits, else the largest centred one."""
    area_BN = uniform(*augmentation.crop_scale, CROP_ATTEMPTS) * (height * width)
    ratio_BN = uniform(*(math.log(ratio) for ratio in augmentation.crop_ratio), CROP_ATTEMPTS).exp()
    size_BN2 = torch.stack([(area_BN / ratio_BN).sqrt().round(), (area_BN * ratio_BN).sqrt().round()], dim=2)
    limit_2 = torch.tensor([height, width])
    fits_BN = ((size_BN2 > 0) & (size_BN2 <= limit_2)).all(dim=2)
    first_B = fits_BN.int().argmax(dim=1)  # of equals, the first
    size_B2 = size_BN2[torch.arange(len(first_B)), first_B].long()
    corner_B2 = (uniform(0, 1, 2) * (limit_2 - size_B2 + 1)).floor().long()

    least, most = augmentation.crop_ratio
    centred_2 = torch.tensor([min(height, round(width / least)), min(width, round(height * most))])
    none_B1 = ~fits_BN.any(dim=1, keepdim=True)
    size_B2 = torch.where(none_B1, centred_2, size_B2)
    corner_B2 = torch.where(none_B1, (limit_2 - centred_2) // 2, corner_B2)
    return torch.cat([corner_B2, size_B2], dim=1)
