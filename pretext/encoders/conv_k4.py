"""The perceptual autoencoders' encoder: four unpadded 4x4 convolutions and a linear layer to a short vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from pretext.encoders.base import Encoder, scale_channels

CHANNELS = (32, 64, 128, 256)
SMALLEST_IMAGE = 46  # what four such convolutions bring to one place


class ConvK4(Encoder):
    """See `build_conv_k4`."""

    def __init__(self, *, image_size: int, width: float, latent_dim: int) -> None:
        if image_size < SMALLEST_IMAGE:
            raise ValueError(f"image_size must be >= {SMALLEST_IMAGE}, got {image_size}")
        convolutions = tuple(f"conv{number}" for number in range(1, len(CHANNELS) + 1))
        super().__init__(
            name="conv-k4", num_features=latent_dim, image_size=image_size, layers=(*convolutions, "latent")
        )
        before, grid = 3, image_size
        for name, channels in zip(convolutions, CHANNELS, strict=True):
            after, grid = scale_channels(channels, width), grid // 2 - 1
            convolution = nn.Conv2d(before, after, kernel_size=4, stride=2)
            self.add_module(name, nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)))
            before = after
        self.latent = nn.Sequential(nn.Flatten(), nn.Linear(before * grid * grid, latent_dim))

    def iter_layers(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        for name in self.layers:
            yield name, self.get_submodule(name)


def build_conv_k4(*, image_size: int = 96, width: float = 1.0, latent_dim: int = 64) -> Encoder:
    """Four 4x4 convolutions of stride 2 without padding, each with batch norm and ReLU, then a linear layer.

    On 96 pixels the grids are 47, 22, 10 and 4.

    Args:
        image_size: Height and width of the images in pixels, >= 46; its decoder wants 64 + 16 n.
        width: Factor on the channels 32, 64, 128, 256, each rounded to a multiple of 8.
        latent_dim: Width D of the feature vector.

    Returns:
        An encoder with layers conv1..conv4 (maps, after the ReLU) and latent; 953,312 parameters at the defaults. The
        weights are PyTorch's default initialisation, drawn from the global generator.

    Raises:
        ValueError: If an argument is out of its range.

    Reference: Pihlgren et al. 2023, arXiv:2302.04032, task of perceptual autoencoding; after Ha, Schmidhuber 2018,
        "World Models", arXiv:1803.10122.
    """
    return ConvK4(image_size=image_size, width=width, latent_dim=latent_dim)
