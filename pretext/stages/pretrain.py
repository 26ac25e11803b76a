"""`pretrain`: an encoder learns a pretext task on unlabelled images."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pretext import __version__
from pretext.artifacts.atomic import atomic_path, file_sha256
from pretext.artifacts.checkpoint import check_keys, read_tensors, write_tensors
from pretext.artifacts.layout import RunLayout, find_data, find_run
from pretext.artifacts.manifest import Parent, Record
from pretext.artifacts.metrics import write_metrics
from pretext.artifacts.shards import DataSet, open_data
from pretext.config import identity
from pretext.errors import ArtifactError, ConfigError
from pretext.objectives.base import Objective, PretextLearner, Setting, plain_view
from pretext.objectives.color_task import ColorTask, find_color_task, network_shape
from pretext.progress import Progress, Silent
from pretext.registry import Variant
from pretext.stage_configs import PretrainConfig
from pretext.training.device import Compute, resolve_compute
from pretext.training.loop import FitResult, LoopConfig, fit
from pretext.training.pool import ImagePool, chunk_indices
from pretext.training.seeds import derive_seed, make_generator
from pretext.training.state import clear_state, copy_state
from pretext.training.views import rows_for
from pretext.variants import Parts, choose_pretraining, default_run_name

PICTURED = 8  # images in the picture of the run
# Options of an objective's row that this stage makes something of, instead of handing them on.
STAGE_READS = ("loss", "encoder", "augment", "color_space", "target_size")


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained on what."""

    config: PretrainConfig
    parts: Parts
    data: DataSet
    split: str
    color: ColorTask | None
    compute: Compute
    layout: RunLayout

    def option(self, name: str) -> Any:
        """An option of the objective's row, None where it has no such option."""
        return self.parts["objective"][1].get(name)

    @property
    def trains(self) -> bool:
        return self.parts["objective"][0].trains


def run(config: PretrainConfig, *, explicit: Collection[str] = (), progress: Progress | None = None) -> dict[str, Any]:
    """Pretrain one encoder; see `PretrainConfig` for the options.

    Args:
        config: The options.
        explicit: Which of them the user gave; one that the chosen variants do not read is then an error.
        progress: Where progress goes.

    Returns:
        The run's folder, status, and facts for the terminal.

    Raises:
        PretextError: For anything wrong with the options, the data, the device or the disk.
    """
    progress = progress or Silent()
    job = _job(config, choose_pretraining(config, explicit))
    layout = job.layout
    record = Record(layout.manifest, "pretrain", _request(job), _parents(job))
    if config.dry_run:
        return _dry_run(job)
    if record.is_done(overwrite=config.overwrite, stale=[layout.resume]):
        if layout.resume.exists():
            clear_state(layout.resume)  # killed after it was done, before it had tidied up
        return _outcome(layout, record.content, "already done")

    module = _build(job)
    train, val = _pools(job, module)
    record.begin(_describe(job), seed=config.seed, device=job.compute.name)
    result = _train(job, module, train, val, record, progress)
    outputs = _write(job, module, result, val or train)
    content = record.finish(outputs, summary=_summary(job, module, result, train, val))
    clear_state(layout.resume)
    return _outcome(layout, content, "done")


def _job(config: PretrainConfig, parts: Parts) -> Job:
    data = open_data(find_data(config.data_dir, config.data))
    split = _split_name(config, data)
    row, options = parts["objective"]
    color = None
    if "color_space" in options and (row.trains or options["color_space"]):
        color = find_color_task(data, split, options["color_space"], options.get("target_size"))
        options |= {"color_space": color.quantizer.name, "target_size": color.size}
    layout = RunLayout(config.out or config.runs_dir / default_run_name(data.name, parts, config.seed))
    return Job(config, parts, data, split, color, resolve_compute(config.device, config.precision), layout)


def _split_name(config: PretrainConfig, data: DataSet) -> str:
    if config.split != "auto":
        return config.split
    return "unlabeled" if data.num_images.get("unlabeled") else "train"


def _request(job: Job) -> dict[str, Any]:
    """What decides the output: options that rows decide are filled in, the data set is known by its fingerprint."""
    request = {name: value for name, value in identity(job.config).items() if name not in ("data", "init_from")}
    for _, options in job.parts.values():
        request |= options
    chosen = {option: row.name for option, (row, _) in job.parts.items()}
    return request | {"split": job.split, "loss": chosen.get("loss"), "encoder": chosen["encoder"]}


def _parents(job: Job) -> list[Parent]:
    parents = [Parent("data", str(job.data.layout.folder), job.data.fingerprint)]
    if job.color is not None:
        parents.append(Parent("targets", job.color.stem, job.color.fingerprint))
    if job.config.init_from is not None:
        file = _init_file(job.config.init_from)
        parents.append(Parent("init", str(file), file_sha256(file)))
    return parents


def _init_file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" and path.is_file() else find_run(path).checkpoint


