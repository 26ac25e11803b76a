"""Changes of colour, one factor per image, with the meaning torchvision gives them.

Every function takes image01_BCHW, floats in [0, 1] with channels R, G, B, in any memory layout, and factor_B on the
same device; it returns a new tensor in [0, 1] of the same shape and layout.
"""

from __future__ import annotations

import torch
from torch import Tensor

GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Luma of ITU-R BT.601 as torchvision rounds it; they sum to 0.9999."""


def adjust_brightness(image01_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Multiply by the factor; 0 is black, 1 changes nothing."""
    return (image01_BCHW * factor_B[:, None, None, None]).clamp_(0, 1)


def adjust_contrast(image01_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the image's mean grey; 0 is that grey everywhere, 1 changes nothing."""
    mean_B = image01_BCHW.mean(dim=(2, 3)) @ image01_BCHW.new_tensor(GREY_WEIGHTS)
    rest_B = (1 - factor_B) * mean_B
    return (image01_BCHW * factor_B[:, None, None, None]).add_(rest_B[:, None, None, None]).clamp_(0, 1)


def adjust_saturation(image01_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with each pixel's grey; 0 is a grey image, 1 changes nothing."""
    red_BHW, green_BHW, blue_BHW = image01_BCHW.unbind(1)
    grey_BHW = (red_BHW * GREY_WEIGHTS[0]).add_(green_BHW, alpha=GREY_WEIGHTS[1]).add_(blue_BHW, alpha=GREY_WEIGHTS[2])
    grey_BHW *= (1 - factor_B)[:, None, None]
    return (image01_BCHW * factor_B[:, None, None, None]).add_(grey_BHW[:, None]).clamp_(0, 1)


def adjust_hue(image01_BCHW: Tensor, turn_B: Tensor) -> Tensor:
    """Turn the colour wheel of HSV by `turn_B`, in full turns; 0 changes nothing, 1/3 makes red green.

    The largest and smallest channel value of a pixel stay what they are. Between them each channel follows
    one trapezoid of the hue, so the way back needs neither saturation nor the wheel's six sectors.
    """
    red_BHW, green_BHW, blue_BHW = image01_BCHW.unbind(1)
    top_BHW = torch.maximum(torch.maximum(red_BHW, green_BHW), blue_BHW)
    chroma_BHW = top_BHW - torch.minimum(torch.minimum(red_BHW, green_BHW), blue_BHW)
    per_chroma_BHW = chroma_BHW.clamp_min(torch.finfo(chroma_BHW.dtype).tiny).reciprocal_()
    sixths_BHW = torch.where(
        top_BHW == red_BHW,
        (green_BHW - blue_BHW).mul_(per_chroma_BHW),
        torch.where(
            top_BHW == green_BHW,
            (blue_BHW - red_BHW).mul_(per_chroma_BHW).add_(2),
            (red_BHW - green_BHW).mul_(per_chroma_BHW).add_(4),
        ),
    )
    sixths_BHW.add_((6 * turn_B)[:, None, None]).remainder_(6)
    turned_BCHW = torch.empty_like(image01_BCHW)
    for channel, (centre, slope, level) in enumerate([(3, -1, 2), (2, 1, -1), (4, 1, -1)]):
        drop_BHW = (sixths_BHW - centre).abs_().mul_(slope).add_(level).clamp_(0, 1)
        torch.addcmul(top_BHW, chroma_BHW, drop_BHW, value=-1, out=turned_BCHW[:, channel])
    return turned_BCHW


ADJUST = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}
