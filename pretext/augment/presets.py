"""What an augmentation does, as numbers, and the ones that have a name."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """Ranges from which each image's random changes are drawn; the default changes nothing.

    Colour is changed first, geometry after it, so what geometry uncovers is pure black. Whole-pixel changes
    (`crop_padding`, flips) copy pixels; as soon as one change needs interpolation, all of the geometry is one bilinear
    lookup.

    Raises:
        ValueError: If a number is out of its range, or `crop_padding` meets a change that needs interpolation.
    """

    brightness: float = 0.0
    """Image times a factor from [1 - b, 1 + b], >= 0."""
    contrast: float = 0.0
    """Blend with the image's mean grey, weight of the image from [1 - c, 1 + c]."""
    saturation: float = 0.0
    """Blend with each pixel's grey, weight of the image from [1 - s, 1 + s]."""
    hue: float = 0.0
    """Turn of the colour wheel from [-h, h], h <= 0.5."""
    crop_padding: int = 0
    """Black border in pixels, within which a window of the image's own size is chosen."""
    flip_probability: float = 0.0
    """Chance of a left-right mirror image."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Share of the image's area that a crop keeps before it is enlarged to the image's size."""
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    """Width over height of that crop; drawn on a log scale."""
    rotation_degrees: float = 0.0
    """Angle from [-r, r]; black corners."""
    perspective_distortion: float = 0.0
    """How far each corner may move inwards, as a share of half the side, <= 0.5."""
    perspective_probability: float = 0.0
    """Chance of a change of perspective."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "rotation_degrees", "crop_padding"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be finite and >= 0, got {getattr(self, name)}")
        for name, most in (
            ("hue", 0.5),
            ("perspective_distortion", 0.5),
            ("flip_probability", 1),
            ("perspective_probability", 1),
        ):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be in 0..{most}, got {getattr(self, name)}")
        least, most = self.crop_scale
        if not 0 < least <= most <= 1:
            raise ValueError(f"crop_scale must be 0 < least <= most <= 1, got {self.crop_scale}")
        least, most = self.crop_ratio
        if not (0 < least <= most and math.isfinite(most)):
            raise ValueError(f"crop_ratio must be 0 < least <= most, got {self.crop_ratio}")
        if self.crop_padding and self.is_warp:
            raise ValueError(
                f"crop_padding copies whole pixels and can't be combined with a resized crop, rotation or perspective,"
                f" got crop_padding {self.crop_padding}"
            )

    @property
    def is_resized_crop(self) -> bool:
        """Whether images are cropped and enlarged."""
        return self.crop_scale != (1.0, 1.0) or self.crop_ratio != (1.0, 1.0)

    @property
    def is_perspective(self) -> bool:
        """Whether some images change perspective."""
        return self.perspective_distortion > 0 and self.perspective_probability > 0

    @property
    def is_warp(self) -> bool:
        """Whether a change needs interpolation."""
        return self.is_resized_crop or self.is_perspective or self.rotation_degrees > 0

    @property
    def changes_colours(self) -> bool:
        """Whether colours may appear that the image does not have: adjusted, blended, or the black of what is uncovered."""
        is_adjusted = max(self.brightness, self.contrast, self.saturation, self.hue) > 0
        return is_adjusted or self.crop_padding > 0 or self.is_warp

    @property
    def is_random(self) -> bool:
        """Whether anything is drawn at all."""
        return any(getattr(self, field.name) != field.default for field in fields(self))


AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(flip_probability=0.5),
    "small": Augmentation(brightness=0.05, contrast=0.05, crop_padding=4, flip_probability=0.5),
    "strong": Augmentation(
        brightness=0.2,
        contrast=0.1,
        saturation=0.05,
        hue=0.05,
        flip_probability=0.5,
        crop_scale=(0.8, 1.0),
        crop_ratio=(0.8, 1.2),
        rotation_degrees=10.0,
        perspective_distortion=0.1,
        perspective_probability=0.2,
    ),
}
"""By name: "flip" suits any three channels; "small" is for pretraining, "strong" for training a classifier on few
labels."""


def get_augmentation(preset: str | Augmentation) -> Augmentation:
    """Look a name up in `AUGMENTATIONS`; an `Augmentation` is its own answer.

    Raises:
        ValueError: If no preset has that name.
    """
    if isinstance(preset, Augmentation):
        return preset
    if preset not in AUGMENTATIONS:
        raise ValueError(f"preset must be one of {', '.join(AUGMENTATIONS)}, got {preset!r}")
    return AUGMENTATIONS[preset]
