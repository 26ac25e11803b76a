"""What every objective offers, and how the training loop learns it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pretext.augment import augment_batch
from pretext.encoders.base import Encoder


class Objective(nn.Module):
    """A pretext task: its `encoder` is what is kept.

    Its state dict holds `encoder.*` and whatever else it trains (`decoder.*`, `head.*`); losses hold no state.
    """

    encoder: Encoder

    def loss_of(self, image01_BCHW: Tensor) -> Tensor:
        """Mean loss of a batch of images in 0..1."""
        raise NotImplementedError

    def picture(self, image01_BCHW: Tensor) -> Image.Image | None:
        """What shows best how well the task is solved on a few images; None if nothing does."""
        return None


class PretextLearner:
    """An objective as the training loop wants it: uint8 batches in, a loss out.

    Args:
        module: The objective.
        augmentation: Name of the augmentation of training images; validation images are never augmented.
    """

    def __init__(self, module: Objective, augmentation: str) -> None:
        self.module, self.augmentation = module, augmentation

    def train_mode(self) -> None:
        self.module.train()

    def train_loss(self, index_B: np.ndarray, image_BHWC: Tensor, generator: torch.Generator) -> Tensor:
        return self.module.loss_of(augment_batch(image_BHWC, self.augmentation, generator))

    def val_loss(self, index_B: np.ndarray, image_BHWC: Tensor) -> Tensor:
        return self.module.loss_of(augment_batch(image_BHWC, "none", None))
