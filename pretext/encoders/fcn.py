"""Fully convolutional encoders for predicting some channels of an image from others, place by place."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

from torch import nn

from pretext.encoders.base import scale_channels
from pretext.encoders.resnet import BasicBlock
from pretext.encoders.split import OUTPUT, SplitNet

AlexStem = Literal["10x10", "11x11"]
# channels and kernel of each, and which have a pool before them
SIMPLE13 = ((64, 3), (128, 3), (128, 3), (128, 3), (128, 3), (128, 3), (256, 3), (256, 3), (256, 3), (512, 3),
            (2048, 1), (256, 1), (256, 3))  # fmt: skip
SIMPLE13_POOLED = (5, 8, 10)


def build_simplenet5(
    *, image_size: int = 96, width: float = 1.0, channels: Sequence[str] = ("RGB",), outputs: Sequence[int] = ()
) -> SplitNet:
    """The student project's small network: 4x4 convolutions of stride 2 to 12 and 24 channels, 5x5 ones to 48 and 96.

    Batch norm and ReLU follow each, then a 5x5 convolution makes the logits; nothing is padded from the third on: the
    grids at 96 pixels are 48-24-20-16-12.

    Args:
        image_size: Height and width of the images in pixels, >= 36, with outputs >= 52.
        width: Factor on the channels, each rounded to a multiple of 8; at 1 they are as above.
        channels: Letters of the channels that each sub-network sees, of RGB or of Lab.
        outputs: Number of logits of each sub-network; empty for no output layer.

    Returns:
        An encoder with layers conv1..conv4, latent and, with outputs, logits; 779,072 parameters with channels
        ("L", "ab") and outputs (100, 100). The weights are PyTorch's default initialisation, drawn from the global
        generator.

    Raises:
        ValueError: If an argument is out of its range.
    """
    return SplitNet(name="simplenet5", image_size=image_size, channels=channels, outputs=outputs,
                    build_part=partial(_simplenet5_part, width))  # fmt: skip


def build_simplenet13(
    *, image_size: int = 96, width: float = 1.0, channels: Sequence[str] = ("RGB",), outputs: Sequence[int] = ()
) -> SplitNet:
    """SimpleNet's thirteen convolutions: 64, 3 x 128, 2 x 128, 256, 2 x 256, 512, 2048, 256, 256 channels.

    Kernels are 3x3, those to 2048 and to the first 256 behind it 1x1; batch norm and ReLU follow each. A 2x2 max pool
    stands before the 5th, 8th and 10th: the grids at 96 pixels are 96-48-24-12. The original's later pools, which leave
    no map, and its dropout, meant for training with labels, are left out. A 1x1 convolution makes the logits.

    Args:
        image_size: Height and width of the images in pixels, >= 16.
        width: Factor on the channels, each rounded to a multiple of 8.
        channels: Letters of the channels that each sub-network sees, of RGB or of Lab.
        outputs: Number of logits of each sub-network; empty for no output layer.

    Returns:
        An encoder with layers conv1..conv13, latent and, with outputs, logits. The weights are PyTorch's default
        initialisation, drawn from the global generator.

    Raises:
        ValueError: If an argument is out of its range.

    Reference: Hasanpour et al. 2016, "Lets keep it simple", arXiv:1608.06037.
    """
    return SplitNet(name="simplenet13", image_size=image_size, channels=channels, outputs=outputs,
                    build_part=partial(_simplenet13_part, width))  # fmt: skip


def build_alexnet_fcn(
    *,
    image_size: int = 96,
    width: float = 1.0,
    channels: Sequence[str] = ("RGB",),
    outputs: Sequence[int] = (),
    stem: AlexStem = "10x10",
) -> SplitNet:
    """AlexNet whose fully connected layers are convolutions, with batch norm instead of response normalisation.

    Channels 96, 256, 384, 384, 256, 4096, 4096; 3x3 max pools before conv2, conv3 (stride 2) and fc6 (stride 1). A 1x1
    convolution makes the logits. The paper's two halves have half of these channels each (`width` 0.5), the student
    project's have all of them.

    Args:
        image_size: Height and width of the images in pixels, >= 16.
        width: Factor on the channels, each rounded to a multiple of 8.
        channels: Letters of the channels that each sub-network sees, of RGB or of Lab.
        outputs: Number of logits of each sub-network; empty for no output layer.
        stem: First convolution: "10x10" of stride 2, the student project's for 96 pixels, with a 7x7 fc6; "11x11" of
            stride 4, the paper's for 180 pixels, with a 6x6 fc6. Either comes to a 12x12 grid.

    Returns:
        An encoder with layers conv1..conv5 (before any pool), fc6, fc7 (maps), latent and, with outputs, logits;
        144.6 M parameters with channels ("L", "ab"), outputs (100, 100) and stem "10x10". The weights are PyTorch's
        default initialisation, drawn from the global generator.

    Raises:
        ValueError: If an argument is out of its range.

    Reference: Zhang, Isola, Efros 2017, "Split-Brain Autoencoders", arXiv:1611.09842, table 6. It says padding 6 for
        fc6, which leaves 14x14; the authors' released network has 5, as here.
    """
    if stem not in get_args(AlexStem):
        raise ValueError(f"stem must be one of {', '.join(get_args(AlexStem))}, got {stem!r}")
    return SplitNet(name="alexnet-fcn", image_size=image_size, channels=channels, outputs=outputs,
                    build_part=partial(_alexnet_part, width, stem))  # fmt: skip


def build_resnet18_fcn(
    *, image_size: int = 96, width: float = 1.0, channels: Sequence[str] = ("RGB",), outputs: Sequence[int] = ()
) -> SplitNet:
    """An 18-layer residual network that stays on one grid: only the 7x7 stem and its max pool have stride 2.

    Two basic blocks each of 64, 128 and 256 channels; two more with as many channels as there are logits, averaged to a
    grid of `image_size` // 8. As in the student project the last ReLU stays: no logit is negative.

    Args:
        image_size: Height and width of the images in pixels, >= 16.
        width: Factor on the channels 64, 128, 256, each rounded to a multiple of 8.
        channels: Letters of the channels that each sub-network sees, of RGB or of Lab.
        outputs: Number of logits of each sub-network; empty for no output layer.

    Returns:
        An encoder with layers stem (after the max pool), layer1..layer3, latent and, with outputs, logits; 6.61 M
        parameters with channels ("L", "ab") and outputs (100, 100). The weights are PyTorch's default initialisation
        for each layer, drawn from the global generator.

    Raises:
        ValueError: If an argument is out of its range.

    Reference: He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, sec. 4.1.
    """
    return SplitNet(name="resnet18-fcn", image_size=image_size, channels=channels, outputs=outputs,
                    build_part=partial(_resnet18_part, width, max(1, image_size // 8)))  # fmt: skip


def _conv_block(
    before: int,
    after: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    pool: nn.Module | None = None,
) -> nn.Sequential:
    """A convolution with batch norm and ReLU; a pool goes first, so that the layer before is seen in full."""
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=padding, dilation=dilation)
    block = [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*([pool] if pool else []), *block)


def _simplenet5_part(width: float, seen: int, outputs: int) -> dict[str, nn.Module]:
    c1, c2, c3, c4 = (scale_channels(channels, width) for channels in (12, 24, 48, 96))
    part: dict[str, nn.Module] = {
        "conv1": _conv_block(seen, c1, 4, stride=2, padding=1),
        "conv2": _conv_block(c1, c2, 4, stride=2, padding=1),
        "conv3": _conv_block(c2, c3, 5),
        "conv4": _conv_block(c3, c4, 5),
    }
    return part | ({OUTPUT: nn.Conv2d(c4, outputs, kernel_size=5)} if outputs else {})


def _simplenet13_part(width: float, seen: int, outputs: int) -> dict[str, nn.Module]:
    part: dict[str, nn.Module] = {}
    before = seen
    for number, (channels, kernel) in enumerate(SIMPLE13, start=1):
        after = scale_channels(channels, width)
        pool = nn.MaxPool2d(2) if number in SIMPLE13_POOLED else None
        part[f"conv{number}"] = _conv_block(before, after, kernel, padding=kernel // 2, pool=pool)
        before = after
    return part | ({OUTPUT: nn.Conv2d(before, outputs, kernel_size=1)} if outputs else {})


def _alexnet_part(width: float, stem: AlexStem, seen: int, outputs: int) -> dict[str, nn.Module]:
    c1, c2, c3, c4, c5, c6, c7 = (scale_channels(channels, width) for channels in (96, 256, 384, 384, 256, 4096, 4096))
    (kernel, stride, padding), (fc_kernel, fc_padding) = {
        "10x10": ((10, 2, 1), (7, 6)), "11x11": ((11, 4, 5), (6, 5)),
    }[stem]  # fmt: skip
    part: dict[str, nn.Module] = {
        "conv1": _conv_block(seen, c1, kernel, stride=stride, padding=padding),
        "conv2": _conv_block(c1, c2, 5, padding=2, pool=nn.MaxPool2d(3, stride=2, padding=1)),
        "conv3": _conv_block(c2, c3, 3, padding=1, pool=nn.MaxPool2d(3, stride=2, padding=1)),
        "conv4": _conv_block(c3, c4, 3, padding=1),
        "conv5": _conv_block(c4, c5, 3, padding=1),
        "fc6": _conv_block(c5, c6, fc_kernel, padding=fc_padding, dilation=2,
                           pool=nn.MaxPool2d(3, stride=1, padding=1)),
        "fc7": _conv_block(c6, c7, 1),
    }  # fmt: skip
    return part | ({OUTPUT: nn.Conv2d(c7, outputs, kernel_size=1)} if outputs else {})


def _resnet18_part(width: float, output_grid: int, seen: int, outputs: int) -> dict[str, nn.Module]:
    c1, c2, c3 = (scale_channels(channels, width) for channels in (64, 128, 256))
    stem = {
        "conv1": nn.Conv2d(seen, c1, kernel_size=7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(c1),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    }
    part: dict[str, nn.Module] = {"stem": nn.Sequential(OrderedDict(stem))}
    for number, (before, after) in enumerate(itertools.pairwise((c1, c1, c2, c3)), start=1):
        part[f"layer{number}"] = nn.Sequential(*_basic_blocks(before, after))
    output = nn.Sequential(*_basic_blocks(c3, outputs), nn.AdaptiveAvgPool2d(output_grid)) if outputs else None
    return part | ({OUTPUT: output} if output else {})


def _basic_blocks(before: int, after: int) -> tuple[BasicBlock, BasicBlock]:
    return BasicBlock(before, after, stride=1), BasicBlock(after, after, stride=1)
