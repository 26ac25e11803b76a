"""What one published number is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The name of a measure, and where a result file has it.
METRICS = {"ensemble_top1": ("ensemble", "top1"), "ensemble_top2": ("ensemble", "top2"),
           "ensemble_top4": ("ensemble", "top4"), "fold_mean_top1": ("mean", "top1"),
           "fold_mean_top5": ("mean", "top5")}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """One published number.

    Attributes:
        key: Unique; what stands before the last "/" names the row of the source's table.
        source: Paper, slides or README.
        data: Data set of the test.
        method: The source's own label.
        encoder: The source's encoder, in our names where we have it.
        protocol: How it was measured, in words.
        metric: A key of `METRICS`; one model of the source stands beside the mean of our fold models.
        value: A fraction in 0..1.
        sd: Standard deviation over folds, for a fold mean.
        n_labels: Labelled training images used; None where the source does not say.
        labels_per_class: Set where it is a point of a few-label curve.
        note: What a reader must know, a line for each thing.
        subject: Facts that a result of ours must have to stand beside it at all; each with its allowed values.
        requires: Facts that must agree as well for the protocol to be the same.
        unknown: What the source does not tell, or nobody else can have, if for that reason no result can be called
            the same.
    """

    key: str
    source: str
    data: str
    method: str
    encoder: str
    protocol: str
    metric: str
    value: float
    n_labels: int | None
    sd: float | None = None
    labels_per_class: int | None = None
    note: str = ""
    subject: Mapping[str, tuple[Any, ...]]
    requires: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = ""

    @property
    def row(self) -> str:
        return self.key.rpartition("/")[0]

    @property
    def layer(self) -> str:
        """The layer that was scored, empty where the source scored the whole network."""
        (layer, *_) = self.subject.get("layer", ("",))
        return str(layer)
