"""Several small heads of one shape trained as one stacked model: forward pass, optimiser, schedule, random numbers.

Letters beside the package's alphabet: F folds, n images of a fold, O outputs and I inputs of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, leaky_relu, one_hot

from pretext.training.optim import Plateau, rate_scale
from pretext.training.seeds import derive_seed

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8

State = dict[str, Tensor]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "leaky-relu": leaky_relu}
LOSSES = ("cross-entropy", "one-hot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How heads are trained; the meaning of each option stands in `pretext.tasks.heads.fit_heads`."""

    epochs: int
    lr: float
    weight_decay: float
    batch_size: int
    patience: int
    grad_clip: float
    schedule: str
    warmup_epochs: float
    plateau_factor: float
    plateau_patience: int
    seed: int
    dropouts: tuple[float, ...]
    widths: tuple[int, ...]
    activation: str
    loss: str


def fold_generator(purpose: str, *, seed: int, fold: int, epoch: int, device: torch.device) -> torch.Generator:
    """Random numbers of one fold, epoch and purpose.

    Nothing is carried from one epoch to the next, so a restarted fit draws the same numbers; and no fold draws from
    another's, so a fold's result does not depend on its company.
    """
    return torch.Generator(device=device).manual_seed(derive_seed(seed, purpose, fold, epoch))


def stacked_logits(
    state: State, feature_FBD: Tensor, *, activation: str = "sigmoid", dropouts: Sequence[float] = (),
    keep_masks: Sequence[Tensor] = (),
) -> Tensor:  # fmt: skip
    """Logits of F heads, each on its own batch.

    Args:
        state: Stacked weights (F, O, I) and biases (F, O) of the head's linear layers, in order.
        feature_FBD: Each head's features.
        activation: What follows each hidden layer, a key of `ACTIVATIONS`.
        dropouts: Dropout rate after each hidden layer.
        keep_masks: For each hidden layer, (F, B, O): True for units that are kept. Empty for no dropout.

    Returns:
        logit_FBK.
    """
    names = [name for name in state if name.endswith("weight")]
    hidden = feature_FBD
    for depth, name in enumerate(names):
        bias_FO = state[name.removesuffix("weight") + "bias"]
        hidden = torch.baddbmm(bias_FO[:, None], hidden, state[name].transpose(1, 2))
        if depth < len(names) - 1:
            hidden = ACTIVATIONS[activation](hidden)
            if keep_masks:
                hidden = hidden * keep_masks[depth] / (1 - dropouts[depth])
    return hidden


def image_losses(logit_BK: Tensor, label_B: Tensor, loss: str) -> Tensor:
    """Each image's loss_B: its cross-entropy, or the mean over classes of its squared error from the one-hot label."""
    if loss == "one-hot":
        return (logit_BK - one_hot(label_B, logit_BK.shape[1])).square().mean(1)
    return cross_entropy(logit_BK, label_B, reduction="none")


@dataclass(frozen=True, slots=True)
class EpochDraw:
    """What the folds draw for one epoch; the steps of a shorter fold are padded with images that don't count.

    Args:
        index_FTB: Images of each step, T steps.
        counts_FTB: 1 where an image counts, 0 where it pads.
        keep_masks: For each hidden layer, (F, T, B, O) of bool.
    """

    index_FTB: Tensor
    counts_FTB: Tensor
    keep_masks: list[Tensor]


def draw_epoch(
    trains: Sequence[Tensor], folds: Sequence[int], recipe: Recipe, *, epoch: int, device: torch.device
) -> EpochDraw:
    """Shuffle every fold's images into batches, the last one partial, and draw its dropout."""
    steps = [steps_per_epoch(len(train), recipe) for train in trains]
    shape = (len(trains), max(steps), recipe.batch_size)
    index_FTB = torch.zeros(shape, dtype=torch.int64)
    counts_FTB = torch.zeros(shape)
    keep_masks = [torch.zeros(*shape, width, dtype=torch.bool, device=device) for width in recipe.widths]
    for f, (train, fold) in enumerate(zip(trains, folds, strict=True)):
        order = fold_generator("order", seed=recipe.seed, fold=fold, epoch=epoch, device=torch.device("cpu"))
        index_FTB[f].view(-1)[: len(train)] = train[torch.randperm(len(train), generator=order)]
        counts_FTB[f].view(-1)[: len(train)] = 1
        random = fold_generator("dropout", seed=recipe.seed, fold=fold, epoch=epoch, device=device)
        for mask, rate, width in zip(keep_masks, recipe.dropouts, recipe.widths, strict=True):
            own = torch.rand(steps[f], recipe.batch_size, width, generator=random, device=device)
            mask[f, : steps[f]] = own >= rate
    return EpochDraw(index_FTB.to(device), counts_FTB.to(device), keep_masks)


