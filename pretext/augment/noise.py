"""Corruptions of an image that a denoising autoencoder has to undo."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pretext.augment.draws import Span

Draw = Callable[[Callable[..., Tensor]], Tensor]


def corrupt(
    image01_BCHW: Tensor, noise: str, level: float, generator: torch.Generator, span: Span | None = None
) -> Tensor:
    """Corrupt every value of every image on its own, each channel separately.

    Args:
        image01_BCHW: In [0, 1], any float dtype; not modified.
        noise: "salt-pepper": with probability level / 2 each, a value becomes 0 or 1. "masking": with probability
            level it becomes 0. "gaussian": noise of standard deviation level is added, and the sum kept in [0, 1].
        level: In 0..1; at 0 the image comes back as it is.
        generator: On the CPU. On another device the numbers are drawn there, from a seed that is drawn here.
        span: Which rows of a larger batch the images are; they then get that batch's noise, which is drawn whole. All
            of a batch if not given.

    Returns:
        Images of the same shape, dtype and device, in [0, 1].

    Raises:
        ValueError: If the noise is unknown or the level outside 0..1.

    Reference: Vincent et al. 2010, "Stacked Denoising Autoencoders", JMLR 11, sec. 3.3.
    """
    if noise not in NOISES:
        raise ValueError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")
    if not 0 <= level <= 1:
        raise ValueError(f"level must be in 0..1, got {level}")
    device = image01_BCHW.device
    own = generator
    if device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        own = torch.Generator(device).manual_seed(seed)

    def draw(sample: Callable[..., Tensor]) -> Tensor:
        whole = len(image01_BCHW) if span is None else span.whole
        drawn = sample((whole, *image01_BCHW.shape[1:]), generator=own, device=device)
        return (drawn if span is None else span.cut(drawn)).contiguous(memory_format=_layout(image01_BCHW))

    return NOISES[noise](image01_BCHW, level, draw)


def _layout(image_BCHW: Tensor) -> torch.memory_format:
    is_last = image_BCHW.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


def _salt_pepper(image01_BCHW: Tensor, level: float, draw: Draw) -> Tensor:
    chance = draw(torch.rand)
    return torch.where(chance < level / 2, 0.0, torch.where(chance >= 1 - level / 2, 1.0, image01_BCHW))


def _masking(image01_BCHW: Tensor, level: float, draw: Draw) -> Tensor:
    return torch.where(draw(torch.rand) < level, 0.0, image01_BCHW)


def _gaussian(image01_BCHW: Tensor, level: float, draw: Draw) -> Tensor:
    return (image01_BCHW + draw(torch.randn).mul_(level).to(image01_BCHW.dtype)).clamp_(0, 1)


NOISES: dict[str, Callable[[Tensor, float, Draw], Tensor]] = {
    "salt-pepper": _salt_pepper, "masking": _masking, "gaussian": _gaussian,
}  # fmt: skip
