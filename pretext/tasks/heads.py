"""Classifier heads: as modules for an encoder, and fitted to frozen features, all folds as one stacked model.

Letters beside the package's alphabet: F folds, n images of a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pretext.tasks.features import check_features, full_precision
from pretext.tasks.folds import TrainSet, check_train_sets
from pretext.tasks.head_training import (
    LOSSES,
    FoldProgress,
    Recipe,
    State,
    draw_epoch,
    fold_generator,
    image_losses,
    stacked_logits,
    train_epoch,
)
from pretext.training.optim import Plateau

# (units, dropout rate) of each hidden layer
HIDDEN: dict[str, tuple[tuple[int, float], ...]] = {"linear": (), "slides": ((128, 0.1), (128, 0.5))}
SCHEDULES = ("constant", "cosine", "plateau")

Kind = str | tuple[int, ...]
SaveHeads = Callable[[State, dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFit:
    """The head of one fold, at its best epoch.

    Attributes:
        state_dict: Loads into `build_head(...)` of the same shape; on the CPU.
        best_epoch: The epoch, from 1, with the smallest held-out loss; the last one if nothing was held out.
        train_loss: Mean training loss of every epoch, dropout on.
        heldout_loss: Held-out loss after every epoch; empty if nothing was held out.
        stopped_early: Whether patience ran out before the epochs did.
        activation: What follows its hidden layers.
    """

    state_dict: State
    best_epoch: int
    train_loss: list[float]
    heldout_loss: list[float]
    stopped_early: bool
    activation: str

    @torch.no_grad()
    def logits(self, feature_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of other images' features, (N, K), computed on the CPU."""
        stacked = {name: value[None] for name, value in self.state_dict.items()}
        with full_precision():
            feature_1ND = torch.tensor(feature_ND, dtype=torch.float32)[None]
            return stacked_logits(stacked, feature_1ND, activation=self.activation)[0].numpy()


