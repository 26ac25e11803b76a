"""Decoders that turn an encoder's code, a vector or a map, back into an image, for autoencoders."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from pretext.encoders.base import Encoder, scale_channels
from pretext.encoders.conv4 import Conv4
from pretext.encoders.conv_k4 import ConvK4

CHANNELS = (256, 256, 128, 64, 32)
UPS = ("up1", "up2", "up3", "up4")
WIDEST, NARROWEST = 256, 16


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


def sizes_above(grid: int, size: int) -> list[int]:
    """Of `size`, its half, its quarter and so on, all that are larger than `grid`, ascending; at least `size`."""
    sizes = [size]
    while (half := (sizes[0] + 1) // 2) > grid:
        sizes.insert(0, half)
    return sizes


def up_block(before: int, after: int, size: int) -> nn.Module:
    """Nearest upsampling to `size`, a 3x3 convolution, batch norm and ReLU."""
    up, convolution = nn.Upsample(size=size), nn.Conv2d(before, after, kernel_size=3, padding=1)
    return nn.Sequential(up, convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class MapDecoder(nn.Module):
    """From a map to an image: nearest upsampling, each time followed by a 3x3 convolution, batch norm and ReLU.

    Of the image's size, its half, its quarter and so on, the map grows to all that are larger than itself. Channels
    halve each time, from the map's to at most 256 * `width` and at least 16; a last 3x3 convolution and a sigmoid make
    the image.
    """

    def __init__(self, *, code_shape: tuple[int, ...], image_size: int, width: float) -> None:
        super().__init__()
        before, grid, _ = self.code_shape = code_shape
        after = min(before, 2 * scale_channels(WIDEST, width))
        blocks: list[nn.Module] = []
        for size in sizes_above(grid, image_size):
            after = max(NARROWEST, after // 2)
            blocks.append(up_block(before, after, size))
            before = after
        self.ups = nn.Sequential(*blocks)
        self.paint = nn.Conv2d(before, 3, kernel_size=3, padding=1)

    def forward(self, code_BCHW: Tensor) -> Tensor:
        """Decode maps of `code_shape` to image01_BCHW; ValueError if they have another."""
        _check_code(code_BCHW, self.code_shape)
        image01_BCHW: Tensor = self.paint(self.ups(code_BCHW)).sigmoid()
        return image01_BCHW


class Conv4Decoder(nn.Module):
    """The mirror of `build_conv4`: four transposed 4x4 convolutions of stride 2, ReLU between, and a sigmoid."""

    def __init__(self, *, code_shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.code_shape = code_shape
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((*reversed(widths), 3)):
            layers += [nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def forward(self, code_BCHW: Tensor) -> Tensor:
        """Decode maps of `code_shape` to image01_BCHW; ValueError if they have another."""
        _check_code(code_BCHW, self.code_shape)
        image01_BCHW: Tensor = self.layers(code_BCHW)
        return image01_BCHW


class ConvK4Decoder(nn.Module):
    """The counterpart of `build_conv_k4`: a linear layer to 1024 maps, then four transposed convolutions of stride 2.

    Their kernels 5, 5, 6, 6 take a grid of g to 16 g + 48, on grids 3-9-21-46-96 at 96 pixels; channels
    1024-128-64-32-3, all but the last times `width`. ReLU behind each but the last, after batch norm but for the linear
    layer; a sigmoid at the end.

    Reference: Pihlgren et al. 2023, arXiv:2302.04032, and their repository.
    """

    def __init__(self, *, latent_dim: int, image_size: int, width: float) -> None:
        super().__init__()
        if image_size < 64 or image_size % 16:
            raise ValueError(
                f"image_size must be 64 or a larger multiple of 16 for conv-k4's decoder, got {image_size}"
            )
        grid = image_size // 16 - 3
        channels = [scale_channels(channel, width) for channel in (1024, 128, 64, 32)]
        self.code_shape = (latent_dim,)
        self.expand = nn.Sequential(nn.Linear(latent_dim, channels[0] * grid**2), nn.ReLU(inplace=True))
        layers: list[nn.Module] = [nn.Unflatten(1, (channels[0], grid, grid))]
        for before, after, kernel in zip(channels[:-1], channels[1:], (5, 5, 6), strict=True):
            layers += [
                nn.ConvTranspose2d(before, after, kernel, stride=2),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 3, kernel_size=6, stride=2), nn.Sigmoid())

    def forward(self, code_BD: Tensor) -> Tensor:
        """Decode vectors of `code_shape` to image01_BCHW; ValueError if they have another."""
        _check_code(code_BD, self.code_shape)
        image01_BCHW: Tensor = self.layers(self.expand(code_BD))
        return image01_BCHW


def _check_code(code_BCHW: Tensor, code_shape: tuple[int, ...]) -> None:
    if code_BCHW.shape[1:] != code_shape:
        raise ValueError(f"code must be (B, {', '.join(map(str, code_shape))}), got {tuple(code_BCHW.shape)}")


def build_decoder_for(encoder: Encoder, *, width: float = 1.0) -> nn.Module:
    """The decoder that fits an encoder: from its layer `code_layer` to sRGB images of its size.

    Args:
        encoder: Any encoder. A vector is decoded as by `build_decoder`, conv-k4's by its published counterpart; conv4's
            map by its mirror; other maps by repeated upsampling and convolution, down from at most 256 * `width`
            channels.
        width: Factor on the decoder's channels, each rounded to a multiple of 8; the mirror of conv4 is as wide as
            conv4.

    Returns:
        A module from that layer's output to image01_BCHW in [0, 1]. The weights are PyTorch's default initialisation,
        drawn from the global generator.

    Raises:
        ValueError: If `width` is not positive, or a vector's image size is no multiple of 16, of conv-k4 at least 64.
    """
    if isinstance(encoder, Conv4):
        return Conv4Decoder(code_shape=encoder.code_shape, widths=encoder.widths)
    if isinstance(encoder, ConvK4):
        return ConvK4Decoder(latent_dim=encoder.num_features, image_size=encoder.image_size, width=width)
    if len(encoder.code_shape) == 3:
        return MapDecoder(code_shape=encoder.code_shape, image_size=encoder.image_size, width=width)
    return build_decoder(image_size=encoder.image_size, width=width, latent_dim=encoder.num_features)
