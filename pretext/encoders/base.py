"""What every encoder is: images in, one feature vector each out, and every layer on the way within reach by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

SMALLEST_IMAGE = 16


class Encoder(nn.Module):
    """An image encoder that can be stopped at a named layer.

    A subclass calls `__init__` with the facts below and yields its layers in `iter_layers`; forward passes come from
    here.

    Attributes:
        name: The variant's name, as in the catalogue.
        num_features: Width D of the feature vector.
        image_size: Height and width of the images it takes, in pixels.
        layers: Names in the order they are computed; the last is "latent", what `forward` returns.
    """

    name: str
    num_features: int
    image_size: int
    layers: tuple[str, ...]

    def __init__(self, *, name: str, num_features: int, image_size: int, layers: tuple[str, ...]) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"latent_dim must be >= 1, got {num_features}")
        if image_size < SMALLEST_IMAGE:
            raise ValueError(f"image_size must be >= {SMALLEST_IMAGE}, got {image_size}")
        self.name, self.num_features, self.image_size, self.layers = name, num_features, image_size, layers

    def iter_layers(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        """Each name of `layers` with the function from the layer before to it."""
        raise NotImplementedError

    def forward(self, image01_BCHW: Tensor) -> Tensor:
        """Encode images.

        Args:
            image01_BCHW: RGB in [0, 1], H = W = `image_size`; no other normalisation is expected or done.

        Returns:
            feature_BD, D = `num_features`.

        Raises:
            ValueError: If the images have another shape.
        """
        return self.forward_layer(image01_BCHW, self.layers[-1])

    def forward_layer(self, image01_BCHW: Tensor, layer: str) -> Tensor:
        """Encode images up to one layer, and compute nothing behind it.

        Args:
            image01_BCHW: As for `forward`.
            layer: One of `layers`.

        Returns:
            A map_BCHW or a feature_BD, whichever that layer makes.

        Raises:
            ValueError: If there is no such layer, or the images have another shape.
        """
        if layer not in self.layers:
            raise ValueError(f"layer must be one of {', '.join(self.layers)}, got {layer!r}")
        size = self.image_size
        if image01_BCHW.ndim != 4 or image01_BCHW.shape[1:] != (3, size, size):
            raise ValueError(f"image must be (B, 3, {size}, {size}), got {tuple(image01_BCHW.shape)}")
        value = image01_BCHW
        for name, function in self.iter_layers():
            value = function(value)
            if name == layer:
                break
        return value


def scale_channels(channels: int, width: float) -> int:
    """`channels * width` to the nearest multiple of 8, at least 8: what memory formats and tensor cores are quick on.

    Raises:
        ValueError: If `width` is not positive.
    """
    if not width > 0:
        raise ValueError(f"width must be > 0, got {width}")
    return max(8, int(channels * width / 8 + 0.5) * 8)
