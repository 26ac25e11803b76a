"""The small convolutional encoder: five strided convolutions and a linear layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from pretext.encoders.base import Encoder, scale_channels

CHANNELS = (32, 64, 128, 256, 256)


class CNN(Encoder):
    """See `build_cnn`."""

    def __init__(self, *, image_size: int, width: float, latent_dim: int) -> None:
        convolutions = tuple(f"conv{number}" for number in range(1, len(CHANNELS) + 1))
        super().__init__(name="cnn", num_features=latent_dim, image_size=image_size, layers=(*convolutions, "latent"))
        before, grid = 3, image_size
        for name, channels in zip(convolutions, CHANNELS, strict=True):
            after, grid = scale_channels(channels, width), (grid + 1) // 2
            convolution = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1)
            self.add_module(name, nn.Sequential(convolution, nn.BatchNorm2d(after), nn.LeakyReLU(0.2)))
            before = after
        self.latent = nn.Sequential(nn.Flatten(), nn.Linear(before * grid * grid, latent_dim))

    def iter_layers(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        for name in self.layers:
            yield name, self.get_submodule(name)


def build_cnn(*, image_size: int = 96, width: float = 1.0, latent_dim: int = 256) -> Encoder:
    """Five 3x3 convolutions of stride 2, each with batch norm and LeakyReLU(0.2), then a linear layer.

    Args:
        image_size: Height and width of the images in pixels, >= 16.
        width: Factor on the channels 32, 64, 128, 256, 256, each rounded to a multiple of 8.
        latent_dim: Width D of the feature vector.

    Returns:
        An encoder with layers conv1..conv5 (maps, after the activation) and latent; 1,570,048 parameters at the
        defaults. The weights are PyTorch's default initialisation, drawn from the global generator.

    Raises:
        ValueError: If an argument is out of its range.
    """
    return CNN(image_size=image_size, width=width, latent_dim=latent_dim)
