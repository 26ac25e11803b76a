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
from pretext.training.pool import ImagePool, chunk_indices


class Classifier(nn.Module):
    """Images (B, 3, H, W) in 0..1 to logits (B, K)."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, image01_BCHW: Tensor) -> Tensor:
        return self.head(self.encoder(image01_BCHW))


def build_classifier(encoder: Encoder, *, head: str, num_classes: int, protocol: Protocol) -> Classifier:
    """Put a new head on an encoder; a fixed encoder takes no gradient."""
    encoder.requires_grad_(protocol.weights != "fixed")
    return Classifier(encoder, build_head(head, encoder.num_features, num_classes))


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

    def train_loss(self, index_B: np.ndarray, image_BHWC: Tensor, generator: torch.Generator) -> Tensor:
        image01_BCHW = augment_batch(image_BHWC, self.augmentation, generator)
        with torch.set_grad_enabled(self.protocol.weights != "fixed"):
            feature_BD = self.module.encoder(image01_BCHW)
        return F.cross_entropy(self.module.head(feature_BD).float(), self.fit_label_N[torch.from_numpy(index_B)])

    def val_loss(self, index_B: np.ndarray, image_BHWC: Tensor) -> Tensor:
        logit_BK = self.module(augment_batch(image_BHWC, "none"))
        return F.cross_entropy(logit_BK.float(), self.select_label_N[torch.from_numpy(index_B)])


@torch.inference_mode()
def run_over(module: nn.Module, pool: ImagePool, compute: Compute, *, batch_size: int = 256,
             augmentation: str = "none", generator: torch.Generator | None = None) -> np.ndarray:  # fmt: skip
    """A module's output for every image of a pool, in order, in eval mode; float32 (N, K)."""
    module.eval()
    parts = []
    for _, image_BHWC in pool.batches(chunk_indices(len(pool), batch_size)):
        with compute.autocast():
            parts.append(module(augment_batch(image_BHWC, augmentation, generator)).float().cpu().numpy())
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
