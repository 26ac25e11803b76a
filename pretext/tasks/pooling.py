"""From the map of a layer to the numbers a classifier is given."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pool_map(map_BCHW: Tensor, how: str, *, max_features: int = 9600) -> Tensor:
    """Flatten a layer's output, after making a map smaller.

    Args:
        map_BCHW: A map; a vector (B, D) is taken as it is.
        how: "flatten" keeps the whole map, "avg" its mean over places. "resize" brings it to g x g, bilinearly and
            anti-aliased, with the largest g for which g x g x C is at most `max_features`: 10 x 10 x 96, 6 x 6 x 256
            and 5 x 5 x 384 for the layers of AlexNet. g is at least 1, and at most the map's own side.
        max_features: For "resize".

    Returns:
        feature_BD in float32.

    Raises:
        ValueError: If `how` is none of these, or `max_features` is below 1.

    Reference: Zhang, Isola, Efros 2017, "Split-Brain Autoencoders", arXiv:1611.09842, sec. 4.1.
    """
    if how not in ("flatten", "avg", "resize"):
        raise ValueError(f"how must be flatten, avg or resize, got {how!r}")
    if max_features < 1:
        raise ValueError(f"max_features must be at least 1, got {max_features}")
    if map_BCHW.ndim == 4 and how == "avg":
        return map_BCHW.mean((2, 3), dtype=torch.float32)
    if map_BCHW.ndim == 4 and how == "resize":
        _, C, H, W = map_BCHW.shape
        side = max(1, math.isqrt(max_features // C))
        map_BCHW = F.interpolate(map_BCHW.float(), (min(side, H), min(side, W)), mode="bilinear", antialias=True)
    return map_BCHW.float().flatten(1)
