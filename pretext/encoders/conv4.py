"""The student project's denoising encoder: four strided convolutions, and all that they leave as the feature vector."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from pretext.encoders.base import Encoder, scale_channels

CHANNELS = (12, 24, 48, 96)
REDUCTION = 16


class Conv4(Encoder):
    """See `build_conv4`.

    Attributes:
        widths: Channels behind each convolution.
    """

    widths: tuple[int, ...]

    def __init__(self, *, image_size: int, width: float) -> None:
        if image_size % REDUCTION or image_size < REDUCTION:
            raise ValueError(f"image_size must be a positive multiple of {REDUCTION}, got {image_size}")
        widths = tuple(scale_channels(channels, width) for channels in CHANNELS)
        convolutions = tuple(f"conv{number}" for number in range(1, len(widths) + 1))
        grid = image_size // REDUCTION
        super().__init__(
            name="conv4", num_features=widths[-1] * grid**2, image_size=image_size, layers=(*convolutions, "latent"),
            code_layer=convolutions[-1], code_shape=(widths[-1], grid, grid),
        )  # fmt: skip
        self.widths = widths
        for name, (before, after) in zip(convolutions, itertools.pairwise((3, *widths)), strict=True):
            convolution = nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1)
            self.add_module(name, nn.Sequential(convolution, nn.ReLU(inplace=True)))
        self.latent = nn.Flatten()

    def iter_layers(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        for name in self.layers:
            yield name, self.get_submodule(name)


def build_conv4(*, image_size: int = 96, width: float = 1.0) -> Encoder:
    """Four 4x4 convolutions of stride 2 to 12, 24, 48 and 96 channels, each with a ReLU and without batch norm.

    Args:
        image_size: Height and width of the images in pixels, a multiple of 16.
        width: Factor on the channels, each rounded to a multiple of 8; at 1 they are as above.

    Returns:
        An encoder with layers conv1..conv4 (maps) and latent: the last map, flattened, 3,456 numbers at 96 pixels;
        97,524 parameters at the defaults. The weights are PyTorch's default initialisation, drawn from the global
        generator.

    Raises:
        ValueError: If an argument is out of its range.
    """
    return Conv4(image_size=image_size, width=width)
