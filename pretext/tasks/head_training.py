"""Several small heads of one shape trained as one stacked model: forward pass, optimiser, schedule, random numbers.

Letters beside the package's alphabet: F folds, n images of a fold, O outputs and I inputs of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8
# torch's ReduceLROnPlateau: an improvement counts from this relative size on, a reduction from this absolute size on
PLATEAU_THRESHOLD, PLATEAU_EPS = 1e-4, 1e-8
INIT, ORDER, DROPOUT = 0, 1, 2

State = dict[str, Tensor]


def generator(purpose: int, *, seed: int, fold: int, epoch: int, device: torch.device) -> torch.Generator:
    """Random numbers of one fold, epoch and purpose.

    Nothing is carried from one epoch to the next, so a restarted fit draws the same numbers; and no fold draws from
    another's, so a fold's result does not depend on its company.
    """
    (state,) = np.random.SeedSequence([seed, fold, epoch, purpose]).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(state >> np.uint64(1)))


def stacked_logits(
    state: State, feature_FBD: Tensor, *, dropouts: Sequence[float] = (), keep_masks: Sequence[Tensor] | None = None
) -> Tensor:
    """Logits of F heads, each on its own batch.

    Args:
        state: Stacked weights (F, O, I) and biases (F, O) of the head's linear layers, in order.
        feature_FBD: Each head's features.
        dropouts: Dropout rate after each hidden layer.
        keep_masks: For each hidden layer, (F, B, O): True for units that are kept. None for no dropout.

    Returns:
        logit_FBK.
    """
    names = [name for name in state if name.endswith("weight")]
    hidden = feature_FBD
    for depth, name in enumerate(names):
        bias_FO = state[name.removesuffix("weight") + "bias"]
        hidden = torch.baddbmm(bias_FO[:, None], hidden, state[name].transpose(1, 2))
        if depth < len(names) - 1:
            hidden = hidden.sigmoid()
            if keep_masks is not None:
                hidden = hidden * keep_masks[depth] / (1 - dropouts[depth])
    return hidden


@dataclass(frozen=True, slots=True)
class EpochDraw:
    """What the folds draw for one epoch; steps of a shorter fold are padded with images that don't count.

    Args:
        index_FTB: Images of each step, T steps.
        counts_FTB: 1 where an image counts, 0 where it pads.
        keep_masks: For each hidden layer, (F, T, B, O) of bool.
    """

    index_FTB: Tensor
    counts_FTB: Tensor
    keep_masks: list[Tensor]


def draw_epoch(
    trains: Sequence[Tensor], folds: Sequence[int], *, epoch: int, seed: int, batch_size: int,
    widths: Sequence[int], dropouts: Sequence[float], device: torch.device,
) -> EpochDraw:  # fmt: skip
    """Shuffle every fold's images into batches, the last one partial, and draw its dropout."""
    steps = [-(-len(train) // batch_size) for train in trains]
    shape = (len(trains), max(steps), batch_size)
    index_FTB = torch.zeros(shape, dtype=torch.int64)
    counts_FTB = torch.zeros(shape)
    keep_masks = [torch.zeros(*shape, width, dtype=torch.bool, device=device) for width in widths]
    for f, (train, fold) in enumerate(zip(trains, folds, strict=True)):
        order = generator(ORDER, seed=seed, fold=fold, epoch=epoch, device=torch.device("cpu"))
        index_FTB[f].view(-1)[: len(train)] = train[torch.randperm(len(train), generator=order)]
        counts_FTB[f].view(-1)[: len(train)] = 1
        random = generator(DROPOUT, seed=seed, fold=fold, epoch=epoch, device=device)
        for mask, rate, width in zip(keep_masks, dropouts, widths, strict=True):
            own = torch.rand(steps[f], batch_size, width, generator=random, device=device)
            mask[f, : steps[f]] = own >= rate
    return EpochDraw(index_FTB.to(device), counts_FTB.to(device), keep_masks)


def train_epoch(
    state: State, adam: State, draw: EpochDraw, feature_ND: Tensor, label_N: Tensor, *,
    steps_F: list[int], lr_F: list[float], grad_clip: float, dropouts: Sequence[float],
) -> Tensor:  # fmt: skip
    """One epoch of Adam for every fold, in place; each fold's gradient is clipped by its own norm.

    Args:
        state: Stacked parameters.
        adam: First and second moments, named as the parameters after "first." and "second.".
        draw: The epoch's batches and dropout.
        feature_ND: All features.
        label_N: All labels.
        steps_F: Updates each fold has made so far; advanced.
        lr_F: Each fold's learning rate.
        grad_clip: Largest norm of a fold's gradient; 0 clips nothing.
        dropouts: Rates of the hidden layers.

    Returns:
        loss_F: Mean training loss of the epoch, dropout on, float64.
    """
    lr = torch.tensor(lr_F, dtype=torch.float64, device=feature_ND.device)
    total_F = torch.zeros_like(lr)
    active_TF = (draw.counts_FTB.sum(dim=2) > 0).T.cpu()
    for t, active_F in enumerate(active_TF):
        # a fold whose epoch has fewer steps rests through the others'
        rows_A = active_F.nonzero()[:, 0]
        for f in rows_A.tolist():
            steps_F[f] += 1
        if len(rows_A) == 1:
            # a stack of one takes other kernels, with other rounding; beside its twin a fold is as in company
            rows_A = rows_A.repeat(2)
        everyone = active_F.all() and len(active_F) > 1
        rows = slice(None) if everyone else rows_A.to(feature_ND.device)
        now, moments = ({name: value[rows] for name, value in part.items()} for part in (state, adam))
        index_AB, counts_AB = draw.index_FTB[rows, t], draw.counts_FTB[rows, t]
        keep_masks = [mask[rows, t] for mask in draw.keep_masks]
        now = {name: value.detach().requires_grad_() for name, value in now.items()}
        logit_ABK = stacked_logits(now, feature_ND[index_AB], dropouts=dropouts, keep_masks=keep_masks)
        loss_AB = cross_entropy(logit_ABK.flatten(0, 1), label_N[index_AB].flatten(), reduction="none")
        loss_AB = loss_AB.view_as(counts_AB) * counts_AB
        # folds share nothing, so the gradient of the sum is each fold's own
        gradients = torch.autograd.grad((loss_AB.sum(dim=1) / counts_AB.sum(dim=1)).sum(), list(now.values()))
        total_F[rows] += loss_AB.detach().sum(dim=1)
        steps_A = torch.tensor([steps_F[f] for f in rows_A.tolist()], dtype=torch.float64)
        now = {name: value.detach() for name, value in now.items()}
        _adam_step_(now, moments, _clipped(gradients, grad_clip), steps_A.to(lr.device), lr[rows])
        if not everyone:
            for part, moved in ((state, now), (adam, moments)):
                for name, value in moved.items():
                    part[name][rows] = value
    return total_F / draw.counts_FTB.sum(dim=(1, 2))


def _clipped(gradients: Sequence[Tensor], limit: float) -> Sequence[Tensor]:
    if limit == 0:
        return gradients
    norm_A = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    scale_A = (limit / (norm_A + 1e-6)).clamp_max(1)
    return [gradient.mul_(scale_A.view(-1, *[1] * (gradient.ndim - 1))) for gradient in gradients]


def _adam_step_(state: State, adam: State, gradients: Sequence[Tensor], steps_A: Tensor, lr_A: Tensor) -> None:
    size_A = (lr_A / (1 - BETA1**steps_A)).float()
    root_A = (1 - BETA2**steps_A).sqrt().float()
    for (name, parameter), gradient in zip(state.items(), gradients, strict=True):
        per_fold = (-1, *[1] * (parameter.ndim - 1))
        first = adam[f"first.{name}"].lerp_(gradient, 1 - BETA1)
        second = adam[f"second.{name}"].mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = second.sqrt().div_(root_A.view(per_fold)).add_(ADAM_EPS)
        parameter.addcdiv_(first * size_A.view(per_fold), spread, value=-1)


@dataclass(slots=True, kw_only=True)
class FoldProgress:
    """Where one fold's training stands; plain numbers, so that it can be written as JSON.

    Attributes:
        fold: Number of the fold; names its random numbers.
        lr: Learning rate now.
        steps: Updates made.
        best_loss: Smallest held-out loss, at `best_epoch` (from 1; 0 before the first epoch).
        waited: Epochs since.
        plateau_loss: The smallest held-out loss as ReduceLROnPlateau counts it.
        plateau_waited: Epochs since, or since the last reduction.
        stopped: Whether the fold has run out of patience.
        train_loss: Mean loss of every epoch.
        heldout_loss: Held-out loss after every epoch.
    """

    fold: int
    lr: float
    steps: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    waited: int = 0
    plateau_loss: float | None = None
    plateau_waited: int = 0
    stopped: bool = False
    train_loss: list[float] = field(default_factory=list)
    heldout_loss: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def record(
        self, train_loss: float, heldout_loss: float, *, patience: int, plateau_factor: float, plateau_patience: int
    ) -> bool:
        """Note one epoch's losses, lower the learning rate on a plateau, stop without patience; True for a new best."""
        self.train_loss.append(train_loss)
        self.heldout_loss.append(heldout_loss)
        if self.plateau_loss is None or heldout_loss < self.plateau_loss * (1 - PLATEAU_THRESHOLD):
            self.plateau_loss, self.plateau_waited = heldout_loss, 0
        else:
            self.plateau_waited += 1
        if self.plateau_waited > plateau_patience:
            lower = self.lr * plateau_factor
            self.lr = lower if self.lr - lower > PLATEAU_EPS else self.lr
            self.plateau_waited = 0
        if self.best_loss is None or heldout_loss < self.best_loss:
            self.best_loss, self.best_epoch, self.waited = heldout_loss, len(self.heldout_loss), 0
            return True
        self.waited += 1
        self.stopped = 0 < patience <= self.waited
        return False
