"""Accuracies on STL-10 that READMEs of public repositories state."""

from __future__ import annotations

from typing import Any

from pretext.published.figure import PublishedFigure

SIMCLR_READMES = "SimCLR READMEs"
PEER_README = "a peer's README"
UNSTATED = "the README does not state every setting"
_LINEAR = {"evaluation": ("probe-linear",), "control": (None,)}
_ONE_MODEL = "linear, all 5,000 labels"
_SIMCLR = {"split": "unlabeled", "objective": "simclr"}


def _row(key: str, value: float, *, subject: dict[str, Any], requires: dict[str, Any],
         **words: Any) -> PublishedFigure:  # fmt: skip
    common: dict[str, Any] = {"data": "stl10", "source": SIMCLR_READMES, "metric": "fold_mean_top1", "n_labels": 5_000}
    return PublishedFigure(key=f"{key}/top1", value=value / 100, subject=subject,
                           requires={"images": "stl10", **requires}, **(common | words))  # fmt: skip


FIGURES: tuple[PublishedFigure, ...] = (
    _row("simclr/resnet18-low", 74.5, method="SimCLR", encoder="resnet18", protocol=f"{_ONE_MODEL}; 100 epochs",
         subject=_LINEAR, requires=_SIMCLR | {"encoder": "resnet18"}, unknown=UNSTATED),
    _row("simclr/resnet18-high", 76.5, method="SimCLR", encoder="resnet18", protocol=f"{_ONE_MODEL}; 100 epochs",
         subject=_LINEAR, requires=_SIMCLR | {"encoder": "resnet18"}, unknown=UNSTATED),
    _row("simclr/resnet50", 82.9, method="SimCLR", encoder="resnet50", protocol=f"{_ONE_MODEL}; 100 epochs",
         subject=_LINEAR, requires=_SIMCLR | {"encoder": "resnet50"}, unknown=UNSTATED,
         note="Another version of that README states 79.1."),
    _row("simclr/pixels", 35.8, method="no pretraining", encoder="pixels", protocol="logistic regression",
         subject={"evaluation": ("probe-linear",), "control": ("pixels",)}, requires={},
         unknown="the README does not state the pixels' size or preparation"),
    _row("peer/resnet50-scratch", 58.0, source=PEER_README, method="random initialisation", encoder="resnet50",
         protocol="fine-tuned from random weights", subject={"evaluation": ("fine-tune-scratch",)},
         requires={"encoder": "resnet50"}, unknown=UNSTATED),
)  # fmt: skip
