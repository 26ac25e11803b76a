"""`pretrain`: an encoder learns a pretext task on unlabelled images."""

from __future__ import annotations

import time
from collections.abc import Collection
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
from pretext.errors import ConfigError
from pretext.objectives.base import Objective, PretextLearner
from pretext.progress import Progress, Silent
from pretext.registry import Variant
from pretext.stage_configs import PretrainConfig
from pretext.training.device import Compute, resolve_compute
from pretext.training.loop import FitResult, LoopConfig, fit
from pretext.training.pool import ImagePool
from pretext.training.seeds import derive_seed, make_generator
from pretext.training.state import clear_state, copy_state
from pretext.variants import choose_pretraining

PICTURED = 8  # images in the picture of the run

Parts = dict[str, tuple[Variant, dict[str, Any]]]


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
    parts = choose_pretraining(config, explicit)
    data = open_data(find_data(config.data_dir, config.data))
    split = _split_name(config, data)
    layout = RunLayout(config.out or config.runs_dir / default_run_name(data.name, parts, config.seed))
    compute = resolve_compute(config.device, config.precision)
    record = Record(layout.manifest, "pretrain", _request(config, parts, split), _parents(config, data))
    description = _describe(config, parts, data, split, compute)
    if config.dry_run:
        return _dry_run(config, parts, data, split, compute, layout)
    if record.is_done(overwrite=config.overwrite, stale=[layout.resume]):
        if layout.resume.exists():
            clear_state(layout.resume)  # killed after it was done, before it had tidied up
        return _outcome(layout, record.content, "already done")

    module = _build(config, parts, data, compute)
    train, val = _pools(config, data, split, compute)
    record.begin(description, seed=config.seed, device=compute.name)
    result = _train(config, parts, module, train, val, compute, layout, record, progress)
    outputs = _write(config, module, result, description, val or train, compute, layout)
    content = record.finish(outputs, summary=_summary(module, result, data, split, len(train), len(val or ())))
    clear_state(layout.resume)
    return _outcome(layout, content, "done")


def default_run_name(data: str, parts: Parts, seed: int) -> str:
    """Such as `stl10-cnn-pse4-s0`: what differs from the defaults is in the name."""
    words = [data, _word(*parts["encoder"])]
    words.append(_word(*parts["loss"]) if "loss" in parts else parts["objective"][0].name)
    if "loss" in parts and parts["objective"][0].name != "autoencode":
        words.insert(2, parts["objective"][0].name)
    return "-".join([*words, f"s{seed}"])


def _word(row: Variant, options: dict[str, Any]) -> str:
    """A variant's name; the loss's sigma always, other options where they are not the row's defaults."""
    word = row.name + (f"{options['sigma']:g}" if "sigma" in options else "")
    for name, value in options.items():
        if name != "sigma" and value != row.reads[name]:
            word += f"-{name.replace('_dim', '')}{value:g}" if isinstance(value, (int, float)) else f"-{value}"
    return word


def _split_name(config: PretrainConfig, data: DataSet) -> str:
    if config.split != "auto":
        return config.split
    return "unlabeled" if data.num_images.get("unlabeled") else "train"


def _request(config: PretrainConfig, parts: Parts, split: str) -> dict[str, Any]:
    """What decides the output: options that rows decide are filled in, the data set is known by its fingerprint."""
    request = {name: value for name, value in identity(config).items() if name not in ("data", "init_from")}
    request["split"] = split
    request["loss"] = parts["loss"][0].name if "loss" in parts else None
    for _, options in parts.values():
        request |= {name: value for name, value in options.items() if name != "loss"}
    return request


def _parents(config: PretrainConfig, data: DataSet) -> list[Parent]:
    parents = [Parent("data", str(data.layout.folder), data.fingerprint)]
    if config.init_from is not None:
        file = _init_file(config.init_from)
        parents.append(Parent("init", str(file), file_sha256(file)))
    return parents


def _init_file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" and path.is_file() else find_run(path).checkpoint


def _describe(config: PretrainConfig, parts: Parts, data: DataSet, split: str, compute: Compute) -> dict[str, Any]:
    """The resolved config, with no `auto` left."""
    encoder, options = parts["encoder"]
    objective = {"name": parts["objective"][0].name}
    if "loss" in parts:
        objective |= {"loss": parts["loss"][0].name, **parts["loss"][0].fixed, **parts["loss"][1]}
    flat = {name: value for name, value in identity(config).items()
            if value is not None and name not in {"loss", *options, *objective}}  # fmt: skip
    return flat | {
        "data": {"name": data.name, "fingerprint": data.fingerprint}, "split": split, "objective": objective,
        "encoder": {"name": encoder.name, "image_size": data.image_size, **options},
        "device": compute.device.type, "precision": compute.precision,
    }  # fmt: skip


def _build(config: PretrainConfig, parts: Parts, data: DataSet, compute: Compute) -> Objective:
    """The objective's module on its device, its weights decided by the seed or read from another run."""
    torch.manual_seed(derive_seed(config.seed, "weights"))
    row, options = parts["encoder"]
    try:
        encoder = row.load()(image_size=data.image_size, **options)
        loss = _build_loss(*parts["loss"]) if "loss" in parts else None
        module: Objective = parts["objective"][0].load()(encoder=encoder, loss=loss, width=options.get("width", 1.0))
    except ValueError as error:
        raise ConfigError(
            f"data set {data.name} ({data.image_size} px) and these options do not fit: {error}"
        ) from error
    if config.init_from is not None:
        file = _init_file(config.init_from)
        tensors = read_tensors(file, "encoder.")
        check_keys(file, module.encoder.state_dict(), tensors)
        module.encoder.load_state_dict(tensors)
    return module.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _build_loss(row: Variant, options: dict[str, Any]) -> nn.Module:
    return row.load()(**row.fixed, **options)


