"""An encoder with a head: how a fine-tuning protocol trains it, and how it judges images."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretext.augment import augment_batch
from pretext.encoders.base import Encoder
from pretext.tasks.heads import build_head
from pretext.tasks.protocols import Protocol
from pretext.training.device import Compute
from pretext.training.pool import Batch, ImagePool, chunk_indices
from pretext.training.views import own_input


class Classifier(nn.Module):
    """Images (B, 3, H, W) in 0..1 to logits (B, K).

    Args:
        encoder: Of which one layer is used.
        head: From that layer, flattened, to logits.
        layer: The layer.
        space: What the images are in: "rgb", or "lab" for an encoder that sees Lab.
    """

    def __init__(self, encoder: Encoder, head: nn.Module, *, layer: str = "latent", space: str = "rgb") -> None:
        super().__init__()
        self.encoder, self.head, self.layer, self.space = encoder, head, layer, space

    def features(self, image01_BCHW: Tensor) -> Tensor:
        """What the head sees: the layer's output, flattened."""
        return self.encoder.encode(own_input(self.encoder, image01_BCHW, self.space), self.layer).flatten(1)

    def forward(self, image01_BCHW: Tensor) -> Tensor:
        return self.head(self.features(image01_BCHW))


def build_classifier(encoder: Encoder, *, head: str, num_classes: int, protocol: Protocol,
                     space: str = "rgb") -> Classifier:  # fmt: skip
    """Put a new head on an encoder's layer; a fixed encoder takes no gradient.

    Raises:
        ValueError: If the encoder lacks the protocol's layer.
    """
    encoder.requires_grad_(protocol.weights != "fixed")
    layer = protocol.layer_in(encoder)
    return Classifier(encoder, build_head(head, count_features(encoder, layer), num_classes), layer=layer, space=space)


@torch.no_grad()
def count_features(encoder: Encoder, layer: str) -> int:
    """How many numbers a layer makes of one image.

    Raises:
        ValueError: If there is no such layer.

    Cost: one image through the encoder, but for "latent".
    """
    if layer == "latent":
        return encoder.num_features
    was_training = encoder.training
    one = torch.zeros(1, 3, encoder.image_size, encoder.image_size)
    count = encoder.eval().encode(one, layer).numel()
    encoder.train(was_training)
    return count


class ClassifierLearner:
    """A classifier as the training loop wants it.

    Args:
        module: The classifier.
        protocol: How its encoder is treated.
        augmentation: Name of the augmentation of training images.
        fit_label_N: Classes of the training pool's images.
        select_label_N: Classes of the validation pool's images.
        device: Where the batches are.
    """

    def __init__(self, module: Classifier, protocol: Protocol, augmentation: str, fit_label_N: np.ndarray,
                 select_label_N: np.ndarray, device: torch.device) -> None:  # fmt: skip
        self.module, self.protocol, self.augmentation = module, protocol, augmentation
        self.fit_label_N = torch.from_numpy(fit_label_N).to(device)
        self.select_label_N = torch.from_numpy(select_label_N).to(device)

    def train_mode(self) -> None:
        self.module.train()
        if self.protocol.norm == "eval":
            self.module.encoder.eval()

    def train_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        image01_BCHW = augment_batch(batch.image_BHWC, self.augmentation, generator, batch.span)
        with torch.set_grad_enabled(self.protocol.weights != "fixed"):
            feature_BD = self.module.features(image01_BCHW)
        return F.cross_entropy(self.module.head(feature_BD).float(), self.fit_label_N[torch.from_numpy(batch.index_B)])

    def val_loss(self, batch: Batch) -> Tensor:
        logit_BK = self.module(augment_batch(batch.image_BHWC, "none"))
        return F.cross_entropy(logit_BK.float(), self.select_label_N[torch.from_numpy(batch.index_B)])


@torch.inference_mode()
def run_over(module: nn.Module, pool: ImagePool, compute: Compute, *, batch_size: int = 256,
             augmentation: str = "none", generator: torch.Generator | None = None) -> np.ndarray:  # fmt: skip
    """A module's output for every image of a pool, in order, in eval mode; float32 (N, K)."""
    module.eval()
    parts = []
    for batch in pool.batches(chunk_indices(len(pool), batch_size)):
        with compute.autocast():
            parts.append(module(augment_batch(batch.image_BHWC, augmentation, generator)).float().cpu().numpy())
    return np.concatenate(parts)


def with_instance_norm(encoder: Encoder) -> Encoder:
    """A copy whose batch norms normalise every image by its own statistics.

    This is what batch norm in train mode does to images that pass one at a time, as in the slides' code, at the speed
    of whole batches.

    Raises:
        ValueError: On a forward pass, if a normalised map has a single pixel: it has no spread of its own.
    """
    encoder = copy.deepcopy(encoder)
    for parent in encoder.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                own = nn.InstanceNorm2d(child.num_features, eps=child.eps, affine=True)
                own.weight, own.bias = child.weight, child.bias
                setattr(parent, name, own)
    return encoder
