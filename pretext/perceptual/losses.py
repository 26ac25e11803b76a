"""Losses that compare images in a frozen network's features; each is built from the options of its row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretext.catalog import LOSSES
from pretext.datasets.download import Progress
from pretext.losses.operands import check_pair, without_autocast
from pretext.losses.pixel import mse
from pretext.perceptual.channel_weights import find_channels
from pretext.perceptual.distances import (
    check_layer_weights,
    check_layers,
    feature_distance,
    lpips_distance,
    ssim_distance,
)
from pretext.perceptual.frozen import Frozen
from pretext.perceptual.networks import FeatureNetwork, build_network
from pretext.perceptual.quality import find_quality, quality_fingerprint


class NetworkLoss(nn.Module):
    """A mean distance in a network's features, to which a loss on pixels may be added.

    It holds no parameters and no state. Only the prediction gets a gradient.

    Attributes:
        network: The network, whose `facts` say what it is.
        pixel_loss: Name of the loss on pixels, or None.
    """

    term = "features"

    def __init__(self, network: FeatureNetwork, *, pixel: str | None = None, pixel_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= pixel_weight < float("inf"):
            raise ValueError(f"pixel_weight must be >= 0, got {pixel_weight}")
        self.network, self.pixel_loss, self.pixel_weight = network, pixel, pixel_weight
        self.pixel = None if pixel is None else LOSSES[pixel].load()(**LOSSES[pixel].fixed, **LOSSES[pixel].reads)

    def distance(self, features_x: Sequence[Tensor], features_y: Sequence[Tensor]) -> Tensor:
        """distance_B between the features of two batches."""
        raise NotImplementedError

    def mean_distance(self, features_x: Sequence[Tensor], features_y: Sequence[Tensor]) -> Tensor:
        """The mean of `distance` over the batch."""
        return self.distance(features_x, features_y).mean()

    def forward(
        self, prediction_BCHW: Tensor, target_BCHW: Tensor, target_features: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The mean loss of a batch.

        Args:
            prediction_BCHW: sRGB (B, 3, H, W) in [0, 1], any float dtype.
            target_BCHW: The images it should be; the same shape.
            target_features: What the network says of the target, where it is known; any float dtype.

        Returns:
            A scalar, float32, also under autocast.

        Raises:
            ValueError: If the shapes differ, or as the network does.

        Cost: two passes through the network forward, one backward; one forward less with `target_features`.
        """
        terms = self.trained_terms(prediction_BCHW, target_BCHW, target_features)
        return self.total(terms).float()

    def terms_of(
        self, prediction_BCHW: Tensor, target_BCHW: Tensor, target_features: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What the loss adds up, by name, before it is weighted; arguments and errors as in `forward`."""
        return self.trained_terms(prediction_BCHW, target_BCHW, target_features)

    def trained_terms(
        self, prediction_BCHW: Tensor, target_BCHW: Tensor, target_features: Sequence[Tensor] | None
    ) -> dict[str, Tensor]:
        check_pair(prediction_BCHW, target_BCHW)
        if target_features is None:
            with torch.no_grad():
                target_features = self.network(target_BCHW)
        target_features = [feature.detach() for feature in target_features]
        terms = {self.term: self.mean_distance(self.network(prediction_BCHW), target_features)}
        if self.pixel is not None:
            terms[str(self.pixel_loss)] = self.pixel(prediction_BCHW, target_BCHW)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the terms."""
        total = terms[self.term]
        return total if self.pixel is None else total + self.pixel_weight * terms[str(self.pixel_loss)]


class PerceptualLoss(NetworkLoss):
    """Mean squared difference of the features of each layer, weighted and added up.

    Args:
        network: The network, cut behind the layers to compare.
        layer_weights: One weight >= 0 a layer; 1 each if not given.
        pixel: Name of a loss of the catalogue that is added, at its defaults.
        pixel_weight: Its weight, >= 0.

    Reference: Pihlgren et al. 2023, arXiv:2302.04032.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        layer_weights: Sequence[float] | None = None,
        pixel: str | None = None,
        pixel_weight: float = 1.0,
    ) -> None:
        super().__init__(network, pixel=pixel, pixel_weight=pixel_weight)
        self.layer_weights = check_layer_weights(layer_weights, len(network.layers))

    def distance(self, features_x: Sequence[Tensor], features_y: Sequence[Tensor]) -> Tensor:
        return feature_distance(features_x, features_y, self.layer_weights)

    def mean_distance(self, features_x: Sequence[Tensor], features_y: Sequence[Tensor]) -> Tensor:
        """The same as `distance` and then the mean, at two thirds of their time."""
        check_layers(features_x, features_y)
        return torch.stack([weight * mse(x, y.to(x.dtype)) for weight, x, y in
                            zip(self.layer_weights, features_x, features_y, strict=True)]).sum()  # fmt: skip


class LPIPSLoss(NetworkLoss):
    """Learned perceptual image patch similarity: squared difference of unit features, each channel by its weight.

    Args:
        network: The network, cut behind the layers to compare.
        weights: Per layer weight_C >= 0; 1 everywhere if not given.
        pixel: Name of a loss of the catalogue that is added, at its defaults.
        pixel_weight: Its weight, >= 0.

    Reference: Zhang, Isola, Efros, Shechtman, Wang 2018, arXiv:1801.03924.
    """

    term = "lpips"

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        weights: Sequence[Tensor] | None,
        pixel: str | None = None,
        pixel_weight: float = 1.0,
    ) -> None:
        super().__init__(network, pixel=pixel, pixel_weight=pixel_weight)
        self.num_weights = 0 if weights is None else len(weights)
        for number, weight_C in enumerate(weights or ()):
            self.register_buffer(f"weight{number}", weight_C.detach().clone().float(), persistent=False)

    @property
    def weights(self) -> list[Tensor] | None:
        """Per layer weight_C, on the loss's device; None for 1 everywhere."""
        return [getattr(self, f"weight{number}") for number in range(self.num_weights)] or None

    def distance(self, features_x: Sequence[Tensor], features_y: Sequence[Tensor]) -> Tensor:
        return lpips_distance(features_x, features_y, self.weights)


class NoReferenceLoss(nn.Module):
    """A network's opinion of the prediction alone, held to the target by LPIPS.

    Optimised alone, such an opinion is exploited: images get better by it and worse to the eye. So beside the anchor
    there are measures that are compared and never trained, the squared error and 1 - SSIM, in `terms_of`.

    Args:
        quality: From image01_BCHW to score_B or score_B1. Higher is better, unless it has a true `lower_better`. It is
            frozen here; it computes in float32.
        anchor: The loss that is added, which knows the target.
        quality_weight: Weight of the opinion, >= 0.

    Reference: Kashkarov et al. 2024, "Can No-Reference Quality-Assessment Methods Serve as Perceptual Losses for
        Super-Resolution?", arXiv:2405.20392.
    """

    _quality: nn.Module

    def __init__(self, quality: nn.Module, anchor: LPIPSLoss, *, quality_weight: float) -> None:
        super().__init__()
        if not 0 <= quality_weight < float("inf"):
            raise ValueError(f"quality_weight must be >= 0, got {quality_weight}")
        self.anchor, self.quality_weight = anchor, quality_weight
        self.sign = 1.0 if getattr(quality, "lower_better", False) else -1.0
        self.quality, self.quality_fingerprint = Frozen(quality), quality_fingerprint(quality)

    @property
    def network(self) -> FeatureNetwork:
        """The anchor's network."""
        return self.anchor.network

    def forward(
        self, prediction_BCHW: Tensor, target_BCHW: Tensor, target_features: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The mean loss of a batch; arguments, result and errors as of `NetworkLoss`, and it may be negative."""
        terms = self.anchor.trained_terms(prediction_BCHW, target_BCHW, target_features)
        return (self.anchor.total(terms) + self.quality_weight * self._opinion(prediction_BCHW)).float()

    def terms_of(
        self, prediction_BCHW: Tensor, target_BCHW: Tensor, target_features: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What the loss adds up, unweighted, and the held-out measures.

        "quality" is lower for better images: minus the network's score where its higher scores are better. The
        squared error is held out only where it is not the loss on pixels.
        """
        terms = self.anchor.trained_terms(prediction_BCHW, target_BCHW, target_features)
        terms["quality"] = self._opinion(prediction_BCHW)
        with torch.no_grad():
            if self.anchor.pixel_loss != "mse":
                terms["held-out mse"] = mse(prediction_BCHW, target_BCHW)
            terms["held-out 1 - ssim"] = ssim_distance(prediction_BCHW, target_BCHW).mean()
        return terms

    def _opinion(self, prediction_BCHW: Tensor) -> Tensor:
        with without_autocast(prediction_BCHW):
            score = self.quality(prediction_BCHW.float())
        if score.shape not in ((len(prediction_BCHW),), (len(prediction_BCHW), 1)):
            raise ValueError(f"quality must give one score an image, (B,) or (B, 1), got {tuple(score.shape)}")
        return self.sign * score.float().mean()


def build_perceptual(
    *,
    loss_network: str = "vgg16",
    loss_network_weights: str = "imagenet",
    normalize: str = "imagenet",
    pixel_loss: str | None = None,
    pixel_weight: float = 1.0,
    layer: Sequence[str] = ("2",),
    layer_weights: Sequence[float] | None = None,
    weights_dir: Path = Path("weights"),
    offline: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> PerceptualLoss:
    """A perceptual loss; the arguments are those of `PerceptualLoss` and `build_network`, and so are the errors."""
    network = build_network(loss_network, layers=layer, weights=loss_network_weights, weights_dir=weights_dir,
                            offline=offline, normalize=normalize, seed=seed, progress=progress)  # fmt: skip
    return PerceptualLoss(network, layer_weights=layer_weights, pixel=pixel_loss, pixel_weight=pixel_weight)


def build_lpips(
    *,
    loss_network: str = "vgg16",
    loss_network_weights: str = "imagenet",
    normalize: str = "imagenet",
    pixel_loss: str | None = None,
    pixel_weight: float = 1.0,
    layer: Sequence[str] | None = None,
    channel_weights: str = "published",
    weights_dir: Path = Path("weights"),
    offline: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> LPIPSLoss:
    """LPIPS as a loss; the arguments are those of `LPIPSLoss` and `find_channels`, and so are the errors."""
    network, channels = find_channels(loss_network, channel_weights, layer=layer, weights=loss_network_weights,
                                      weights_dir=weights_dir, offline=offline, normalize=normalize, seed=seed, progress=progress)  # fmt: skip
    return LPIPSLoss(network, weights=channels, pixel=pixel_loss, pixel_weight=pixel_weight)


def build_no_reference(*, quality: str | None = None, quality_weight: float = 0.1, **anchor: Any) -> NoReferenceLoss:
    """A no-reference quality network as a loss, anchored by LPIPS.

    Args:
        quality: "MODULE:NAME" of a function without arguments that returns the network, or a no-reference metric of
            pyiqa, which gets its own weights its own way.
        quality_weight: Its weight, >= 0.
        anchor: Arguments of `build_lpips`.

    Raises:
        ConfigError: If there is no such network.
        ValueError: If an argument is out of its range, or as `build_lpips`.
    """
    found = find_quality(quality, offline=bool(anchor.get("offline")))
    return NoReferenceLoss(found, build_lpips(**anchor), quality_weight=quality_weight)
