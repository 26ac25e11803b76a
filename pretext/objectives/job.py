"""What a pretraining means: which images, targets, network and loss its options name, and how all that is recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pretext.artifacts.atomic import file_sha256
from pretext.artifacts.checkpoint import check_keys, read_tensors
from pretext.artifacts.layout import MANIFEST, RunLayout, find_data, find_run
from pretext.artifacts.manifest import UNREAD, Parent
from pretext.artifacts.shards import DataSet, open_data
from pretext.artifacts.verify import check_recorded
from pretext.catalog import NETWORK_LOSSES, NETWORKS
from pretext.config import identity, plain
from pretext.datasets.download import show_download
from pretext.errors import ArtifactError, ConfigError
from pretext.objectives.base import Objective, Setting
from pretext.objectives.color_task import ColorTask, find_color_task, network_shape
from pretext.objectives.feature_task import FeatureTask, find_feature_task
from pretext.perceptual.losses import LPIPSLoss, NetworkLoss, NoReferenceLoss
from pretext.perceptual.networks import check_given
from pretext.perceptual.weights import unless_absent
from pretext.progress import Progress
from pretext.registry import Variant
from pretext.stage_configs import PretrainConfig
from pretext.training.device import Compute, resolve_compute
from pretext.training.pool import ImagePool
from pretext.training.seeds import derive_seed, make_generator
from pretext.training.views import rows_for
from pretext.variants import Parts, default_run_name

WEIGHTS = ("loss_network", "channel_weights", "quality")  # options of a loss that name weights
# Options of an objective's row that are made something of here, instead of being handed on.
READ_HERE = ("loss", "encoder", "augment", "color_space", "target_size", "features", "layer")


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained on what; `lacks_weights` if the loss reads published weights that are not here yet."""

    config: PretrainConfig
    parts: Parts
    data: DataSet
    split: str
    loss: nn.Module | None
    color: ColorTask | None
    features: FeatureTask | None
    compute: Compute
    layout: RunLayout
    lacks_weights: bool = False

    def option(self, name: str) -> Any:
        """An option of the objective's row, None where it has no such option."""
        return self.parts["objective"][1].get(name)

    @property
    def trains(self) -> bool:
        return self.parts["objective"][0].trains


def find_job(config: PretrainConfig, parts: Parts, progress: Progress, explicit: Collection[str]) -> Job:
    """Open what the options name. Nothing is downloaded: `complete` does that, when there is work to do."""
    data = open_data(find_data(config.data_dir, config.data))
    split = _split_name(config, data)
    row, options = parts["objective"]
    color = None
    if "color_space" in options and (row.trains or options["color_space"]):
        color = find_color_task(data, split, options["color_space"], options.get("target_size"))
        options |= {"color_space": color.quantizer.name, "target_size": color.size}
    features = _features(parts, data, split)
    if "loss" in parts and parts["loss"][0].name in NETWORK_LOSSES:
        check_given(parts["loss"][1]["loss_network"], explicit)
    layout = RunLayout(config.out or config.runs_dir / default_run_name(data.name, parts, config.seed))
    compute = resolve_compute(config.device, config.precision)
    job = Job(config, parts, data, split, None, color, features, compute, layout)
    if "loss" not in parts:
        return job
    loss = unless_absent(partial(_build_loss, config, data, *parts["loss"], progress))
    return replace(job, lacks_weights=True) if loss is None else _with_loss(job, loss)


def complete(job: Job, progress: Progress) -> Job:
    """The job with its loss; published weights that it lacks are downloaded now.

    Raises:
        DataError: If they can't be, or `--offline` forbids it.
    """
    if not job.lacks_weights:
        return job
    loss = _build_loss(job.config, job.data, *job.parts["loss"], progress, job.config.offline)
    return replace(_with_loss(job, loss), lacks_weights=False)


def _with_loss(job: Job, loss: nn.Module) -> Job:
    if job.features is not None and isinstance(loss, NetworkLoss):
        job.features.check_network(loss.network, job.data.image_size)
    return replace(job, loss=loss)


def _build_loss(config: PretrainConfig, data: DataSet, row: Variant, options: dict[str, Any], progress: Progress,
                offline: bool) -> nn.Module:  # fmt: skip
    own = {name: value for name, value in options.items() if name not in READ_HERE or name == "layer"}
    try:
        if row.name not in NETWORK_LOSSES:
            loss: nn.Module = row.load()(**row.fixed, **own)
            return loss
        with show_download(progress) as tell:
            if config.dry_run:  # which downloads nothing
                own |= _without_files(own)
            loss = row.load()(**row.fixed, **own, weights_dir=config.weights_dir, offline=offline,
                              seed=config.seed, progress=tell)  # fmt: skip
        with torch.no_grad():  # images too small for the network are found before anything is written
            blank_BCHW = torch.zeros(1, 3, data.image_size, data.image_size)
            loss(blank_BCHW, blank_BCHW)
    except ValueError as error:
        raise ConfigError(f"--loss {row.name} and these options do not fit: {error}") from error
    return loss


