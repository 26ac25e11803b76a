"""Heads fitted in a folder, so that a stopped fit goes on from where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pretext.errors import PretextError
from pretext.tasks.folds import TrainSet
from pretext.tasks.heads import HeadFit, fit_heads
from pretext.training.state import State, load_state, save_state


def fit_heads_in(
    folder: Path,
    feature_ND: np.ndarray,
    label_N: np.ndarray,
    train_sets: Sequence[TrainSet],
    *,
    standardize: bool,
    **recipe: Any,
) -> list[HeadFit]:
    """`fit_heads` with its state in `folder`: called again after a kill it ends with the same bits.

    The folder is the caller's to remove, once what comes of the heads is written.

    Args:
        folder: Where the state lies.
        feature_ND: Features of all labelled training images.
        label_N: Their classes.
        train_sets: Pairs (train, held out), as `fit_heads`.
        standardize: Train on features brought to mean 0 and sd 1 over these images. Encoders differ in scale by orders
            of magnitude, and a head of sigmoids does not learn from features near 0. The heads that come back take
            features as they are: the scale is folded into their first layer.
        recipe: As `fit_heads`.

    Raises:
        PretextError: If a loss does not stay finite.
    """
    mean_D, sd_D = np.zeros(feature_ND.shape[1]), np.ones(feature_ND.shape[1])
    if standardize:
        mean_D, sd_D = feature_ND.mean(0, dtype=np.float64), feature_ND.std(0, dtype=np.float64)
        sd_D[sd_D == 0] = 1
        feature_ND = ((feature_ND - mean_D) / sd_D).astype(np.float32)

    def save(state: State, progress: dict[str, Any]) -> None:
        save_state(folder, state, {"progress": progress}, name=f"epoch-{progress['epoch']:06d}")

    saved = load_state(folder)
    resume = (saved[0], saved[1]["progress"]) if saved else None
    try:
        heads = fit_heads(feature_ND, label_N, train_sets, save=save, resume=resume, **recipe)
    except ValueError as error:
        raise PretextError(f"the classifier could not be trained: {error}", hint="a smaller --lr") from error
    return (
        [replace(head, state_dict=_folded(head.state_dict, mean_D, sd_D)) for head in heads] if standardize else heads
    )


def _folded(state: State, mean_D: np.ndarray, sd_D: np.ndarray) -> State:
    """The head for raw features that equals this one for standardised ones: W / sd, and b - (W / sd) mean."""
    weight_OD = state["0.weight"].double() / torch.from_numpy(sd_D)
    bias_O = state["0.bias"].double() - weight_OD @ torch.from_numpy(mean_D)
    return {**state, "0.weight": weight_OD.float(), "0.bias": bias_O.float()}
