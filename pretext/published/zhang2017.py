"""Split-brain autoencoders: linear classifiers on every layer of AlexNet, on ImageNet and on Places-205.

The paper's PASCAL and NYU-D numbers are mean average precisions and intersections over union of detectors and
segmenters: no result of ours can stand beside them, so they are not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pretext.published.figure import PublishedFigure

SOURCE = "Zhang, Isola, Efros 2017"
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
IMAGENET_TRAIN, IMAGENET_TEST = 1_281_167, 50_000
NOTE = ("Table 2 and the Places table of arXiv:1611.09842. Linear classifiers on frozen layers, each map resized to "
        "about 9,600 numbers; one network and one classifier a cell, so without an interval. The networks saw 180 px "
        "while pretraining and 227 px when their layers were read.")  # fmt: skip
PUZZLE_NOTE = "Its maps are four times as dense as AlexNet's, which favours it."
UNKNOWN = "trained at 180 px, read at 227 px"

# In RGB it is another task; which of the Lab ones it was is a matter of the protocol.
_LAB: dict[str, tuple[Any, ...]] = {
    "colour space": ("lab", "lab-rescaled", "lab-rescaled-all", "lab-313", "lab-gamut"),
}  # fmt: skip
_CLASSIFIED = _LAB | {"loss": ("cross-entropy",)}
_REGRESSED = _LAB | {"loss": ("regression",)}
_BINS = {"colour space": "lab-313", "bins": "50|313", "rebalance": 1.0}
_FULL, _HALVES = {"width": 1.0}, {"width": 0.5}
# name, the source's label, subject, what else must agree; the paper's two sub-networks have half of AlexNet's channels
METHODS: dict[str, tuple[str, Mapping[str, tuple[Any, ...]], Mapping[str, Any]]] = {
    "labels": ("ImageNet labels", {"objective": ("supervised",)}, {}),
    "gaussian": ("Gaussian initialisation", {"control": ("random",)}, _FULL),
    "autoencoder": ("Lab to Lab autoencoder", {"objective": ("autoencode",)}, _FULL | {"channels": "Lab"}),
    "denoising": ("Lab, half of it dropped, to Lab", {"objective": ("denoise",), "noise": ("masking",)},
                  _FULL | {"channels": "Lab", "noise level": 0.5}),
    "l-to-ab-cl": ("L to ab (cl)", {"objective": ("colorize",)} | _CLASSIFIED, _FULL | _BINS),
    "l-to-ab-reg": ("L to ab (reg)", {"objective": ("colorize",)} | _REGRESSED, _FULL),
    "ab-to-l-cl": ("ab to L (cl)", {"objective": ("predict-light",)} | _CLASSIFIED, _FULL | _BINS),
    "ab-to-l-reg": ("ab to L (reg)", {"objective": ("predict-light",)} | _REGRESSED, _FULL),
    "one-network": ("one network, both tasks", {"objective": ("cross-channel",)} | _CLASSIFIED, _FULL | _BINS),
    "one-network-autoencoder": ("one network, both tasks and autoencoding",
                                {"objective": ("cross-channel",), "autoencoding": (1 / 3,)} | _LAB, _FULL | _BINS),
    "two-colorizers": ("two colourisers", {"objective": ("two-colorizers",)} | _CLASSIFIED, _HALVES | _BINS),
    "split-brain-reg": ("split-brain (reg, reg)", {"objective": ("split-brain",)} | _REGRESSED, _HALVES),
    "split-brain-cl": ("split-brain (cl, cl)", {"objective": ("split-brain",)} | _CLASSIFIED, _HALVES | _BINS),
    "puzzles": ("jigsaw puzzles", {"objective": ("puzzles",)}, {}),
    "context": ("context prediction", {"objective": ("context",)}, {}),
    "bigan": ("BiGAN", {"objective": ("bigan",)}, {}),
    "inpainting": ("inpainting", {"objective": ("inpainting",)}, {}),
}  # fmt: skip

# Per cent of conv1 to conv5.
IMAGENET_TABLE = {
    "labels": (19.3, 36.3, 44.2, 48.3, 50.5), "gaussian": (11.6, 17.1, 16.9, 16.3, 14.1),
    "autoencoder": (12.9, 20.1, 18.5, 15.1, 11.5), "denoising": (12.1, 20.4, 19.7, 16.1, 12.3),
    "l-to-ab-cl": (12.5, 25.4, 32.4, 33.1, 32.0), "l-to-ab-reg": (12.3, 23.5, 29.6, 31.1, 30.1),
    "ab-to-l-cl": (11.6, 19.2, 22.6, 21.7, 19.2), "ab-to-l-reg": (11.5, 19.4, 23.5, 23.9, 21.7),
    "one-network": (15.1, 22.6, 24.4, 23.2, 21.1), "one-network-autoencoder": (15.4, 22.9, 24.0, 22.0, 18.9),
    "two-colorizers": (11.7, 23.7, 30.9, 32.2, 31.3), "split-brain-reg": (17.4, 27.9, 33.6, 34.2, 32.3),
    "split-brain-cl": (17.7, 29.3, 35.4, 35.2, 32.8), "puzzles": (19.2, 30.1, 34.7, 33.9, 28.3),
    "context": (16.2, 23.3, 30.2, 31.7, 29.6), "bigan": (17.7, 24.5, 31.0, 29.9, 28.0),
    "inpainting": (14.1, 20.7, 21.0, 19.8, 15.5),
}  # fmt: skip
PLACES_TABLE = {
    "labels": (22.1, 35.1, 40.2, 43.3, 44.6), "l-to-ab-cl": (16.4, 27.5, 31.4, 32.1, 30.2),
    "split-brain-cl": (21.3, 30.7, 34.0, 34.1, 32.5),
}  # fmt: skip


def _rows(data: str, table: Mapping[str, tuple[float, ...]], *, n_labels: int | None,
          tested: Mapping[str, Any]) -> Iterator[PublishedFigure]:  # fmt: skip
    for name, scores in table.items():
        method, subject, requires = METHODS[name]
        pretrained = {} if name == "gaussian" else {"pretraining data": "imagenet"}
        if name not in ("gaussian", "labels"):
            pretrained |= {"pretraining images": IMAGENET_TRAIN, "image size": 180}  # type: ignore[dict-item]
        for layer, score in zip(LAYERS, scores, strict=True):
            yield PublishedFigure(
                key=f"split-brain/{data}/{name}/{layer}", source=SOURCE, data=data, method=method,
                encoder="alexnet-fcn", protocol=f"linear classifier on {data}, a layer each", metric="fold_mean_top1",
                value=round(score / 100, 6), n_labels=n_labels,
                note=f"{NOTE}\n{PUZZLE_NOTE}" if name == "puzzles" else NOTE, unknown=UNKNOWN,
                subject={"evaluation": ("probe-linear",), "layer": (layer,), **subject},
                requires={"images": data, **pretrained, "encoder": "alexnet-fcn", "stem": "11x11", **requires,
                          "pool": "resize", **tested},
            )  # fmt: skip


FIGURES: tuple[PublishedFigure, ...] = (
    *_rows("imagenet", IMAGENET_TABLE, n_labels=IMAGENET_TRAIN,
           tested={"train images": IMAGENET_TRAIN, "test images": IMAGENET_TEST, "classes": 1000}),
    *_rows("places205", PLACES_TABLE, n_labels=None, tested={"classes": 205}),
)  # fmt: skip
