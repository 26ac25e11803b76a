"""What went wrong in a training that ended well all the same: features that collapsed, losses that jumped, steps left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pretext.reports.compare import Study
from pretext.reports.gather import look

COLLAPSED = 0.02  # of the way from one direction to as many as there could be
JUMP = 2.0  # times the running median of the training loss
LISTED = 4  # runs, before a number says it better


def troubles(study: Study) -> list[str]:
    """A sentence for each sort of trouble; effective rank as in Garrido et al. 2023, arXiv:2210.02885."""
    found: dict[str, list[str]] = {"collapsed": [], "jumped": [], "left out": []}
    for method in study.methods:
        for run in method.runs:
            features = look(run.manifest, "summary", "features")
            if is_collapsed(features):
                found["collapsed"].append(
                    f"{run.name} ({features['effective_rank']:.1f} of {features['largest_rank']})"
                )
            if jumps := [row for row in run.curve if is_jump(row)]:
                worst = max(jumps, key=lambda row: row["train/loss_over_median"])
                where = f"{worst['train/loss_over_median']:.1f} times, epoch {worst['epoch']:.1f}"
                found["jumped"].append(f"{run.name} ({where})")
            lost = [look(run.manifest, "summary", name, default=0) for name in ("skipped_steps", "rewinds")]
            if any(isinstance(number, int) and number > 0 for number in lost):
                found["left out"].append(f"{run.name} ({lost[0]} steps skipped, {lost[1]} rewinds)")
    sentences = {
        "collapsed": "The features of these collapsed, they span almost one direction (effective rank): {}.",
        "jumped": "The training loss of these jumped far above its running median: {}.",
        "left out": "In the training of these a loss or gradient was no number: {}.",
    }
    return [sentences[sort].format("; ".join(runs) if len(runs) <= LISTED else f"{len(runs)} runs")
            for sort, runs in found.items() if runs]  # fmt: skip


def is_collapsed(features: Any) -> bool:
    """Whether features span hardly more than one direction, by what a run's summary says of them."""
    rank, largest = look(features, "effective_rank"), look(features, "largest_rank")
    numbers = isinstance(rank, (int, float)) and isinstance(largest, int)
    return numbers and largest > 1 and rank - 1 < COLLAPSED * (largest - 1)


def is_jump(row: Mapping[str, Any]) -> bool:
    """Whether the loss of a row of the curve is far above the median of those before it."""
    ratio = row.get("train/loss_over_median")
    return isinstance(ratio, (int, float)) and ratio > JUMP
