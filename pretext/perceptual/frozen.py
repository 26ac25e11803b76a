"""A module that takes part in a loss and never in the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Frozen(nn.Module):
    """Holds a module that is never trained.

    It is no submodule, so that it is in no `parameters()`, in no `state_dict()` and never in train mode; `.to()` moves
    it nevertheless, to a device and a memory format, but not to less precise numbers.
    """

    _inner: nn.Module

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.__dict__["_inner"] = inner.eval().requires_grad_(False)

    def forward(self, image01_BCHW: Tensor) -> Any:
        return self._inner(image01_BCHW)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        super()._apply(fn, recurse)

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        self._inner._apply(moved)
        return self