def _without_files(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a loss that costs the same and needs no published weights."""
    random = {"loss_network_weights": "random"} if options["loss_network"] in NETWORKS else {}
    return random | ({"channel_weights": "unit"} if options.get("channel_weights") == "published" else {})


def _features(parts: Parts, data: DataSet, split: str) -> FeatureTask | None:
    """The features that were extracted of the images, where they are what is predicted or compared with."""
    options = {name: value for _, own in parts.values() for name, value in own.items()}
    if parts["objective"][0].name == "predict-features" and options["features"] is None:
        raise ConfigError("--objective predict-features needs --features, a run of extract-features",
                          hint="pretext extract-features --network vgg16 --layer 4 makes one")  # fmt: skip
    if options.get("features") is None:
        return None
    if options["augment"] != "none":
        raise ConfigError(f"--features are of the images as they are: --augment must be none, got {options['augment']}")
    if len(options["layer"]) != 1:
        raise ConfigError(f"--features are of one layer; --layer names {', '.join(options['layer'])}")
    return find_feature_task(options["features"], options["layer"][0], data, split)


def _split_name(config: PretrainConfig, data: DataSet) -> str:
    if config.split != "auto":
        return config.split
    return "unlabeled" if data.num_images.get("unlabeled") else "train"


def request_of(job: Job) -> dict[str, Any]:
    """What decides the output: options that rows decide are filled in, the data set is known by its fingerprint."""
    request = {
        name: value for name, value in identity(job.config).items() if name not in ("data", "init_from", "features")
    }
    for _, options in job.parts.values():
        request |= {name: plain(_told_one(name, value)) for name, value in options.items() if name != "features"}
    chosen = {option: row.name for option, (row, _) in job.parts.items()}
    return request | {"split": job.split, "loss": chosen.get("loss"), "encoder": chosen["encoder"]}


def parents_of(job: Job) -> list[Parent]:
    parents = [Parent("data", str(job.data.layout.folder), job.data.fingerprint)]
    if job.color is not None:
        parents.append(Parent("targets", job.color.stem, job.color.fingerprint))
    if job.config.init_from is not None:
        file = _init_file(job.config.init_from)
        check_recorded(file, file.with_name(MANIFEST))
        parents.append(Parent("init", str(file), file_sha256(file)))
    if job.features is not None:
        facts = job.features.facts
        parents.append(Parent("features", facts["features_file"], facts["features_fingerprint"]))
    return parents + _loss_parents(job)


def _loss_parents(job: Job) -> list[Parent]:
    """The weights that the loss reads, as far as they are here."""
    options, facts = job.parts.get("loss", (None, {}))[1], _loss_facts(job.loss)
    if job.lacks_weights:
        read = [kind for kind in WEIGHTS if options.get(kind) not in (None, "unit")]
        return [Parent(kind, str(options[kind]), UNREAD) for kind in read]
    return [Parent(kind, str(options[kind]), facts[f"{kind}_fingerprint"]) for kind in WEIGHTS
            if f"{kind}_fingerprint" in facts]  # fmt: skip


def _loss_facts(loss: nn.Module | None) -> dict[str, Any]:
    """What a record must know of the weights that a loss reads."""
    if not isinstance(loss, (NetworkLoss, NoReferenceLoss)):
        return {}
    network = loss.network.facts
    facts = {"loss_network_weights": network["weights"], "normalize": network["normalize"],
             "loss_network_fingerprint": network["fingerprint"], "loss_network_saw": network["saw"]}  # fmt: skip
    compared = loss.anchor if isinstance(loss, NoReferenceLoss) else loss
    if isinstance(compared, LPIPSLoss) and compared.weights:
        content = b"".join(weight_C.cpu().numpy().tobytes() for weight_C in compared.weights)
        facts["channel_weights_fingerprint"] = "sha256:" + hashlib.sha256(content).hexdigest()
    if isinstance(loss, NoReferenceLoss):
        facts["quality_fingerprint"] = loss.quality_fingerprint
    return facts


def _init_file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" and path.is_file() else find_run(path).checkpoint


def describe(job: Job) -> dict[str, Any]:
    """The resolved config, with no `auto` left."""
    row, options = job.parts["objective"]
    own = {name: value for name, value in options.items() if name not in ("loss", "encoder", "augment")}
    objective = {"name": row.name, **_told(own)}
    if job.features is not None:
        objective |= job.features.told()
    if job.color is not None:
        objective |= {"bins": list(job.color.quantizer.num_bins), "border": job.color.border}
    if "loss" in job.parts:
        objective |= _describe_loss(job)
    encoder = {"name": job.parts["encoder"][0].name, "image_size": job.data.image_size, **_network_options(job)}
    idle = {"gamma"} if job.config.schedule != "step" else set()
    flat = {name: value for name, value in identity(job.config).items()
            if value is not None and name not in {"loss", "encoder", *encoder, *objective, *idle}}  # fmt: skip
    return flat | ({"augment": job.option("augment")} if job.trains else {}) | {
        "data": {"name": job.data.name, "fingerprint": job.data.fingerprint}, "split": job.split,
        "objective": objective, "encoder": encoder, "device": job.compute.device.type, "precision": job.compute.precision,
    }  # fmt: skip


def _describe_loss(job: Job) -> dict[str, Any]:
    row, options = job.parts["loss"]
    facts = {"loss": row.name, **row.fixed, **options} | ({} if job.config.dry_run else _loss_facts(job.loss))
    if facts.get("pixel_loss") is None:
        facts.pop("pixel_weight", None)
    return _told(facts)


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """Options as a record tells them: only those that are set, each one number or text."""
    values = {name: _told_one(name, value) for name, value in options.items() if value is not None}
    return {name: ",".join(map(str, value)) if isinstance(value, tuple) else plain(value)
            for name, value in values.items()}  # fmt: skip


def _told_one(name: str, value: Any) -> Any:
    """A run without its place, since its content is among the parents."""
    return Path(value).name if value is not None and name in ("loss_network", "channel_weights", "features") else value


def _network_options(job: Job) -> dict[str, Any]:
    """What the encoder is built with; for colours also which channels its parts see and what they say."""
    options = job.parts["encoder"][1]
    if job.color is None:
        return options
    wiring = job.parts["objective"][0].fixed.get("wiring", "split-brain")
    loss = job.parts["loss"][0].name if "loss" in job.parts else "cross-entropy"
    return options | network_shape(wiring, job.color, loss)


def build(job: Job) -> Objective:
    """The objective's module on its device, its weights decided by the seed or read from another run."""
    torch.manual_seed(derive_seed(job.config.seed, "weights"))
    row, data, options = job.parts["objective"][0], job.data, _network_options(job)
    own = {name: job.option(name) for name in row.reads if name not in READ_HERE}
    try:
        encoder = job.parts["encoder"][0].load()(image_size=data.image_size, **options)
        setting = Setting(encoder, job.loss, options.get("width", 1.0), job.color, job.features)
        module: Objective = row.load()(setting, **row.fixed, **own)
    except ValueError as error:
        raise ConfigError(
            f"data set {data.name} ({data.image_size} px) and these options do not fit: {error}"
        ) from error
    if job.config.init_from is not None:
        file = _init_file(job.config.init_from)
        tensors = read_tensors(file, "encoder.")
        check_keys(file, module.encoder.state_dict(), tensors)
        module.encoder.load_state_dict(tensors)
    return module.to(job.compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def open_pools(job: Job, module: Objective) -> tuple[ImagePool, ImagePool | None]:
    """Training and validation images: a random part, decided by the seed, is kept back."""
    images, space = rows_for(job.data, job.split, module.encoder.input_space, colour_changes=False)
    if space != module.encoder.input_space:
        raise ArtifactError(f"data set {job.data.name} has no Lab images of split {job.split}",
                            hint="pretext prepare-data ... --color-space lab adds them")  # fmt: skip
    targets = job.data.targets(job.split, job.color.stem) if job.color is not None and job.trains else None
    if job.features is not None:
        targets = job.features.rows
    order_N = torch.randperm(len(images), generator=make_generator(job.config.seed, "validation")).numpy()
    num_val = round(len(images) * job.config.val_fraction)
    train_N, val_N = np.sort(order_N[num_val:]), np.sort(order_N[:num_val])
    if len(train_N) < 2:
        raise ConfigError(
            f"--val-fraction {job.config.val_fraction:g} leaves {len(train_N)} of {len(images)} images to train on"
        )
    val = ImagePool(images, val_N, device=job.compute.device, targets=targets) if num_val else None
    return ImagePool(images, train_N, device=job.compute.device, targets=targets), val