def _describe(job: Job) -> dict[str, Any]:
    """The resolved config, with no `auto` left."""
    row, options = job.parts["objective"]
    objective = {"name": row.name} | {name: value for name, value in options.items()
                                      if name not in ("loss", "encoder", "augment") and value is not None}  # fmt: skip
    if job.color is not None:
        objective |= {"bins": list(job.color.quantizer.num_bins), "border": job.color.border}
    if "loss" in job.parts:
        loss, loss_options = job.parts["loss"]
        objective |= {"loss": loss.name, **loss.fixed, **loss_options}
    encoder = {"name": job.parts["encoder"][0].name, "image_size": job.data.image_size, **_network_options(job)}
    idle = {"gamma"} if job.config.schedule != "step" else set()
    flat = {name: value for name, value in identity(job.config).items()
            if value is not None and name not in {"loss", "encoder", *encoder, *objective, *idle}}  # fmt: skip
    return flat | ({"augment": job.option("augment")} if job.trains else {}) | {
        "data": {"name": job.data.name, "fingerprint": job.data.fingerprint}, "split": job.split,
        "objective": objective, "encoder": encoder, "device": job.compute.device.type, "precision": job.compute.precision,
    }  # fmt: skip


def _network_options(job: Job) -> dict[str, Any]:
    """What the encoder is built with; for colours also which channels its parts see and what they say."""
    options = job.parts["encoder"][1]
    if job.color is None:
        return options
    wiring = job.parts["objective"][0].fixed.get("wiring", "split-brain")
    loss = job.parts["loss"][0].name if "loss" in job.parts else "cross-entropy"
    return options | network_shape(wiring, job.color, loss)


def _build(job: Job) -> Objective:
    """The objective's module on its device, its weights decided by the seed or read from another run."""
    torch.manual_seed(derive_seed(job.config.seed, "weights"))
    row, data, options = job.parts["objective"][0], job.data, _network_options(job)
    own = {name: job.option(name) for name in row.reads if name not in STAGE_READS}
    try:
        encoder = job.parts["encoder"][0].load()(image_size=data.image_size, **options)
        loss = _build_loss(*job.parts["loss"]) if "loss" in job.parts else None
        setting = Setting(encoder, loss, options.get("width", 1.0), job.color)
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


def _build_loss(row: Variant, options: dict[str, Any]) -> nn.Module:
    return row.load()(**row.fixed, **options)


def _pools(job: Job, module: Objective) -> tuple[ImagePool, ImagePool | None]:
    """Training and validation images: a random part, decided by the seed, is kept back."""
    images, space = rows_for(job.data, job.split, module.encoder.input_space, colour_changes=False)
    if space != module.encoder.input_space:
        raise ArtifactError(f"data set {job.data.name} has no Lab images of split {job.split}",
                            hint="pretext prepare-data ... --color-space lab adds them")  # fmt: skip
    targets = job.data.targets(job.split, job.color.stem) if job.color is not None and job.trains else None
    order_N = torch.randperm(len(images), generator=make_generator(job.config.seed, "validation")).numpy()
    num_val = round(len(images) * job.config.val_fraction)
    train_N, val_N = np.sort(order_N[num_val:]), np.sort(order_N[:num_val])
    if len(train_N) < 2:
        raise ConfigError(
            f"--val-fraction {job.config.val_fraction:g} leaves {len(train_N)} of {len(images)} images to train on"
        )
    val = ImagePool(images, val_N, device=job.compute.device, targets=targets) if num_val else None
    return ImagePool(images, train_N, device=job.compute.device, targets=targets), val


def _loop_config(config: PretrainConfig) -> LoopConfig:
    return LoopConfig(
        epochs=config.epochs, batch_size=config.batch_size, accumulate=config.accumulate, optimizer=config.optimizer,
        lr=config.lr, weight_decay=config.weight_decay, schedule=config.schedule, warmup_epochs=config.warmup_epochs,
        grad_clip=config.grad_clip, patience=config.patience, seed=config.seed, save_every=config.save_every,
        log_every=config.log_every, gamma=config.gamma,
    )  # fmt: skip


