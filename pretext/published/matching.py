"""Which published figures a result can stand beside, and in what it was measured otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pretext.published import budhkar2019, golmakani, readmes, zhang2017
from pretext.published.figure import PublishedFigure

SHOWN_DIFFERENCES = 5
COUNTS = ("pretraining images", "train images", "test images", "classes")
PUBLISHED: tuple[PublishedFigure, ...] = (
    *golmakani.FIGURES, *readmes.FIGURES, *zhang2017.FIGURES, *budhkar2019.FIGURES,
)  # fmt: skip


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
    sizes = {None} | {row.get("labels_per_class") for row in result.get("labels_per_class") or []}
    found = []
    for figure in PUBLISHED:
        alike = all(facts.get(name) in allowed for name, allowed in figure.subject.items())
        if alike and figure.labels_per_class in sizes:
            why = _why_not(figure, facts)
            found.append((figure, not why, why))
    return found


def protocol_facts(result: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """What decides whether two numbers are comparable, under the names that `why` shows; None where not stated."""
    config, protocol = (manifest or {}).get("config") or {}, result["protocol"]
    objective, encoder = _merged("objective", config, result), _merged("encoder", config, result)
    controls = {"random": "random", "none": "pixels"}
    control = "scratch" if result["kind"] == "fine-tune-scratch" else controls.get(str(objective.get("name")))
    pretraining = {
        "pretraining data": _merged("data", config, {"data": {}}).get("name"), "split": config.get("split"),
        "pretraining images": _pretraining_images(manifest), "epochs": config.get("epochs"),
        "optimizer": config.get("optimizer"), "learning rate": config.get("lr"), "batch": config.get("batch_size"),
        "schedule": config.get("schedule"), "warm-up epochs": config.get("warmup_epochs"),
        "weight decay": config.get("weight_decay"), "gradient clip": config.get("grad_clip"),
        "validation share": config.get("val_fraction"), "augmentation": config.get("augment"),
    }  # fmt: skip
    task = {
        "objective": objective.get("name"), "loss": objective.get("loss"), "sigma": objective.get("sigma"),
        "colour space": objective.get("color_space"), "bins": _joined(objective.get("bins")),
        "target size": objective.get("target_size"), "target border": objective.get("border"),
        "rebalance": objective.get("rebalance"), "noise": objective.get("noise"),
        "noise level": objective.get("noise_level"),
    }  # fmt: skip
    network = {
        "control": control, "encoder": encoder.get("name"), "image size": encoder.get("image_size"),
        "width": encoder.get("width"), "latent": encoder.get("latent_dim"), "stem": encoder.get("stem"),
        "channels": _joined(encoder.get("channels")), "layer": encoder.get("layer"), "pool": encoder.get("pool"),
    }  # fmt: skip
    names = result["data"].get("class_names")
    evaluation = {
        "evaluation": result["kind"], "images": result["data"].get("name"), "classes": len(names) if names else None,
        "protocol": result["kind"].removeprefix("fine-tune-").removeprefix("probe-"), "test set": protocol.get("test"),
        "train images": result["data"].get("num_train"), "test images": result["data"].get("num_test"),
        "folds": protocol.get("name"), "k": protocol.get("k"), "fold seed": protocol.get("fold_seed"),
        "head": protocol.get("head"), "head learning rate": protocol.get("lr"),
        "head batch": protocol.get("batch_size"), "head schedule": protocol.get("schedule"),
        "head gradient clip": protocol.get("grad_clip"), "head patience": protocol.get("patience"),
        "head augmentation": protocol.get("augment"),
        "few-label draws": {True: "stratified", False: "unstratified"}.get(protocol.get("stratified")),
    }  # fmt: skip
    return pretraining | task | network | evaluation


def _joined(values: Any) -> str | None:
    """A list as one word, such as L|ab."""
    return "|".join(map(str, values)) if isinstance(values, (list, tuple)) else None


def _merged(name: str, config: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    pretrained = config.get(name)
    return (dict(pretrained) if isinstance(pretrained, Mapping) else {}) | dict(result[name])


def _pretraining_images(manifest: Mapping[str, Any] | None) -> int | None:
    """Images of the pretraining split, the validation share included."""
    number = ((manifest or {}).get("summary") or {}).get("num_images")
    return number if isinstance(number, int) else None


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
    if name in COUNTS:
        return f"{value:,} {name}" if isinstance(value, int) else f"{value} {name}"
    if name == "few-label draws":
        return f"{value} {name}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
