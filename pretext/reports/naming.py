"""What makes two runs the same method and two results the same evaluation, and what people call them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pretext.artifacts.atomic import content_sha256
from pretext.artifacts.layout import LATENT
from pretext.reports.gather import SCRATCH_KIND, Result, Run, look
from pretext.stage_configs import PretrainConfig

TRAINED, RANDOM, PIXELS, SCRATCH, PUBLISHED = "trained", "random", "pixels", "scratch", "published"
# Neither where nor on what a run was made, nor how often it wrote, changes what it is.
NOT_METHOD = {"seed", "log_every", "data"} | {
    option.name for option in dataclasses.fields(PretrainConfig) if not option.metadata["identity"]
}  # fmt: skip
# Of the protocol: what differs between repeats of one evaluation, or belongs to the few-label curve beside it.
NOT_EVALUATION = {"seed", "device", "precision", "labels_per_class", "draws", "unstratified", "stratified"}
ENCODER_FACTS = ("parameters", "num_features")
RANDOM_WEIGHTS = "random"
EXTRACTION = ("layer", "pool", "max_features")  # of a result's encoder: what was read of it
# What a network computes first and last; its convolutions and stages lie between, by their numbers.
LAYER_ENDS = {"stem": -1, "pooled": 1, LATENT: 2, "logits": 3}
EVALUATION_NAMES = {
    "probe-linear": "Linear probe", "probe-knn": "Nearest neighbours", "probe-mlp": "MLP probe",
    "probe-mlp-seven": "Best of seven MLP probes",
    "fine-tune-full": "Fine-tuned", "fine-tune-frozen": "Frozen encoder, trained head",
    "fine-tune-scratch": "Supervised from scratch", "fine-tune-as-coded-ft": 'Slides\' "fine-tune" (weights fixed)',
    "fine-tune-as-coded-frozen": 'Slides\' "freeze" (per-image statistics)',
    "fine-tune-student": "Student project's fine-tuning (from the logits)",
    "fine-tune-student-dae": "Student project's fine-tuning (from the code)",
}  # fmt: skip
FULL_KIND = "fine-tune-full"
USUAL_LOSS = "cross-entropy"  # of bins; others are named


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
        return (
            Identity(PIXELS, "pixels", options)
            if name == PIXELS
            else Identity(PUBLISHED, _base(first.content), options)
        )
    config = run.manifest.get("config", {})
    parts = {"encoder": _part(config, "encoder"), "objective": _part(config, "objective")}
    if parts["objective"].get("loss_network_weights") == RANDOM_WEIGHTS:
        # they are drawn anew for each seed, so they are as little of the method as the seed is
        parts["objective"].pop("loss_network_fingerprint", None)
    parts["objective"].pop("features", None)  # the name of a folder; whose features they are is told beside it
    encoder = flatten(without(parts["encoder"], ENCODER_FACTS), "encoder")
    if parts["objective"].get("name") == "random":
        return Identity(RANDOM, _base(parts), encoder)
    own = {name: value for name, value in config.items() if name not in NOT_METHOD | parts.keys()}
    data = {"pretrained on": look(run.manifest, "summary", "data", "name", default=str(config.get("data"))),
            "data fingerprint": look(run.manifest, "summary", "data", "fingerprint")}  # fmt: skip
    options = data | encoder | flatten(parts["objective"], "") | flatten(own, "")
    return Identity(TRAINED, _base(parts), options)


def scratch_identity(result: Result) -> Identity:
    """The supervised control: the same for whichever run it was started from, as long as the network is the same."""
    encoder = without(result.content["encoder"], (*ENCODER_FACTS, *EXTRACTION))
    return Identity(SCRATCH, f"{encoder['name']}-scratch", flatten(encoder, "encoder"))


def evaluation_options(result: Result) -> dict[str, Any]:
    """The options of a result's protocol that must agree for two results to be compared."""
    return flatten(without(result.content["protocol"], NOT_EVALUATION), "")


def layer_of(result: Result) -> str:
    """The layer that a probe read; empty for what reads no layer: fine-tuning, and a probe of raw pixels."""
    layer = result.content["encoder"].get("layer")
    return "" if not result.kind.startswith("probe-") or layer in (None, PIXELS) else str(layer)


def pool_of(result: Result) -> dict[str, Any]:
    """What became of the map that a probe read; nothing for the output vector, which is no map."""
    encoder = result.content["encoder"]
    return {name: encoder[name] for name in EXTRACTION[1:] if layer_of(result) not in ("", LATENT) and name in encoder}


def layer_rank(layer: str) -> tuple[int, list[tuple[float, str]]]:
    """A sort key that follows an image through the network: conv2 before conv10, the output vector behind both."""
    return LAYER_ENDS.get(layer, 0), natural(layer)


def natural(text: str) -> list[tuple[float, str]]:
    """A sort key that puts pse10 behind pse4, and lr 0.001 behind lr 0.0001."""
    return [(float(part), "") if number else (0.0, part) for part, number in
            ((match[0], match[1]) for match in re.finditer(r"(\d+(?:\.\d+)?)|\D+", text))]  # fmt: skip


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
        extra = [f"{name.rpartition('.')[2].replace('_', ' ')} {short(own[name])}" for name in readable]
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
    """Encoder and what it was trained for: cnn-pse4, simplenet5-split-brain-lab, conv4-denoise-salt-pepper0.05-bce."""
    encoder, objective = parts["encoder"].get("name"), parts["objective"]
    words = [] if objective.get("name") in ("autoencode", None) else [str(objective["name"])]
    if objective.get("name") == RANDOM:
        return f"{encoder}-{RANDOM}"  # its colour space only shapes the network, which its options tell
    for name, own in (("color_space", ""), ("noise", "noise_level"), ("loss", "sigma")):
        value, amount = objective.get(name), objective.get(own)
        if value is not None and value != USUAL_LOSS:
            words.append(f"{value}{short(amount) if amount is not None else ''}")
    known = objective.get("features_of") or {}  # of features that are predicted, or that a loss compares with
    if network := objective.get("loss_network") or known.get("network") or known.get("name"):
        words += [PurePath(str(network)).name, *([_layers(objective["layer"])] if objective.get("layer") else [])]
        words += (
            [RANDOM_WEIGHTS] if RANDOM_WEIGHTS in (objective.get("loss_network_weights"), known.get("weights")) else []
        )
    words += [f"with-{objective['pixel_loss']}"] if objective.get("pixel_loss") else []
    return "-".join([str(encoder), *words])


def _layers(value: Any) -> str:
    """Layers as one word: 2, or 1+2; of more than three how many there are."""
    names = value if isinstance(value, list) else str(value).split(",")
    return "+".join(names) if len(names) <= 3 else f"{len(names)}-layers"


def short(value: Any) -> str:
    """A value in a name; a list, which is text by now, as L|ab."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        return "|".join(part.strip(' "') for part in value[1:-1].split(","))
    return f"{value:g}" if isinstance(value, float) else str(value)
