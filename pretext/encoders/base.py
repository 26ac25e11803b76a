"""What every encoder is: images in, one feature vector each out, and every layer on the way within reach by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from pretext.color import lab_to_unit, rgb_to_lab

SMALLEST_IMAGE = 16
InputSpace = Literal["rgb", "lab"]


class Encoder(nn.Module):
    """An image encoder that can be stopped at a named layer.

    A subclass calls `__init__` with the facts below and yields its layers in `iter_layers`; forward passes come from
    here. One whose layers are no chain overrides `encode` instead.

    Attributes:
        name: The variant's name, as in the catalogue.
        num_features: Width D of the feature vector.
        image_size: Height and width of the images it takes, in pixels.
        layers: Names in the order they are computed. "latent" is among them: what `forward` returns.
        input_space: What `encode` takes: "rgb" as `forward` does, or "lab".
        code_layer: The layer that a decoder starts from.
        code_shape: One image's code: (D,) of a vector, (C, H, W) of a map.
    """

    name: str
    num_features: int
    image_size: int
    layers: tuple[str, ...]
    input_space: InputSpace
    code_layer: str
    code_shape: tuple[int, ...]

    def __init__(
        self,
        *,
        name: str,
        num_features: int,
        image_size: int,
        layers: tuple[str, ...],
        input_space: InputSpace = "rgb",
        code_layer: str = "latent",
        code_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"latent_dim must be >= 1, got {num_features}")
        if image_size < SMALLEST_IMAGE:
            raise ValueError(f"image_size must be >= {SMALLEST_IMAGE}, got {image_size}")
        self.name, self.num_features, self.image_size, self.layers = name, num_features, image_size, layers
        self.input_space, self.code_layer, self.code_shape = input_space, code_layer, code_shape or (num_features,)

    def iter_layers(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        """Each name of `layers` with the function from the layer before to it."""
        raise NotImplementedError

    def forward(self, image01_BCHW: Tensor) -> Tensor:
        """Encode images.

        Args:
            image01_BCHW: sRGB in [0, 1], H = W = `image_size`; no other normalisation is expected or done.

        Returns:
            feature_BD, D = `num_features`.

        Raises:
            ValueError: If the images have another shape, or are not float.
        """
        return self.forward_layer(image01_BCHW, "latent")

    def forward_layer(self, image01_BCHW: Tensor, layer: str) -> Tensor:
        """Encode images up to one layer, and compute nothing behind it.

        Args:
            image01_BCHW: As for `forward`.
            layer: One of `layers`.

        Returns:
            A map_BCHW or a feature_BD, whichever that layer makes.

        Raises:
            ValueError: If there is no such layer, or the images have another shape or are not float.
        """
        return self.encode(self.from_rgb(image01_BCHW), layer)

    def from_rgb(self, image01_BCHW: Tensor) -> Tensor:
        """Bring images to the network's own input.

        Args:
            image01_BCHW: As for `forward`.

        Returns:
            input01_BCHW: The images themselves where `input_space` is "rgb". Where it is "lab": L, a and b, each scaled
            from the range that sRGB colours have to [0, 1]; in the images' dtype, also under autocast.

        Raises:
            ValueError: If the images have another shape, or are not float.
        """
        self._check_image(image01_BCHW)
        if self.input_space == "rgb":
            return image01_BCHW
        # half precision is no place for the cube roots of dark colours
        with torch.autocast(image01_BCHW.device.type, enabled=False):
            return lab_to_unit(rgb_to_lab(image01_BCHW)).to(image01_BCHW.dtype)

    def encode(self, input01_BCHW: Tensor, layer: str = "latent") -> Tensor:
        """Encode the network's own input up to one layer, and compute nothing behind it.

        Args:
            input01_BCHW: What `from_rgb` makes of images: (B, 3, H, W) in [0, 1], H = W = `image_size`.
            layer: One of `layers`.

        Returns:
            A map_BCHW or a feature_BD, whichever that layer makes.

        Raises:
            ValueError: If there is no such layer, or the input has another shape or is not float.
        """
        self._check_call(input01_BCHW, layer)
        value = input01_BCHW
        for name, function in self.iter_layers():
            value = function(value)
            if name == layer:
                break
        return value

    def _check_call(self, input01_BCHW: Tensor, layer: str) -> None:
        if layer not in self.layers:
            raise ValueError(f"layer must be one of {', '.join(self.layers)}, got {layer!r}")
        self._check_image(input01_BCHW)

    def _check_image(self, image01_BCHW: Tensor) -> None:
        size = self.image_size
        if image01_BCHW.ndim != 4 or image01_BCHW.shape[1:] != (3, size, size):
            raise ValueError(f"image must be (B, 3, {size}, {size}), got {tuple(image01_BCHW.shape)}")
        if not image01_BCHW.is_floating_point():
            raise ValueError(f"image must be float in 0..1, got {image01_BCHW.dtype}")


def scale_channels(channels: int, width: float) -> int:
    """`channels * width` to the nearest multiple of 8, at least 8: what memory formats and tensor cores are quick on.

    At a width of 1 the channels are those of the published network, multiple of 8 or not.

    Raises:
        ValueError: If `width` is not positive.
    """
    if not width > 0:
        raise ValueError(f"width must be > 0, got {width}")
    return channels if width == 1 else max(8, int(channels * width / 8 + 0.5) * 8)
