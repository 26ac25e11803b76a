"""What measures how unlike two images are, for scoring against people: images are embedded once, then compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pretext.artifacts.atomic import file_sha256
from pretext.datasets.download import Progress
from pretext.losses.operands import check_pair, lift_precision
from pretext.losses.smoothing import blur, gaussian_kernel
from pretext.perceptual import losses
from pretext.perceptual.distances import ms_ssim_distance, squared_distance, ssim_distance
from pretext.perceptual.fitted import FILE


class Metric(Protocol):
    """A distance between images: at least 0, 0 on equal images, symmetric; nothing in it is trained.

    Attributes:
        facts: What a record must know of it, ready for JSON.
    """

    facts: dict[str, Any]

    def embed(self, image01_BCHW: Tensor) -> list[Tensor]:
        """What is compared of each image, float32 tensors of which the first axis counts images.

        Raises:
            ValueError: If the images, sRGB (B, 3, H, W) in [0, 1], are of another shape or range.
        """
        ...

    def distance(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
        """distance_B, float32, of B embedded images from B others."""
        ...

    def to(self, device: torch.device) -> Metric:
        """Move it to a device."""
        ...


class PixelMetric(nn.Module):
    """A distance of the pixels themselves."""

    def __init__(self, compare: Callable[[Tensor, Tensor], Tensor], facts: dict[str, Any]) -> None:
        super().__init__()
        self.compare, self.facts = compare, facts

    def embed(self, image01_BCHW: Tensor) -> list[Tensor]:
        if image01_BCHW.ndim != 4 or not image01_BCHW.is_floating_point():
            raise ValueError(
                f"image must be a float (B, C, H, W), got {image01_BCHW.dtype} {tuple(image01_BCHW.shape)}"
            )
        return [image01_BCHW.detach().float()]

    @torch.no_grad()
    def distance(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
        return self.compare(x[0], y[0])


class NetworkMetric(nn.Module):
    """The distance of a loss that compares images in a network's features."""

    def __init__(self, loss: losses.NetworkLoss, facts: dict[str, Any]) -> None:
        super().__init__()
        self.loss, self.facts = loss, loss.network.facts | facts

    @torch.no_grad()
    def embed(self, image01_BCHW: Tensor) -> list[Tensor]:
        return self.loss.network(image01_BCHW)

    @torch.no_grad()
    def distance(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
        return self.loss.distance(x, y)


def l1_distance(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Mean absolute difference of each pair, distance_B, float32."""
    check_pair(x_BCHW, y_BCHW)
    x, y = lift_precision(x_BCHW, y_BCHW)
    return (x - y).abs().flatten(1).mean(1)


def pse_distance(x_BCHW: Tensor, y_BCHW: Tensor, sigma: float = 4.0) -> Tensor:
    """Proximally sensitive error of each pair, distance_B, float32: `pretext.losses.pse` without the mean over pairs."""
    check_pair(x_BCHW, y_BCHW)
    x, y = lift_precision(x_BCHW, y_BCHW)
    return blur((x - y).abs(), sigma).square().flatten(1).mean(1)


# Every builder is given weights_dir, offline, seed and progress as well; pixels need neither files nor chance.


def build_mse(**_: Any) -> Metric:
    """Mean squared difference of pixels."""
    return PixelMetric(squared_distance, {})


def build_l1(**_: Any) -> Metric:
    """Mean absolute difference of pixels."""
    return PixelMetric(l1_distance, {})


def build_pse(*, sigma: float = 4.0, **_: Any) -> Metric:
    """Proximally sensitive error of width `sigma`, px; ValueError if it is negative."""
    gaussian_kernel(sigma)  # for its checks
    return PixelMetric(lambda x, y: pse_distance(x, y, sigma), {"sigma": sigma})


def build_ssim(**_: Any) -> Metric:
    """1 - structural similarity; images must have at least 11 px a side."""
    return PixelMetric(ssim_distance, {})


def build_ms_ssim(**_: Any) -> Metric:
    """1 - structural similarity over five scales; images must have at least 176 px a side."""
    return PixelMetric(ms_ssim_distance, {})


def build_perceptual(
    *,
    network: str = "vgg16",
    network_weights: str = "imagenet",
    normalize: str = "imagenet",
    layer: Sequence[str] = ("2",),
    layer_weights: Sequence[float] | None = None,
    weights_dir: Path = Path("weights"),
    offline: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Metric:
    """Mean squared difference of features; arguments and errors as of `pretext.perceptual.losses.build_perceptual`."""
    loss = losses.build_perceptual(
        loss_network=network, loss_network_weights=network_weights, normalize=normalize, layer=layer,
        layer_weights=layer_weights, weights_dir=weights_dir, offline=offline, seed=seed, progress=progress,
    )  # fmt: skip
    return NetworkMetric(loss, {"layer_weights": list(loss.layer_weights)})


def build_lpips(
    *,
    network: str = "vgg16",
    network_weights: str = "imagenet",
    normalize: str = "imagenet",
    layer: Sequence[str] | None = None,
    channel_weights: str = "published",
    weights_dir: Path = Path("weights"),
    offline: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Metric:
    """LPIPS; arguments and errors as of `pretext.perceptual.losses.build_lpips`."""
    loss = losses.build_lpips(
        loss_network=network, loss_network_weights=network_weights, normalize=normalize, layer=layer,
        channel_weights=channel_weights, weights_dir=weights_dir, offline=offline, seed=seed, progress=progress,
    )  # fmt: skip
    facts = {"channel_weights": channel_weights}
    if channel_weights not in ("unit", "published"):
        path = Path(channel_weights).resolve()
        folder, file = (path, path / FILE) if path.is_dir() else (path.parent, path)
        facts = {"channel_weights": folder.name, "channel_weights_fingerprint": file_sha256(file)}
    return NetworkMetric(loss, facts)