def steps_per_epoch(num_images: int, recipe: Recipe) -> int:
    """Updates in one pass over a fold's images."""
    return -(-num_images // recipe.batch_size)


def train_epoch(
    state: State,
    adam: State,
    draw: EpochDraw,
    feature_ND: Tensor,
    label_N: Tensor,
    recipe: Recipe,
    progress: Sequence[FoldProgress],
) -> Tensor:
    """One epoch of Adam for every fold, in place; each fold's gradient is clipped by its own norm.

    Args:
        state: Stacked parameters.
        adam: First and second moments, named as the parameters after "first." and "second.".
        draw: The epoch's batches and dropout.
        feature_ND: All features.
        label_N: All labels.
        recipe: How to train.
        progress: Each fold's steps, advanced, and learning rate.

    Returns:
        loss_F: Mean training loss of the epoch, dropout on, float64.
    """
    active_TF = (draw.counts_FTB.sum(dim=2) > 0).T.cpu()
    steps_F = active_TF.sum(dim=0).tolist()
    total_F = torch.zeros(len(progress), dtype=torch.float64, device=feature_ND.device)
    for t, active_F in enumerate(active_TF):
        # a fold whose epoch has fewer steps rests through the others'
        chosen = active_F.nonzero()[:, 0].tolist()
        lr = [recipe.lr * progress[f].rate_scale(recipe, steps_F[f]) for f in chosen]
        for f in chosen:
            progress[f].steps += 1
        if len(chosen) == 1:
            # a stack of one takes other kernels, with other rounding; beside its twin a fold is as in company
            chosen, lr = chosen * 2, lr * 2
        rows: slice | Tensor = slice(None)
        if chosen != list(range(len(progress))):
            rows = torch.tensor(chosen, device=feature_ND.device)
        index_AB, counts_AB = draw.index_FTB[rows, t], draw.counts_FTB[rows, t]
        keep_masks = [mask[rows, t] for mask in draw.keep_masks]
        now = {name: value[rows].requires_grad_() for name, value in state.items()}
        logit_ABK = stacked_logits(now, feature_ND[index_AB], activation=recipe.activation,
                                   dropouts=recipe.dropouts, keep_masks=keep_masks)  # fmt: skip
        loss_AB = image_losses(logit_ABK.flatten(0, 1), label_N[index_AB].flatten(), recipe.loss)
        loss_AB = loss_AB.view_as(counts_AB) * counts_AB
        # folds share nothing, so the gradient of the sum is each fold's own
        gradients = torch.autograd.grad((loss_AB.sum(dim=1) / counts_AB.sum(dim=1)).sum(), list(now.values()))
        total_F[rows] += loss_AB.detach().sum(dim=1)
        now = {name: value.detach() for name, value in now.items()}
        moments = {name: value[rows] for name, value in adam.items()}
        steps = [progress[f].steps for f in chosen]
        _adam_step_(now, moments, _clipped(gradients, recipe.grad_clip), recipe.weight_decay, steps, lr)
        if isinstance(rows, Tensor):
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


def _adam_step_(
    state: State, adam: State, gradients: Sequence[Tensor], decay: float, steps: Sequence[int], lr: Sequence[float]
) -> None:
    device = gradients[0].device
    size_A = torch.tensor([rate / (1 - BETA1**step) for rate, step in zip(lr, steps, strict=True)], device=device)
    root_A = torch.tensor([math.sqrt(1 - BETA2**step) for step in steps], device=device)
    for (name, parameter), gradient in zip(state.items(), gradients, strict=True):
        per_fold = (-1, *[1] * (parameter.ndim - 1))
        gradient = gradient.add(parameter, alpha=decay) if decay else gradient
        first = adam[f"first.{name}"].lerp_(gradient, 1 - BETA1)
        second = adam[f"second.{name}"].mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = second.sqrt().div_(root_A.view(per_fold)).add_(ADAM_EPS)
        parameter.addcdiv_(first * size_A.view(per_fold), spread, value=-1)


@dataclass(slots=True, kw_only=True)
class FoldProgress:
    """Where one fold's training stands; plain numbers, so that it can be written as JSON.

    Attributes:
        fold: Number of the fold; names its random numbers.
        plateau: Memory of the plateau schedule.
        steps: Updates made.
        best_loss: Smallest held-out loss, None before the first.
        best_epoch: Its epoch, from 1; without held-out images the last epoch.
        waited: Epochs since.
        stopped: Whether the fold has run out of patience.
        train_loss: Mean loss of every epoch, dropout on.
        heldout_loss: Held-out loss after every epoch; empty without held-out images.
    """

    fold: int
    plateau: Plateau
    steps: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    waited: int = 0
    stopped: bool = False
    train_loss: list[float] = field(default_factory=list)
    heldout_loss: list[float] = field(default_factory=list)

    def rate_scale(self, recipe: Recipe, steps_per_epoch: int) -> float:
        """The factor on the learning rate of the next step."""
        return rate_scale(
            recipe.schedule, self.steps, total_steps=recipe.epochs * steps_per_epoch,
            warmup_steps=round(recipe.warmup_epochs * steps_per_epoch), plateau=self.plateau,
        )  # fmt: skip

    def record(self, train_loss: float, heldout_loss: float | None, patience: int) -> bool:
        """Note one epoch's losses, tell the plateau, stop without patience; True where these weights are to be kept."""
        self.train_loss.append(train_loss)
        if heldout_loss is None:
            self.plateau.observe(train_loss)
            self.best_epoch = len(self.train_loss)
            return True
        self.heldout_loss.append(heldout_loss)
        self.plateau.observe(heldout_loss)
        if self.best_loss is None or heldout_loss < self.best_loss:
            self.best_loss, self.best_epoch, self.waited = heldout_loss, len(self.heldout_loss), 0
            return True
        self.waited += 1
        self.stopped = 0 < patience <= self.waited
        return False

    def as_json(self) -> dict[str, Any]:
        """JSON has no infinity: a plateau that has seen nothing yet stands as null."""
        facts = asdict(self)
        facts["plateau"]["best"] = self.plateau.best if math.isfinite(self.plateau.best) else None
        return facts

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> FoldProgress:
        """The inverse of `as_json`."""
        best = facts["plateau"]["best"]
        plateau = Plateau(**{**facts["plateau"], "best": math.inf if best is None else best})
        lists = {name: list(facts[name]) for name in ("train_loss", "heldout_loss")}
        return cls(**{**facts, **lists, "plateau": plateau})
