"""The decoder that turns an encoder's feature vector back into an image, for autoencoders."""

from __future__ import annotations

from torch import Tensor, nn

from pretext.encoders.base import scale_channels

CHANNELS = (256, 256, 128, 64, 32)
UPS = ("up1", "up2", "up3", "up4")


class Decoder(nn.Module):
    """See `build_decoder`."""

    def __init__(self, *, image_size: int, width: float, latent_dim: int) -> None:
        super().__init__()
        if image_size % 16 or image_size < 16:
            raise ValueError(f"image_size must be a positive multiple of 16, got {image_size}")
        if latent_dim < 1:
            raise ValueError(f"latent_dim must be >= 1, got {latent_dim}")
        if image_size >= 64:
            # kernels 6, 5, 4 of stride 2 without padding take a grid of g to 8 g + 24, the last doubles it
            grid, kernels, paddings = (image_size - 48) // 16, (6, 5, 4, 4), (0, 0, 0, 1)
        else:
            grid, kernels, paddings = image_size // 16, (4, 4, 4, 4), (1, 1, 1, 1)
        channels = [scale_channels(channel, width) for channel in CHANNELS]
        self.image_size, self.latent_dim = image_size, latent_dim
        self.expand = nn.Linear(latent_dim, channels[0] * grid * grid)
        self.unflatten = nn.Unflatten(1, (channels[0], grid, grid))
        for name, before, after, kernel, padding in zip(
            UPS, channels[:-1], channels[1:], kernels, paddings, strict=True
        ):
            convolution = nn.ConvTranspose2d(before, after, kernel, stride=2, padding=padding)
            self.add_module(name, nn.Sequential(convolution, nn.BatchNorm2d(after), nn.LeakyReLU(0.2)))
        self.paint = nn.ConvTranspose2d(channels[-1], 3, kernel_size=3, padding=1)

    def forward(self, latent_BD: Tensor) -> Tensor:
        """Decode feature vectors.

        Args:
            latent_BD: Any range, D = `latent_dim`.

        Returns:
            image01_BCHW in [0, 1], H = W = `image_size`.

        Raises:
            ValueError: If `latent_BD` has another width.
        """
        if latent_BD.ndim != 2 or latent_BD.shape[1] != self.latent_dim:
            raise ValueError(f"latent must be (B, {self.latent_dim}), got {tuple(latent_BD.shape)}")
        map_BCHW = self.unflatten(self.expand(latent_BD))
        for name in UPS:
            map_BCHW = self.get_submodule(name)(map_BCHW)
        image01_BCHW: Tensor = self.paint(map_BCHW).sigmoid()
        return image01_BCHW


def build_decoder(*, image_size: int = 96, width: float = 1.0, latent_dim: int = 256) -> nn.Module:
    """A linear layer, then five transposed convolutions 256-256-128-64-32-3 and a sigmoid.

    The first four have stride 2, batch norm and LeakyReLU(0.2). From 64 pixels on their kernels are 6, 5, 4, 4, on
    grids 3-10-23-48-96-96 at 96 pixels; below, all are 4 and double the grid.

    Args:
        image_size: Height and width of the images in pixels, a multiple of 16.
        width: Factor on the channels, each rounded to a multiple of 8, as in the encoder.
        latent_dim: Width D of the feature vector it starts from.

    Returns:
        A module from latent_BD to image01_BCHW; 3,936,771 parameters at the defaults. The weights are PyTorch's
        default initialisation, drawn from the global generator.

    Raises:
        ValueError: If an argument is out of its range.
    """
    return Decoder(image_size=image_size, width=width, latent_dim=latent_dim)
