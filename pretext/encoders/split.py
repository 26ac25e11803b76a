"""Encoders of several sub-networks that share nothing: each sees its own channels of the image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pretext.encoders.base import SMALLEST_IMAGE, Encoder, InputSpace

LETTERS: dict[InputSpace, str] = {"rgb": "RGB", "lab": "Lab"}
OUTPUT = "logits"


class SplitNet(Encoder):
    """One sub-network of the same architecture for every group of channels.

    The sub-networks share no weights, and what one computes depends on its own channels only: what a second one learns
    to predict of the other channels, it can't have copied. `encode` puts their results side by side.

    Attributes:
        parts: The sub-networks: named blocks, the last "logits" if there are outputs.
        channels: Letters of the channels each of them sees.
        outputs: Number of logits of each, empty without an output layer.
        output_grid: Height and width of the map of logits; 0 without an output layer.

    Reference: Zhang, Isola, Efros 2017, "Split-Brain Autoencoders", arXiv:1611.09842, sec. 3.
    """

    channels: tuple[str, ...]
    outputs: tuple[int, ...]
    output_grid: int

    def __init__(
        self,
        *,
        name: str,
        image_size: int,
        channels: Sequence[str],
        outputs: Sequence[int],
        build_part: Callable[[int, int], dict[str, nn.Module]],
    ) -> None:
        """Build the sub-networks.

        Args:
            name: As in `Encoder`.
            image_size: As in `Encoder`.
            channels: One group of letters per sub-network.
            outputs: One number of logits per sub-network, or empty.
            build_part: From a number of channels and of logits to the blocks of a sub-network, in order; without the
                output block where the second number is 0.

        Raises:
            ValueError: If the channels or outputs mean nothing, or the image is too small for the convolutions.
        """
        space = find_space(channels)
        if len(outputs) not in (0, len(channels)) or any(number < 1 for number in outputs):
            raise ValueError(
                f"outputs must be empty or a number >= 1 for each of {', '.join(channels)}, got {tuple(outputs)}"
            )
        numbers = tuple(outputs) or (0,) * len(channels)
        parts = [build_part(len(group), number) for group, number in zip(channels, numbers, strict=True)]
        names, blocks = list(parts[0]), list(parts[0].values())
        shapes = trace_shapes(blocks, image_size)
        if shapes[-1][1] < 1:
            raise ValueError(f"image_size must be >= {smallest_image(blocks)}, got {image_size}")
        last = len(names) - 2 if outputs else len(names) - 1
        width, grid = shapes[last]
        layers = (*names[: last + 1], "latent", *names[last + 1 :])
        super().__init__(
            name=name, num_features=width * len(channels), image_size=image_size, layers=layers, input_space=space,
            code_layer=names[last], code_shape=(width * len(channels), grid, grid),
        )  # fmt: skip
        self.channels, self.outputs = tuple(channels), tuple(outputs)
        self.output_grid = shapes[-1][1] if outputs else 0
        self.parts = nn.ModuleList(nn.ModuleDict(part) for part in parts)
        self._seen = [find_slice(group, LETTERS[space]) for group in channels]

    def encode(self, input01_BCHW: Tensor, layer: str = "latent") -> Tensor:
        return torch.cat(self.encode_parts(input01_BCHW, layer), dim=1)

    def encode_parts(self, input01_BCHW: Tensor, layer: str = "latent") -> list[Tensor]:
        """Encode the network's own input up to one layer, each sub-network for itself.

        Args:
            input01_BCHW: All three channels, as for `encode`.
            layer: One of `layers`.

        Returns:
            A map_BCHW or a feature_BD for each sub-network, in the order of `channels`.

        Raises:
            ValueError: If there is no such layer, or the input has another shape.
        """
        self._check_call(input01_BCHW, layer)
        stop = self.code_layer if layer == "latent" else layer
        values = []
        for seen, part in zip(self._seen, self.parts, strict=True):
            value = input01_BCHW[:, seen]
            for name, block in part.named_children():
                value = block(value)
                if name == stop:
                    break
            values.append(value.mean((2, 3)) if layer == "latent" else value)
        return values


def find_space(channels: Sequence[str]) -> InputSpace:
    """The colour space that groups of letters are channels of.

    Raises:
        ValueError: If they are not all of one space, or a group is empty, repeats a letter or is out of order.
    """
    for space, letters in LETTERS.items():
        in_order = ["".join(letter for letter in letters if letter in group) for group in channels]
        if not isinstance(channels, str) and "" not in in_order and in_order == list(channels) != []:
            return space
    raise ValueError(f"channels must be groups of the letters of RGB or of Lab in that order, got {channels!r}")


def find_slice(group: str, letters: str) -> slice:
    """Where the letters of a group stand: a slice, which unlike a list of indices costs no copy to the device."""
    first, last = letters.index(group[0]), letters.index(group[-1])
    return slice(first, last + 1, 2 if len(group) == 2 and last - first == 2 else 1)


def trace_shapes(blocks: Sequence[nn.Module], grid: int) -> list[tuple[int, int]]:
    """Channels and grid behind every block, without computing anything; 0 once a kernel is larger than its map.

    Args:
        blocks: Modules of convolutions and pools that follow one another, squared kernels throughout. What is computed
            beside them (a projection around a residual) keeps the grid.
        grid: Height and width of the image.
    """
    shapes, channels = [], 0
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                channels = module.out_channels
            if isinstance(module, nn.Conv2d | nn.MaxPool2d) and grid:
                grid = max(0, grid_behind(module, grid))
            if isinstance(module, nn.AdaptiveAvgPool2d) and grid:
                grid = int(module.output_size)  # type: ignore[arg-type]
        shapes.append((channels, grid))
    return shapes


def grid_behind(module: nn.Conv2d | nn.MaxPool2d, grid: int) -> int:
    """Height and width of what a convolution or pool makes of a squared map; below 1 if its kernel does not fit."""
    kernel, stride, padding, dilation = (
        value[0] if isinstance(value, tuple) else int(value)
        for value in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    return (grid + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def smallest_image(blocks: Sequence[nn.Module]) -> int:
    """Height and width of the smallest image that leaves every block a map."""
    return next(size for size in itertools.count(SMALLEST_IMAGE) if trace_shapes(blocks, size)[-1][1])