def build_head(kind: Kind, num_features: int, num_classes: int) -> nn.Sequential:
    """Build a classifier head, randomly initialised from torch's global generator.

    Args:
        kind: "linear": one linear layer. "slides": Linear(D, 128)-Sigmoid-Dropout 0.1-Linear(128, 128)-Sigmoid-
            Dropout 0.5-Linear(128, K), the slides' "2 fully connected layers". Or the widths of hidden layers with
            LeakyReLU behind each, such as (64, 32); () is linear.
        num_features: D.
        num_classes: K.

    Returns:
        A module from feature_BD to logit_BK.

    Raises:
        ValueError: If the kind is unknown.

    Reference: Golmakani's slides and repository on PSE, downstream.py; Pihlgren et al., arXiv:2302.04032.
    """
    layers: list[nn.Module] = []
    width = num_features
    for units, rate in _hidden_layers(kind):
        layers.append(nn.Linear(width, units))
        layers += [nn.Sigmoid(), nn.Dropout(rate)] if isinstance(kind, str) else [nn.LeakyReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def _hidden_layers(kind: Kind) -> tuple[tuple[int, float], ...]:
    if isinstance(kind, tuple):
        return tuple((units, 0.0) for units in kind)
    if kind not in HIDDEN:
        raise ValueError(f"head must be one of {sorted(HIDDEN)}, got {kind!r}")
    return HIDDEN[kind]


def fit_heads(
    feature_ND: NDArray[np.floating],
    label_N: NDArray[np.integer],
    train_sets: Sequence[TrainSet],
    *,
    kind: Kind,
    num_classes: int,
    loss: str = "cross-entropy",
    epochs: int = 1000,
    lr: float = 1e-4,
    weight_decay: float = 0.0,
    batch_size: int = 128,
    patience: int = 50,
    grad_clip: float = 0.5,
    schedule: str = "plateau",
    warmup_epochs: float = 0.0,
    plateau_factor: float = 0.9,
    plateau_patience: int = 40,
    seed: int = 0,
    device: torch.device | str = "cpu",
    fold_numbers: Sequence[int] | None = None,
    save: SaveHeads | None = None,
    save_every: int = 10,
    resume: tuple[State, dict[str, Any]] | None = None,
) -> list[HeadFit]:
    """Train one head per fold on frozen features, all of them together, each as if it were alone.

    The defaults are the slides' recipe: Adam, ReduceLROnPlateau on the held-out loss, gradients clipped by norm, early
    stopping, the weights of the best epoch kept. A fold that stops leaves the batch. Features are taken as they are.

    Args:
        feature_ND: Finite features of all labelled images; the work is done in float32.
        label_N: Classes 0..K-1.
        train_sets: Pairs (train, held out) of indices, one per fold. A fold that holds out nothing is trained to the
            last epoch, the schedule watching its training loss.
        kind: As `build_head`.
        num_classes: K.
        loss: "cross-entropy", or "one-hot": the mean squared error from one-hot labels.
        epochs: Most passes over a fold's training images.
        lr: Learning rate.
        weight_decay: Added to the gradient as weight_decay x weights, as torch's Adam does.
        batch_size: Images of one step; the last step of an epoch takes what is left.
        patience: Epochs without a smaller held-out loss before a fold stops; 0 never stops.
        grad_clip: Largest norm of a fold's gradient; 0 clips nothing.
        schedule: "plateau", "cosine" to 0 over all epochs, or "constant".
        warmup_epochs: Epochs of linear warm-up.
        plateau_factor: Factor on the learning rate, as ReduceLROnPlateau.
        plateau_patience: Epochs before it, as ReduceLROnPlateau.
        seed: Seed of weights, order and dropout.
        device: Where to work.
        fold_numbers: Numbers that name the folds' random numbers, 0..F-1 if not given: fold 3 alone draws what fold 3
            draws in company.
        save: Called as save(state, progress) after every `save_every` epochs: tensors by name, and plain numbers that
            JSON can hold.
        save_every: Epochs between calls.
        resume: What `save` was given. The fit goes on from there and ends with the same bits on the same machine.

    Returns:
        One fit per fold, in order.

    Raises:
        ValueError: If an argument is out of range, a fold is unusable, `resume` is of other folds, or a loss is no
            longer finite.

    Cost: epochs x (longest fold / batch_size) steps, however many folds; dropout masks of n x 256 bytes each.
    Reference: Golmakani's slides and repository on PSE, downstream.py.
    """
    device = torch.device(device)
    # torch.tensor copies: arrays read from a file may be read-only
    tensor_ND = torch.tensor(np.asarray(feature_ND), dtype=torch.float32, device=device)
    class_N = torch.tensor(np.asarray(label_N), dtype=torch.int64, device=device)
    check_features(tensor_ND, class_N, num_classes=num_classes)
    check_train_sets(train_sets, num_images=len(class_N))
    folds = list(range(len(train_sets))) if fold_numbers is None else [int(number) for number in fold_numbers]
    if len(folds) != len(train_sets) or len(set(folds)) < len(folds):
        raise ValueError(f"fold_numbers must be {len(train_sets)} different numbers, got {folds}")
    start = _start(kind, tensor_ND.shape[1], num_classes, folds, seed=seed, device=device)
    dropped = _hidden_layers(kind) if isinstance(kind, str) else ()
    recipe = Recipe(
        epochs=epochs, lr=lr, weight_decay=weight_decay, batch_size=batch_size, patience=patience, grad_clip=grad_clip,
        schedule=schedule, warmup_epochs=warmup_epochs, plateau_factor=plateau_factor,
        plateau_patience=plateau_patience, seed=seed, dropouts=tuple(rate for _, rate in dropped),
        widths=tuple(units for units, _ in dropped), activation="sigmoid" if isinstance(kind, str) else "leaky-relu",
        loss=loss,
    )  # fmt: skip
    _check_recipe(recipe, save_every)
    if resume is None:
        trained, best, adam = start
        plateaus = [Plateau(factor=plateau_factor, patience=plateau_patience) for _ in folds]
        progress = [FoldProgress(fold=fold, plateau=plateau) for fold, plateau in zip(folds, plateaus, strict=True)]
        done_epochs = 0
    else:
        trained, best, adam, progress, done_epochs = _restore(*resume, folds, device=device)
        # A gradient's norm is summed over the layers in their order: a file's order would change its last bits.
        trained, best, adam = (
            {name: part[name] for name in like} for part, like in zip((trained, best, adam), start, strict=True)
        )
    trains = [torch.from_numpy(np.asarray(train, dtype=np.int64)) for train, _ in train_sets]
    heldouts = [torch.from_numpy(np.asarray(heldout, dtype=np.int64)).to(device) for _, heldout in train_sets]
    for epoch in range(done_epochs + 1, epochs + 1):
        active = [f for f, fold in enumerate(progress) if not fold.stopped]
        if not active:
            break
        rows = torch.tensor(active, device=device)
        state, moments = ({name: value[rows] for name, value in part.items()} for part in (trained, adam))
        own_progress = [progress[f] for f in active]
        draw = draw_epoch([trains[f] for f in active], [folds[f] for f in active], recipe, epoch=epoch, device=device)
        with full_precision():
            train_loss_F = train_epoch(state, moments, draw, tensor_ND, class_N, recipe, own_progress)
            heldout_loss_F = _heldout_losses(state, tensor_ND, class_N, [heldouts[f] for f in active], recipe)
        for part, new in ((trained, state), (adam, moments)):
            for name, value in new.items():
                part[name][rows] = value
        losses = torch.stack([train_loss_F, heldout_loss_F], dim=1).tolist()
        for f, (train_loss, heldout_loss) in zip(active, losses, strict=True):
            watched = heldout_loss if len(heldouts[f]) else train_loss
            if not np.isfinite(watched):
                raise ValueError(
                    f"fold {folds[f]}: loss must stay finite, got {watched} at epoch {epoch}; lower lr {lr}"
                )
            if progress[f].record(train_loss, heldout_loss if len(heldouts[f]) else None, patience):
                for name, value in trained.items():
                    best[name][f] = value[f]
        if save is not None and epoch % save_every == 0:
            save(*_snapshot(trained, best, adam, progress, epoch))
    return [
        HeadFit(
            state_dict={name: value[f].cpu().clone() for name, value in best.items()}, best_epoch=fold.best_epoch,
            train_loss=fold.train_loss, heldout_loss=fold.heldout_loss, stopped_early=fold.stopped,
            activation=recipe.activation,
        )
        for f, fold in enumerate(progress)
    ]  # fmt: skip


def _start(
    kind: Kind, num_features: int, num_classes: int, folds: Sequence[int], *, seed: int, device: torch.device
) -> tuple[State, State, State]:
    """Parameters, best parameters and Adam's moments, stacked over folds."""
    states = []
    for fold in folds:
        # torch's layers draw from the global generator only; it is put back afterwards
        with torch.random.fork_rng(devices=[]):
            own = fold_generator("weights", seed=seed, fold=fold, epoch=0, device=torch.device("cpu"))
            torch.set_rng_state(own.get_state())
            states.append(build_head(kind, num_features, num_classes).state_dict())
    trained = {name: torch.stack([state[name] for state in states]).to(device) for name in states[0]}
    adam = {f"{moment}.{name}": torch.zeros_like(value) for moment in ("first", "second")
            for name, value in trained.items()}  # fmt: skip
    return trained, {name: value.clone() for name, value in trained.items()}, adam


@torch.no_grad()
def _heldout_losses(
    state: State, feature_ND: Tensor, label_N: Tensor, heldouts: Sequence[Tensor], recipe: Recipe
) -> Tensor:
    """Mean loss of each fold on its own held-out images, one fold after another: their numbers differ."""
    loss_F = torch.zeros(len(heldouts), dtype=torch.float64, device=feature_ND.device)
    for f, heldout in enumerate(heldouts):
        if len(heldout):
            own = {name: value[f : f + 1] for name, value in state.items()}
            logit_nK = stacked_logits(own, feature_ND[heldout][None], activation=recipe.activation)[0]
            loss_F[f] = image_losses(logit_nK.double(), label_N[heldout], recipe.loss).mean()
    return loss_F


def _snapshot(
    trained: State, best: State, adam: State, progress: Sequence[FoldProgress], epoch: int
) -> tuple[State, dict[str, Any]]:
    parts = {"trained": trained, "best": best, "adam": adam}
    state = {f"{part}.{name}": value.cpu().clone() for part, values in parts.items() for name, value in values.items()}
    return state, {"epoch": epoch, "folds": [fold.as_json() for fold in progress]}


def _restore(
    state: State, progress: dict[str, Any], folds: Sequence[int], *, device: torch.device
) -> tuple[State, State, State, list[FoldProgress], int]:
    saved = [FoldProgress.from_json(fold) for fold in progress["folds"]]
    if [fold.fold for fold in saved] != list(folds):
        raise ValueError(f"resume must be of folds {list(folds)}, got {[fold.fold for fold in saved]}")
    trained, best, adam = (
        {name.removeprefix(part): value.to(device).clone() for name, value in state.items() if name.startswith(part)}
        for part in ("trained.", "best.", "adam.")
    )
    return trained, best, adam, saved, int(progress["epoch"])


def _check_recipe(recipe: Recipe, save_every: int) -> None:
    for name, value in (("epochs", recipe.epochs), ("batch_size", recipe.batch_size), ("save_every", save_every)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not recipe.lr > 0:
        raise ValueError(f"lr must be positive, got {recipe.lr}")
    if recipe.loss not in LOSSES:
        raise ValueError(f"loss must be one of {list(LOSSES)}, got {recipe.loss!r}")
    if recipe.schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {list(SCHEDULES)}, got {recipe.schedule!r}")