def _pools(config: PretrainConfig, data: DataSet, split: str, compute: Compute) -> tuple[ImagePool, ImagePool | None]:
    """Training and validation images: a random part, decided by the seed, is kept back."""
    images = data.split(split)
    order_N = torch.randperm(len(images), generator=make_generator(config.seed, "validation")).numpy()
    num_val = round(len(images) * config.val_fraction)
    train_N, val_N = np.sort(order_N[num_val:]), np.sort(order_N[:num_val])
    if len(train_N) < 2:
        raise ConfigError(
            f"--val-fraction {config.val_fraction:g} leaves {len(train_N)} of {len(images)} images to train on"
        )
    val = ImagePool(images, val_N, device=compute.device) if num_val else None
    return ImagePool(images, train_N, device=compute.device), val


def _loop_config(config: PretrainConfig) -> LoopConfig:
    return LoopConfig(
        epochs=config.epochs, batch_size=config.batch_size, accumulate=config.accumulate, optimizer=config.optimizer,
        lr=config.lr, weight_decay=config.weight_decay, schedule=config.schedule, warmup_epochs=config.warmup_epochs,
        grad_clip=config.grad_clip, patience=config.patience, seed=config.seed, save_every=config.save_every,
        log_every=config.log_every,
    )  # fmt: skip


def _train(config: PretrainConfig, parts: Parts, module: Objective, train: ImagePool, val: ImagePool | None,
           compute: Compute, layout: RunLayout, record: Record, progress: Progress) -> FitResult | None:  # fmt: skip
    if not parts["objective"][0].trains:
        return None
    steps = config.epochs * (len(train) // min(config.batch_size, len(train)))
    with progress.task(layout.folder.name, steps, "steps") as task:
        return fit(PretextLearner(module, config.augment), train, val, _loop_config(config), compute,
                   folder=layout.resume, task=task, on_save=lambda: record.note({}))  # fmt: skip


def _write(config: PretrainConfig, module: Objective, result: FitResult | None, description: dict[str, Any],
           shown: ImagePool, compute: Compute, layout: RunLayout) -> list[Path]:  # fmt: skip
    """Write weights, curve and picture; returns the files."""
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
    _, image_BHWC = next(iter(shown.batches([np.arange(min(PICTURED, len(shown)))])))
    with torch.no_grad():
        picture = module.eval().picture(image_BHWC.permute(0, 3, 1, 2).float() / 255)
    if picture is not None:
        with atomic_path(layout.reconstructions) as temporary:
            picture.save(temporary, format="PNG")
        outputs.append(layout.reconstructions)
    return outputs


def _summary(module: Objective, result: FitResult | None, data: DataSet, split: str, num_train: int,
             num_val: int) -> dict[str, Any]:  # fmt: skip
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    facts = {"parameters": {name: count for name, count in counts.items() if count},
             "data": {"name": data.name, "fingerprint": data.fingerprint}, "split": split, "num_images": num_train + num_val,
             "num_validation": num_val}  # fmt: skip
    if result is None:
        return facts | {"images_seen": 0, "epochs_run": 0}
    return facts | {"images_seen": result.images_seen, "epochs_run": result.epochs_run,
                    "best_epoch": result.best_epoch, "best_val_loss": result.best_val}  # fmt: skip


def _outcome(layout: RunLayout, content: dict[str, Any], status: str) -> dict[str, Any]:
    summary = content["summary"]
    return {"output": str(layout.folder), "status": status, "parameters": summary["parameters"],
            "epochs": summary["epochs_run"], "best epoch": summary.get("best_epoch"),
            "best validation loss": summary.get("best_val_loss"), "images seen": summary["images_seen"],
            "seconds": content["wall_seconds"]}  # fmt: skip


def _dry_run(config: PretrainConfig, parts: Parts, data: DataSet, split: str, compute: Compute,
             layout: RunLayout) -> dict[str, Any]:  # fmt: skip
    """Time one step of the real thing (after one to warm up) and multiply."""
    module = _build(config, parts, data, compute)
    train, val = _pools(config, data, split, compute)
    batch_size = min(config.batch_size, len(train))
    steps = config.epochs * (len(train) // batch_size) if parts["objective"][0].trains else 0
    facts: dict[str, Any] = {
        "output": str(layout.folder), "status": "dry run", "reads": str(data.layout.folder), "split": split,
        "training images": len(train), "validation images": len(val) if val else 0, "steps": steps,
        "config": {name: str(value) for name, value in _describe(config, parts, data, split, compute).items()},
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()},
    }  # fmt: skip
    if not steps:
        return facts
    learner = PretextLearner(module, config.augment)
    learner.train_mode()
    index_B, image_BHWC = next(iter(train.batches([np.arange(batch_size)])))
    for _ in range(2):
        started = time.perf_counter()
        with compute.autocast():
            loss = learner.train_loss(index_B, image_BHWC, make_generator(config.seed, "dry run"))
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
