"""Heads fitted in a folder, so that a stopped fit goes on from where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretext.errors import PretextError
from pretext.tasks.folds import TrainSet
from pretext.tasks.heads import HeadFit, fit_heads
from pretext.training.state import State, load_state, save_state


def fit_heads_in(
    folder: Path, feature_ND: np.ndarray, label_N: np.ndarray, train_sets: Sequence[TrainSet], **recipe: Any
) -> list[HeadFit]:
    """`fit_heads` with its state in `folder`: called again after a kill it ends with the same bits.

    The folder is the caller's to remove, once what comes of the heads is written.

    Raises:
        PretextError: If a loss does not stay finite.
    """

    def save(state: State, progress: dict[str, Any]) -> None:
        save_state(folder, state, {"progress": progress}, name=f"epoch-{progress['epoch']:06d}")

    saved = load_state(folder)
    resume = (saved[0], saved[1]["progress"]) if saved else None
    try:
        return fit_heads(feature_ND, label_N, train_sets, save=save, resume=resume, **recipe)
    except ValueError as error:
        raise PretextError(f"the classifier could not be trained: {error}", hint="a smaller --lr") from error
