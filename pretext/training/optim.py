"""Optimiser and learning-rate schedules, as functions of the step so that nothing but the plateau needs a memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Adam, or AdamW (decoupled decay, arXiv:1711.05101), in the fused form."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[name](parameters, lr=lr, weight_decay=weight_decay, fused=True)


@dataclass(slots=True)
class Plateau:
    """Multiply the rate by `factor` after `patience` epochs without a better validation loss.

    Agrees with torch's ReduceLROnPlateau (mode min, relative threshold 1e-4, no cooldown).
    """

    factor: float = 0.9
    patience: int = 40
    scale: float = 1.0
    best: float = math.inf
    bad_epochs: int = 0

    def observe(self, val_loss: float) -> None:
        if val_loss < self.best * (1 - 1e-4):
            self.best, self.bad_epochs = val_loss, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.scale, self.bad_epochs = self.scale * self.factor, 0


def rate_scale(schedule: str, step: int, *, total_steps: int, warmup_steps: int, plateau: Plateau,
               epoch: int = 0, gamma: float = 1.0) -> float:  # fmt: skip
    """The factor on the learning rate at `step` (0-based): linear warm-up, then cosine to 0, constant, plateau, or step
    (`gamma` to the power of the epochs that are over)."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "cosine":
        share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * share))
    if schedule == "step":
        return gamma**epoch
    return plateau.scale if schedule == "plateau" else 1.0
