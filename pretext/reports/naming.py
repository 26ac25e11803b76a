"""What makes two runs the same method and two results the same evaluation, and what people call them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pretext.artifacts.atomic import content_sha256
from pretext.reports.gather import SCRATCH_KIND, Result, Run, look
from pretext.stage_configs import PretrainConfig

TRAINED, RANDOM, PIXELS, SCRATCH = "trained", "random", "pixels", "scratch"
# Neither where nor on what a run was made, nor how often it wrote, changes what it is.
NOT_METHOD = {"seed", "log_every", "data"} | {
    option.name for option in dataclasses.fields(PretrainConfig) if not option.metadata["identity"]
}  # fmt: skip
# Of the protocol: what differs between repeats of one evaluation, or belongs to the few-label curve beside it.
NOT_EVALUATION = {"seed", "device", "precision", "labels_per_class", "draws", "unstratified"}
ENCODER_FACTS = ("parameters", "num_features")
EVALUATION_NAMES = {
    "probe-linear": "Linear probe", "probe-knn": "Nearest neighbours", "probe-mlp": "MLP probe",
    "fine-tune-full": "Fine-tuned", "fine-tune-frozen": "Frozen encoder, trained head",
    "fine-tune-scratch": "Supervised from scratch", "fine-tune-as-coded-ft": 'Slides\' "fine-tune" (weights fixed)',
    "fine-tune-as-coded-frozen": 'Slides\' "freeze" (per-image statistics)',
}  # fmt: skip
FULL_KIND = "fine-tune-full"


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What a method is: its sort, a short name, and every option that could tell it from another."""

    sort: str
    base: str
    options: Mapping[str, Any]

    @property
    def key(self) -> str:
        return content_sha256([self.sort, self.base, dict(self.options)])


def run_identity(run: Run) -> Identity | None:
    """The method a run is one seed of; None for a run that has neither pretraining nor a result."""
    if run.manifest is None:
        first = next((result for result in run.results if result.kind != SCRATCH_KIND), None)
        if first is None:
            return None
        options = flatten(without(first.content["encoder"], ENCODER_FACTS), "encoder")
        name = first.content["encoder"]["name"]
        return Identity(PIXELS, "pixels" if name == "pixels" else _base(first.content), options)
    config = run.manifest.get("config", {})
    parts = {"encoder": _part(config, "encoder"), "objective": _part(config, "objective")}
    extraction = {f"features.{name}": value for name in ("layer", "pool")
                  if (value := look(run.features, "config", name)) is not None}  # fmt: skip
    encoder = flatten(without(parts["encoder"], ENCODER_FACTS), "encoder")
    if parts["objective"].get("name") == "random":
        return Identity(RANDOM, _base(parts), encoder | extraction)
    own = {name: value for name, value in config.items() if name not in NOT_METHOD | parts.keys()}
    data = {"pretrained on": look(run.manifest, "summary", "data", "name", default=str(config.get("data"))),
            "data fingerprint": look(run.manifest, "summary", "data", "fingerprint")}  # fmt: skip
    options = data | encoder | flatten(parts["objective"], "") | flatten(own, "") | extraction
    return Identity(TRAINED, _base(parts), options)


def scratch_identity(result: Result) -> Identity:
    """The supervised control: the same for whichever run it was started from, as long as the network is the same."""
    encoder = without(result.content["encoder"], (*ENCODER_FACTS, "layer", "pool"))
    return Identity(SCRATCH, f"{encoder['name']}-scratch", flatten(encoder, "encoder"))


def evaluation_options(result: Result) -> dict[str, Any]:
    """The options of a result's protocol that must agree for two results to be compared."""
    return flatten(without(result.content["protocol"], NOT_EVALUATION), "")


def images_key(result: Result) -> str:
    """Names the data and exactly these test images with these classes, in any order."""
    rows = sorted(zip(result.ids, result.label_N.tolist(), strict=True))
    data = result.content["data"]
    return content_sha256([data.get("fingerprint"), data["name"], rows])


def label_all(bases: Sequence[str], options: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short names, made different by the options in which those of one name differ.

    Args:
        bases: A short name for each thing; may repeat.
        options: All options of each thing.
    """
    labels = []
    for base, own in zip(bases, options, strict=True):
        alike = [other for name, other in zip(bases, options, strict=True) if name == base]
        differing = [name for name in own if any(other.get(name) != own[name] for other in alike)]
        readable = [name for name in differing if "fingerprint" not in name] or differing
        extra = [f"{name.rpartition('.')[2].replace('_', ' ')} {_short(own[name])}" for name in readable]
        labels.append(", ".join([base, *extra]))
    seen: dict[str, int] = {}
    for index, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] > 1:
            labels[index] = f"{label} ({seen[label]})"
    return labels


def evaluation_base(kind: str, data: str, several_data: bool) -> str:
    """What people call an evaluation; names the data where there are several."""
    return EVALUATION_NAMES.get(kind, kind) + (f" on {data}" if several_data else "")


def flatten(content: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested options as one level with dotted names; lists become text."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        dotted = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            flat |= flatten(value, dotted)
        else:
            flat[dotted] = json.dumps(value) if isinstance(value, list) else value
    return flat


def without(content: Mapping[str, Any], names: Sequence[str] | set[str]) -> dict[str, Any]:
    """A copy that lacks these names."""
    return {name: value for name, value in content.items() if name not in names}


def _part(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    return dict(value) if isinstance(value, Mapping) else {"name": value}


def _base(parts: Mapping[str, Any]) -> str:
    """Encoder and what it was trained for, as run folders are named: cnn-pse4."""
    encoder, objective = parts["encoder"].get("name"), parts["objective"]
    words = [] if objective.get("name") in ("autoencode", None) else [str(objective["name"])]
    if objective.get("loss") is not None:
        sigma = objective.get("sigma")
        words.append(f"{objective['loss']}{_short(sigma) if sigma is not None else ''}")
    return "-".join([str(encoder), *words])


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
