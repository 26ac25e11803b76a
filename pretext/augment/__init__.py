"""Random changes of images that leave what they show the same."""

from __future__ import annotations

from pretext.augment.batched import apply_draws, augment_batch
from pretext.augment.draws import Draws, Span, draw
from pretext.augment.noise import NOISES, corrupt
from pretext.augment.presets import AUGMENTATIONS, Augmentation, get_augmentation

__all__ = [
    "AUGMENTATIONS",
    "NOISES",
    "Augmentation",
    "Draws",
    "Span",
    "apply_draws",
    "augment_batch",
    "corrupt",
    "draw",
    "get_augmentation",
]
