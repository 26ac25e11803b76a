"""A step whose loss or gradient is no number never reaches the weights, and nothing waits for the device to learn of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


@dataclass(frozen=True, slots=True)
class NotFinite:
    """The step at which a module was frozen: its number, from 1, its loss and its gradient's norm."""

    step: int
    loss: float
    grad_norm: float

    @property
    def what(self) -> str:
        """What of it was no number, in words: the loss comes first, since the gradient follows it."""
        broken = torch.tensor(self.loss).isfinite().logical_not().item()
        return f"the loss became {self.loss}" if broken else f"the gradient's norm became {self.grad_norm}"


class Guard:
    """Judges every step on the device itself; what it found is read when something else is read anyway.

    Several processes that train one model judge alike, since the loss is their sum and the gradient their mean.

    Args:
        module: What is trained. The running statistics of its batch norms, which the forward pass changes before anything
            is known of the loss, are put back after such a step.
        device: Where it is.
        limit: After so many such steps in a row the module is frozen: no step changes anything more, so that it is
            still what the last of them began with when somebody looks.
        step: Steps done before.
        in_a_row: Those of them at the end that were such.

    Cost: a dozen operations on a handful of numbers, and two copies of the running statistics.
    """

    def __init__(
        self, module: nn.Module, device: torch.device, *, limit: int, step: int = 0, in_a_row: int = 0
    ) -> None:
        self._limit = limit
        self._step = torch.tensor(float(step), dtype=torch.float64, device=device)
        self._in_a_row = torch.tensor(in_a_row, device=device)
        self._failed_3 = torch.zeros(3, dtype=torch.float64, device=device)
        norms = [part for part in module.modules() if isinstance(part, _NormBase) and part.track_running_stats]
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in (buffer for norm in norms for buffer in norm.buffers(recurse=False)):
            by_type.setdefault(buffer.dtype, []).append(buffer)
        self._statistics = []
        for buffers in by_type.values():
            kept = _flat(buffers)
            sizes = [buffer.numel() for buffer in buffers]
            views = [part.view_as(buffer) for part, buffer in zip(kept.split(sizes), buffers, strict=True)]
            self._statistics.append((buffers, kept, views))

    @torch.no_grad()
    def judge(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """Whether the step just computed must be left out, as a bool on the device; to be called once a step."""
        value_2 = torch.stack([loss, grad_norm])
        frozen, is_bad = self._in_a_row >= self._limit, value_2.isfinite().all().logical_not()
        self._step += 1
        freezes = is_bad & (self._in_a_row == self._limit - 1)
        self._failed_3 = torch.where(freezes, torch.cat([value_2.double(), self._step[None]]), self._failed_3)
        self._in_a_row = torch.where(frozen, self._in_a_row, (self._in_a_row + 1) * is_bad)
        is_left_out = is_bad | frozen
        for buffers, kept, views in self._statistics:
            kept.copy_(torch.where(is_left_out, kept, _flat(buffers)))
            torch._foreach_copy_(buffers, views)
        return is_left_out

    def read(self) -> tuple[int, NotFinite | None]:
        """How many steps in a row were left out up to now, and the one at which the module was frozen, if it is."""
        in_a_row = int(self._in_a_row)
        if in_a_row < self._limit:
            return in_a_row, None
        loss, grad_norm, step = self._failed_3.tolist()
        return in_a_row, NotFinite(int(step), loss, grad_norm)


def _flat(buffers: list[Tensor]) -> Tensor:
    return torch.cat([buffer.detach().reshape(-1) for buffer in buffers])