def _train(job: Job, module: Objective, train: ImagePool, val: ImagePool | None, record: Record,
           progress: Progress) -> FitResult | None:  # fmt: skip
    if not job.trains:
        return None
    config = job.config
    steps = config.epochs * (len(train) // min(config.batch_size, len(train)))
    with progress.task(job.layout.folder.name, steps, "steps") as task:
        return fit(PretextLearner(module, job.option("augment")), train, val, _loop_config(config), job.compute,
                   folder=job.layout.resume, task=task, on_save=lambda: record.note({}))  # fmt: skip


def _write(job: Job, module: Objective, result: FitResult | None, shown: ImagePool) -> list[Path]:
    """Write weights, curve and picture; returns the files. The module is left with the weights that are kept."""
    config, layout, description = job.config, job.layout, _describe(job)
    header = {"kind": "pretrain", "code": __version__, "config": description,
              "encoder": description["encoder"], "objective": description["objective"],
              "data": description["data"] | {"split": description["split"]}, "seed": config.seed}  # fmt: skip
    if result is None:
        write_tensors(layout.checkpoint, copy_state(module), header | {"weights": "initial", "epoch": 0})
        return [layout.checkpoint]
    last = copy_state(module)
    kept = {"best": (result.best, result.best_epoch), "last": (last, result.epochs_run)}
    tensors, epoch = kept[config.keep]
    write_tensors(layout.checkpoint, tensors, header | {"weights": config.keep, "epoch": epoch})
    write_tensors(layout.last_checkpoint, last, header | {"weights": "last", "epoch": result.epochs_run})
    write_metrics(layout.metrics, result.rows)
    outputs = [layout.checkpoint, layout.last_checkpoint, layout.metrics]
    module.load_state_dict(tensors)
    batch = next(iter(shown.batches([np.arange(min(PICTURED, len(shown)))])))
    with torch.no_grad():
        picture = module.eval().picture(plain_view(batch))
    if picture is not None:
        with atomic_path(layout.picture(module.picture_name)) as temporary:
            picture.save(temporary, format="PNG")
        outputs.append(layout.picture(module.picture_name))
    return outputs


def _summary(job: Job, module: Objective, result: FitResult | None, train: ImagePool,
             val: ImagePool | None) -> dict[str, Any]:  # fmt: skip
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    facts = {"parameters": {name: count for name, count in counts.items() if count},
             "data": {"name": job.data.name, "fingerprint": job.data.fingerprint}, "split": job.split,
             "num_images": len(train) + len(val or ()), "num_validation": len(val or ())}  # fmt: skip
    if result is None:
        return facts | {"images_seen": 0, "epochs_run": 0}
    facts |= {"images_seen": result.images_seen, "epochs_run": result.epochs_run,
              "best_epoch": result.best_epoch, "best_val_loss": result.best_val}  # fmt: skip
    if constants := module.constant_losses():
        facts |= {"constant_loss": sum(constants.values()), "constant_losses": constants,
                  "val_losses": _mean_terms(job, module, val or train)}  # fmt: skip
    return facts


@torch.no_grad()
def _mean_terms(job: Job, module: Objective, pool: ImagePool) -> dict[str, float]:
    """The parts of the loss, each as its mean over all images."""
    module.eval()
    sums: dict[str, torch.Tensor] = {}
    for batch in pool.batches(chunk_indices(len(pool), job.config.batch_size)):
        with job.compute.autocast():
            terms = module.terms_of(plain_view(batch))
        sums = {name: sums.get(name, 0) + term.double() * len(batch) for name, term in terms.items()}
    return {name: float(value) / len(pool) for name, value in sums.items()}


def _outcome(layout: RunLayout, content: dict[str, Any], status: str) -> dict[str, Any]:
    summary = content["summary"]
    return {"output": str(layout.folder), "status": status, "parameters": summary["parameters"],
            "epochs": summary["epochs_run"], "best epoch": summary.get("best_epoch"),
            "best validation loss": summary.get("best_val_loss"), "images seen": summary["images_seen"],
            "seconds": content["wall_seconds"]}  # fmt: skip


def _dry_run(job: Job) -> dict[str, Any]:
    """Time one step of the real thing (after one to warm up) and multiply."""
    config, compute, module = job.config, job.compute, _build(job)
    train, val = _pools(job, module)
    batch_size = min(config.batch_size, len(train))
    steps = config.epochs * (len(train) // batch_size) if job.trains else 0
    facts: dict[str, Any] = {
        "output": str(job.layout.folder), "status": "dry run", "reads": str(job.data.layout.folder), "split": job.split,
        "training images": len(train), "validation images": len(val) if val else 0, "steps": steps,
        "config": {name: str(value) for name, value in _describe(job).items()},
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()},
    }  # fmt: skip
    if not steps:
        return facts
    learner = PretextLearner(module, job.option("augment"))
    learner.train_mode()
    batch = next(iter(train.batches([np.arange(batch_size)])))
    for _ in range(2):
        started = time.perf_counter()
        with compute.autocast():
            loss = learner.train_loss(batch, make_generator(config.seed, "dry run"))
        loss.backward()
        float(loss.detach())  # waits for the device
        seconds = time.perf_counter() - started
    weights = sum(p.numel() * 4 for p in module.parameters())
    memory = torch.cuda.max_memory_allocated() if compute.device.type == "cuda" else _resident_bytes()
    return facts | {"seconds a step": seconds, "expected hours": steps * seconds / 3600,
                    "memory": f"{(memory + 2 * weights) / 1e9:.2f} GB", "disk": f"{5 * weights / 1e9:.3f} GB"}  # fmt: skip


def _resident_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
