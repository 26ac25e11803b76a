"""Residual encoders, with torchvision's parameter names so that their bodies can be exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, get_args

from torch import Tensor, nn

from pretext.encoders.base import Encoder, scale_channels

Stem = Literal["3x3", "7x7"]
CHANNELS = (64, 128, 256, 512)
POOLED_GRID = 3


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added; the first may halve the grid."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(after))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        shortcut_BCHW = map_BCHW if self.downsample is None else self.downsample(map_BCHW)
        inner_BCHW = self.relu(self.bn1(self.conv1(map_BCHW)))
        outer_BCHW: Tensor = self.relu(self.bn2(self.conv2(inner_BCHW)) + shortcut_BCHW)
        return outer_BCHW


class ResNet(Encoder):
    """See `build_resnet18`."""

    def __init__(
        self, *, name: str, blocks: tuple[int, ...], image_size: int, width: float, latent_dim: int, stem: Stem
    ) -> None:
        layers = ("stem", "layer1", "layer2", "layer3", "layer4", "pooled", "latent")
        super().__init__(name=name, num_features=latent_dim, image_size=image_size, layers=layers)
        if stem not in get_args(Stem):
            raise ValueError(f"stem must be one of {', '.join(get_args(Stem))}, got {stem!r}")
        channels = [scale_channels(channel, width) for channel in CHANNELS]
        kernel, stride = (7, 2) if stem == "7x7" else (3, 1)
        self.conv1 = nn.Conv2d(3, channels[0], kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        before = channels[0]
        for number, (after, depth) in enumerate(zip(channels, blocks, strict=True), start=1):
            first = BasicBlock(before, after, stride=1 if number == 1 else 2)
            rest = [BasicBlock(after, after, stride=1) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            before = after
        self.avgpool = nn.AdaptiveAvgPool2d(POOLED_GRID)
        self.project = nn.Linear(before * POOLED_GRID**2, latent_dim)

    def iter_layers(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        yield "stem", lambda image_BCHW: self.maxpool(self.relu(self.bn1(self.conv1(image_BCHW))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            yield name, self.get_submodule(name)
        yield "pooled", self.avgpool
        yield "latent", lambda map_BCHW: self.project(map_BCHW.flatten(1))


def build_resnet18(*, image_size: int = 96, width: float = 1.0, latent_dim: int = 1024, stem: Stem = "3x3") -> Encoder:
    """An 18-layer residual network, averaged to a 3x3 grid that a linear layer projects.

    Args:
        image_size: Height and width of the images in pixels, >= 16.
        width: Factor on the channels 64, 128, 256, 512, each rounded to a multiple of 8.
        latent_dim: Width D of the feature vector.
        stem: First convolution: "3x3" of stride 1, for small images; "7x7" of stride 2, torchvision's. A 3x3 max pool
            of stride 2 follows either.

    Returns:
        An encoder with layers stem (after the max pool), layer1..layer4, pooled (a 3x3 map), latent. All keys but
        `project` are those of torchvision's resnet18. The weights are PyTorch's default initialisation for each
        layer, drawn from the global generator.

    Raises:
        ValueError: If an argument is out of its range.

    Reference: He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, sec. 4.1.
    """
    return ResNet(
        name="resnet18", blocks=(2, 2, 2, 2), image_size=image_size, width=width, latent_dim=latent_dim, stem=stem
    )
