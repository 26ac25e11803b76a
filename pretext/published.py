"""Numbers that others published, as data, and whether one of our results was measured the same way.

A number without its protocol invites a false comparison: every row says how it was measured, and `matching` says in a
few words where ours differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SLIDES = "Golmakani, slides"
SLIDES_README = "Golmakani, README"
SIMCLR_READMES = "SimCLR READMEs"
PEER_README = "a peer's README"
SPLIT_BRAIN = "arXiv:1611.09842"
SHOWN_DIFFERENCES = 5
METRICS = {"ensemble_top1": ("ensemble", "top1"), "ensemble_top2": ("ensemble", "top2"),
           "ensemble_top4": ("ensemble", "top4"), "fold_mean_top1": ("mean", "top1")}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """One published number.

    Attributes:
        key: Unique; what stands before the last "/" names the row of the source's table.
        source: Paper, slides or README.
        data: Data set of pretraining and test.
        method: The source's own label.
        encoder: The source's encoder, in our names where we have it.
        protocol: How it was measured, in words.
        metric: A key of `METRICS`.
        value: A fraction in 0..1.
        sd: Standard deviation over folds, for a fold mean.
        n_labels: Labelled training images used.
        note: What a reader must know.
        subject: Facts that a result of ours must have to stand beside it at all; each with its allowed values.
        requires: Facts that must agree as well for the protocol to be the same.
        unknown: What the source does not tell, if for that reason no result can be called the same.
    """

    key: str
    source: str
    data: str
    method: str
    encoder: str
    protocol: str
    metric: str
    value: float
    n_labels: int
    sd: float | None = None
    note: str = ""
    subject: Mapping[str, tuple[Any, ...]]
    requires: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = ""

    @property
    def row(self) -> str:
        return self.key.rpartition("/")[0]


FT_NOTE = ('The slides call this "fine-tune", but their code never moves the encoder\'s weights: batch norm in train '
           "mode adapts and augmentation is fresh, which is our protocol as-coded-ft. One pretraining seed; the sd is "
           "over folds that share the test images.")  # fmt: skip
FROZEN_NOTE = ('The slides call this "freeze"; their code normalises each image by its own statistics, which is our '
               "protocol as-coded-frozen. One pretraining seed; the sd is over folds that share the test "
               "images.")  # fmt: skip
SLIDES_ENCODERS = {"CNN": ("cnn", 256), "ResNet": ("resnet18", 1024)}
# model, loss, sigma, fine-tune ensemble top-1/2/4, fold mean and sd, then the same for freeze; all in per cent
SLIDES_TABLE = (
    ("CNN", "MSE", None, (48.96, 68.90, 87.55, 46.07, 0.85), (28.15, 44.90, 68.30, 27.38, 0.37)),
    ("CNN", "PSE", 3, (51.26, 70.72, 88.71, 48.69, 0.74), (34.05, 52.73, 76.67, 32.66, 0.63)),
    ("CNN", "PSE", 4, (51.43, 70.88, 88.82, 48.75, 0.70), (34.52, 52.67, 76.28, 33.12, 0.70)),
    ("CNN", "PSE", 5, (51.52, 71.47, 89.13, 48.80, 0.49), (34.16, 52.88, 76.68, 32.95, 0.33)),
    ("CNN", "PSE", 6, (50.73, 71.15, 88.76, 48.47, 0.40), (33.30, 51.62, 75.51, 32.10, 0.44)),
    ("ResNet", "MSE", None, (54.40, 72.66, 89.75, 53.53, 0.66), (37.07, 54.70, 77.57, 35.34, 1.03)),
    ("ResNet", "PSE", 3, (56.45, 74.53, 91.20, 55.09, 0.64), (39.38, 57.47, 79.48, 37.14, 1.36)),
)
README_TABLE = (("CNN", "MSE", 46.76), ("CNN", "PSE", 47.98), ("ResNet", "MSE", 50.80), ("ResNet", "PSE", 53.25))


def _slides_requirements(encoder: str, latent_dim: int, loss: str, protocol: str) -> dict[str, Any]:
    pretraining = {"images": "stl10", "split": "unlabeled", "pretraining images": 100_000, "image size": 96,
                   "width": 1.0, "latent": latent_dim, "loss": "mse" if loss == "MSE" else "pse-slides"}  # fmt: skip
    if encoder == "resnet18":
        pretraining["stem"] = "3x3"
    evaluation = {"protocol": protocol, "test set": "test split", "train images": 5_000, "test images": 8_000,
                  "folds": "kfold", "k": 5, "fold seed": 12345, "head": "slides"}  # fmt: skip
    optimisation = {"optimizer": "adam", "learning rate": 1e-4, "batch": 128, "schedule": "constant",
                    "warm-up epochs": 0, "weight decay": 0, "gradient clip": 1.0, "validation share": 0.15,
                    "augmentation": "small"}  # fmt: skip
    head = {"head learning rate": 1e-4, "head batch": 128, "head schedule": "plateau", "head gradient clip": 0.5,
            "head patience": 50, "head augmentation": "strong"}  # fmt: skip
    return pretraining | evaluation | optimisation | head


def _slides_rows() -> Iterator[PublishedFigure]:
    tables = (
        ("fine-tune", "as-coded-ft", ("fine-tune-as-coded-ft", "fine-tune-full"), FT_NOTE),
        ("freeze", "as-coded-frozen", ("fine-tune-as-coded-frozen", "fine-tune-frozen"), FROZEN_NOTE),
    )
    for model, loss, sigma, *values in SLIDES_TABLE:
        encoder, latent_dim = SLIDES_ENCODERS[model]
        method = f"{model}-{loss}" + (f"-{sigma}" if sigma else "")
        for (label, protocol, kinds, note), scores in zip(tables, values, strict=True):
            subject: dict[str, tuple[Any, ...]] = {"evaluation": kinds, "encoder": (encoder,),
                       "loss": ("mse",) if loss == "MSE" else ("pse", "pse-slides")}  # fmt: skip
            subject |= {"sigma": (sigma,)} if sigma else {}
            common: dict[str, Any] = dict(
                source=SLIDES, data="stl10", method=method, encoder=encoder, n_labels=5_000, note=note, subject=subject,
                protocol=f'"{label}", 5 folds',
                requires=_slides_requirements(encoder, latent_dim, loss, protocol),
            )  # fmt: skip
            row = f"slides/{label}/{method.lower()}"
            for metric, value in zip(METRICS, scores[:4], strict=True):
                sd = round(scores[4] / 100, 6) if metric == "fold_mean_top1" else None
                yield PublishedFigure(key=f"{row}/{metric}", metric=metric, sd=sd, value=round(value / 100, 6),
                                      **common)  # fmt: skip


def _readme_rows() -> Iterator[PublishedFigure]:
    for model, loss, value in README_TABLE:
        encoder, latent_dim = SLIDES_ENCODERS[model]
        yield PublishedFigure(
            key=f"readme/{model.lower()}-{loss.lower()}/ensemble_top1", source=SLIDES_README, data="stl10",
            method=f"{model}-{loss}", encoder=encoder, n_labels=5_000, metric="ensemble_top1", value=value / 100,
            protocol="older run, 5 folds", note="An older run than that of the slides; its sigma is not stated.",
            unknown="the README states neither sigma nor settings",
            requires=_slides_requirements(encoder, latent_dim, loss, "as-coded-ft"),
            subject={"evaluation": ("fine-tune-as-coded-ft",), "encoder": (encoder,),
                     "loss": ("mse",) if loss == "MSE" else ("pse", "pse-slides")},
        )  # fmt: skip


def _other(key: str, value: float, *, subject: dict[str, Any], requires: dict[str, Any],
           **words: Any) -> PublishedFigure:  # fmt: skip
    common: dict[str, Any] = {"data": "stl10", "source": SIMCLR_READMES, "metric": "fold_mean_top1", "n_labels": 5_000}
    return PublishedFigure(key=f"{key}/top1", value=value / 100, subject=subject,
                           requires={"images": "stl10", **requires}, **(common | words))  # fmt: skip


_LINEAR = {"evaluation": ("probe-linear",), "control": (None,)}
_ONE_MODEL = "linear, all 5,000 labels"
_SIMCLR = {"split": "unlabeled", "objective": "simclr"}
_UNSTATED = "the README does not state every setting"

OTHERS = (
    _other("simclr/resnet18-low", 74.5, method="SimCLR", encoder="resnet18", protocol=f"{_ONE_MODEL}; 100 epochs",
           subject=_LINEAR, requires=_SIMCLR | {"encoder": "resnet18"}, unknown=_UNSTATED),
    _other("simclr/resnet18-high", 76.5, method="SimCLR", encoder="resnet18", protocol=f"{_ONE_MODEL}; 100 epochs",
           subject=_LINEAR, requires=_SIMCLR | {"encoder": "resnet18"}, unknown=_UNSTATED),
    _other("simclr/resnet50", 82.9, method="SimCLR", encoder="resnet50", protocol=f"{_ONE_MODEL}; 100 epochs",
           subject=_LINEAR, requires=_SIMCLR | {"encoder": "resnet50"}, unknown=_UNSTATED,
           note="Another version of that README states 79.1."),
    _other("simclr/pixels", 35.8, method="no pretraining", encoder="pixels", protocol="logistic regression",
           subject={"evaluation": ("probe-linear",), "control": ("pixels",)}, requires={},
           unknown="the README does not state the pixels' size or preparation"),
    _other("peer/resnet50-scratch", 58.0, source=PEER_README, method="random initialisation", encoder="resnet50",
           protocol="fine-tuned from random weights", subject={"evaluation": ("fine-tune-scratch",)},
           requires={"encoder": "resnet50"}, unknown=_UNSTATED),
    _other("split-brain/conv3", 35.4, source=SPLIT_BRAIN, data="imagenet", method="split-brain (cl,cl), conv3",
           encoder="alexnet-fcn", protocol="linear classifier on conv3", n_labels=1_281_167,
           subject={"evaluation": ("probe-linear",), "objective": ("split-brain",)},
           requires={"images": "imagenet", "encoder": "alexnet-fcn", "layer": "conv3"}),
)  # fmt: skip

PUBLISHED: tuple[PublishedFigure, ...] = (*_slides_rows(), *_readme_rows(), *OTHERS)


def matching(result: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> list[tuple[PublishedFigure, bool, str]]:
    """The published figures that a result can stand beside, each with whether the protocol is the same and why not.

    Args:
        result: A result file's content.
        manifest: The manifest of the pretraining, None for controls without one.

    Returns:
        (figure, same_protocol, why). `why` is empty for the same protocol, else "ours: ..." with what differs; what
        our files do not state counts as different.
    """
    facts = protocol_facts(result, manifest)
    found = []
    for figure in PUBLISHED:
        if all(facts.get(name) in allowed for name, allowed in figure.subject.items()):
            why = _why_not(figure, facts)
            found.append((figure, not why, why))
    return found


def protocol_facts(result: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """What decides whether two numbers are comparable, under the names that `why` shows; None where not stated."""
    config, protocol = (manifest or {}).get("config") or {}, result["protocol"]
    objective, encoder = _merged("objective", config, result), _merged("encoder", config, result)
    controls = {"random": "random", "none": "pixels"}
    control = "scratch" if result["kind"] == "fine-tune-scratch" else controls.get(str(objective.get("name")))
    return {
        "evaluation": result["kind"], "control": control, "images": result["data"].get("name"),
        "split": config.get("split"), "pretraining images": _pretraining_images(manifest),
        "image size": encoder.get("image_size"), "objective": objective.get("name"), "encoder": encoder.get("name"),
        "width": encoder.get("width"), "latent": encoder.get("latent_dim"), "stem": encoder.get("stem"),
        "layer": encoder.get("layer"), "loss": objective.get("loss"), "sigma": objective.get("sigma"),
        "protocol": result["kind"].removeprefix("fine-tune-").removeprefix("probe-"), "test set": protocol.get("test"),
        "train images": result["data"].get("num_train"), "test images": result["data"].get("num_test"),
        "folds": protocol.get("name"), "k": protocol.get("k"), "fold seed": protocol.get("fold_seed"),
        "head": protocol.get("head"), "optimizer": config.get("optimizer"), "learning rate": config.get("lr"),
        "batch": config.get("batch_size"), "schedule": config.get("schedule"),
        "warm-up epochs": config.get("warmup_epochs"), "weight decay": config.get("weight_decay"),
        "gradient clip": config.get("grad_clip"), "validation share": config.get("val_fraction"),
        "augmentation": config.get("augment"), "head learning rate": protocol.get("lr"),
        "head batch": protocol.get("batch_size"), "head schedule": protocol.get("schedule"),
        "head gradient clip": protocol.get("grad_clip"), "head patience": protocol.get("patience"),
        "head augmentation": protocol.get("augment"),
        "epochs": config.get("epochs"),
    }  # fmt: skip


def _merged(name: str, config: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    pretrained = config.get(name)
    return (dict(pretrained) if isinstance(pretrained, Mapping) else {}) | dict(result[name])


def _pretraining_images(manifest: Mapping[str, Any] | None) -> int | None:
    """Images of the pretraining split, the validation share included."""
    config, summary = (manifest or {}).get("config") or {}, (manifest or {}).get("summary") or {}
    try:
        number: int = round(summary["num_images"] / (1 - config["val_fraction"]))
        return number
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def _why_not(figure: PublishedFigure, facts: Mapping[str, Any]) -> str:
    words = [_say(name, facts.get(name)) for name, wanted in figure.requires.items() if facts.get(name) != wanted]
    parts = []
    if words:
        # The published epochs are not on record, so they can't be required; a reader still wants to see ours.
        if facts.get("epochs") is not None:
            words.insert(min(len(words), SHOWN_DIFFERENCES - 1), f"{facts['epochs']} epochs")
        more = len(words) - SHOWN_DIFFERENCES
        parts.append("ours: " + ", ".join(words[:SHOWN_DIFFERENCES]) + (f" and {more} more" if more > 0 else ""))
    return "; ".join(parts + ([figure.unknown] if figure.unknown else []))


def _say(name: str, value: Any) -> str:
    if value is None:
        return f"{name} not stated"
    if name == "images":
        return f"{value} images"
    if name in ("pretraining images", "train images", "test images"):
        return f"{value:,} {name}" if isinstance(value, int) else f"{value} {name}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
