"""One step: its loss and gradient, the update, and what validation says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from pretext.augment import Span
from pretext.training.device import Compute
from pretext.training.guard import Guard
from pretext.training.parallel import Alone, Loss
from pretext.training.pool import Batch, ImagePool, chunk_indices
from pretext.training.seeds import derive_seed, make_generator


class Learner(Protocol):
    """What the loop trains: a module, and how a batch becomes a loss."""

    @property
    def module(self) -> nn.Module:
        """All that is trained."""

    def train_mode(self) -> None:
        """Set every part to the mode it has in training."""

    def train_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean loss of a training batch as it lies on disk, with a graph for the gradient."""

    def val_loss(self, batch: Batch) -> Tensor:
        """Mean loss of a validation batch, in eval mode and without augmentation."""


def add_gradient(
    team: Alone, loss_of: Loss, batch: Batch, spans: Sequence[Span], compute: Compute, *, seed: int, step: int
) -> Tensor:
    """Add a step's gradient to the parameters' own.

    Args:
        team: The processes that compute it.
        loss_of: The loss of a part of the batch.
        batch: This process's rows.
        spans: Which rows of the whole batch they are, part by part.
        compute: Device and precision.
        seed: The training's.
        step: Steps before this one; with the seed it decides all that is drawn.

    Returns:
        The whole batch's mean loss, still on the device.
    """
    torch.manual_seed(derive_seed(seed, "dropout", step, *([team.rank] if team.rank else [])))
    total, first = torch.zeros((), device=compute.device), 0
    for number, span in enumerate(spans, start=1):
        part, first = batch.part(slice(first, first + len(span)), span), first + len(span)
        generator = make_generator(seed, "augment", step)  # every part draws for the whole batch
        with team.gathering() if number < len(spans) else nullcontext():
            with compute.autocast():
                loss = loss_of(part, generator)
            (loss * (len(span) / span.whole * team.size)).backward()  # the processes' gradients are averaged
        total += loss.detach() * (len(span) / span.whole)
    return team.sum(total)


def update(optimizer: torch.optim.Optimizer, loss: Tensor, guard: Guard, *, lr: float, grad_clip: float) -> Tensor:
    """Move the parameters along their gradients, unless the loss or the gradient is not finite.

    Args:
        optimizer: A fused one; its gradients are clipped.
        loss: The step's.
        guard: Who judges.
        lr: The step's learning rate.
        grad_clip: Largest norm of the gradient; 0 clips nothing.

    Returns:
        The loss, the gradient's norm before clipping and 0; or 0, 0 and 1 for a step that is left out. float64, still on
        the device.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, grad_clip or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = lr
    is_left_out = guard.judge(loss, norm)
    # The fused update's own switch, made for scaled losses: at 1 neither weights nor moments nor their count change.
    optimizer.found_inf = is_left_out.float()  # type: ignore[attr-defined]
    optimizer.step()
    zero = torch.zeros_like(loss)
    return torch.where(is_left_out, torch.stack([zero, zero, zero + 1]), torch.stack([loss, norm, zero])).double()


@torch.no_grad()
def validate(team: Alone, learner: Learner, val: ImagePool | None, batch_size: int, compute: Compute) -> float | None:
    """Mean validation loss over all images, each counted once; the processes divide the batches. None without images."""
    if val is None or not len(val):
        return None
    learner.module.eval()
    total = torch.zeros((), dtype=torch.float64, device=compute.device)
    for batch in val.batches(team.share(chunk_indices(len(val), batch_size))):
        with compute.autocast():
            total += learner.val_loss(batch).double() * len(batch)
    return float(team.sum(total)) / len(val)
