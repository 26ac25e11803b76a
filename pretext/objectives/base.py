"""What every objective offers, and how the training loop learns it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from pretext.augment import Draws, Span, apply_draws, draw, get_augmentation
from pretext.encoders.base import Encoder
from pretext.objectives.color_task import ColorTask
from pretext.objectives.feature_task import FeatureTask
from pretext.training.pool import Batch
from pretext.training.seeds import make_generator


@dataclass(frozen=True, slots=True)
class Setting:
    """What an objective is built from.

    Args:
        encoder: The network to train.
        loss: How its predictions are compared; None where nothing is.
        width: The factor on the encoder's channels, for what is built to match.
        color: The colour targets, where there are some.
        features: Features of the images that were extracted before, where there are some.
    """

    encoder: Encoder
    loss: nn.Module | None = None
    width: float = 1.0
    color: ColorTask | None = None
    features: FeatureTask | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A batch as an objective sees it.

    Args:
        input01_BCHW: Images in 0..1 in the encoder's own colour space, augmented.
        generator: On the CPU, for what the objective draws itself.
        target_BGHW: Bins or features, where the data has them.
        span: Which rows of a larger batch these are, where they are a part of one: what the objective draws itself it
            draws for the whole of it.
    """

    input01_BCHW: Tensor
    generator: torch.Generator
    target_BGHW: Tensor | None = None
    span: Span | None = None


class Objective(nn.Module):
    """A pretext task: its `encoder` is what is kept.

    Its state dict holds `encoder.*` and whatever else it trains (`decoder.*`, `head.*`); losses hold no state.
    """

    encoder: Encoder
    picture_name = "reconstructions"

    def loss_of(self, view: View) -> Tensor:
        """Mean loss of a batch."""
        raise NotImplementedError

    def terms_of(self, view: View) -> dict[str, Tensor]:
        """The parts of the loss that are worth a number each, unweighted; none if the loss says it all."""
        return {}

    def constant_losses(self) -> dict[str, float]:
        """For each of those parts, what the best constant prediction scores."""
        return {}

    def picture(self, view: View) -> Image.Image | None:
        """What shows best how well the task is solved on a few images; None if nothing does."""
        return None


class PretextLearner:
    """An objective as the training loop wants it: stored batches in, a loss out.

    Args:
        module: The objective.
        augmentation: Name of the augmentation of training images; validation images are never augmented. Targets
            follow a flip, and no other change.
    """

    def __init__(self, module: Objective, augmentation: str) -> None:
        self.module, self.augmentation = module, get_augmentation(augmentation)

    def train_mode(self) -> None:
        self.module.train()

    def train_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        draws = self._draw(batch, generator) if self.augmentation.is_random else Draws()
        target_BGHW = batch.target_BGHW
        if target_BGHW is not None and draws.flip_B is not None:
            flip_B111 = draws.flip_B.to(target_BGHW.device)[:, None, None, None]
            target_BGHW = torch.where(flip_B111, target_BGHW.flip(-1), target_BGHW)
        image01_BCHW = apply_draws(batch.image_BHWC, self.augmentation, draws)
        return self.module.loss_of(View(image01_BCHW, generator, target_BGHW, batch.span))

    def _draw(self, batch: Batch, generator: torch.Generator) -> Draws:
        count, height, width, _ = batch.image_BHWC.shape
        span = batch.span or Span(0, count, count)
        return draw(self.augmentation, span.whole, height, width, generator).part(span)

    def val_loss(self, batch: Batch) -> Tensor:
        return self.module.loss_of(plain_view(batch))


def plain_view(batch: Batch) -> View:
    """A batch without augmentation; what the objective draws is decided by the images' numbers."""
    image01_BCHW = apply_draws(batch.image_BHWC, get_augmentation("none"), Draws())
    return View(image01_BCHW, make_generator(0, "validation", int(batch.index_B[0])), batch.target_BGHW)
