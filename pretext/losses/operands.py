"""What every loss does to its two arguments before any maths: check them, and lift them to full precision."""

from __future__ import annotations

import torch
from torch import Tensor


def check_pair(prediction: Tensor, target: Tensor) -> None:
    """Refuse a prediction and a target that can't be compared element by element.

    Args:
        prediction: Any shape and float dtype.
        target: The same shape, any float dtype.

    Raises:
        ValueError: If the shapes differ (nothing is broadcast), nothing is in them, or one is not a float tensor:
            integer images are 0..255 and would give a loss on another scale without a word.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have one shape, got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    if prediction.numel() == 0:
        raise ValueError(f"prediction must hold at least one element, got shape {tuple(prediction.shape)}")
    for name, tensor in (("prediction", prediction), ("target", target)):
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be a float tensor, got {tensor.dtype}")


def lift_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to float64 if one of them is, else to float32.

    A network under bfloat16 autocast hands over 8 bits of mantissa; a squared difference of two such numbers has none
    left where it matters, near zero. Gradients flow back in each tensor's own dtype.
    """
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    return tuple(tensor.to(dtype) for tensor in tensors)


def without_autocast(tensor: Tensor) -> torch.autocast:
    """A context in which matrix products on `tensor`'s device keep the dtype of their operands."""
    return torch.autocast(tensor.device.type, enabled=False)
