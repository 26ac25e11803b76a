"""`pretrain`: an encoder learns a pretext task on unlabelled images."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pretext import __version__
from pretext.artifacts.atomic import atomic_path
from pretext.artifacts.checkpoint import write_tensors
from pretext.artifacts.layout import RunLayout
from pretext.artifacts.manifest import Record
from pretext.artifacts.metrics import write_metrics
from pretext.objectives.base import Objective, PretextLearner, plain_view
from pretext.objectives.job import Job, build, describe, find_job, open_pools, parents_of, request_of
from pretext.progress import Progress, Silent
from pretext.stage_configs import PretrainConfig
from pretext.training.loop import FitResult, LoopConfig, fit
from pretext.training.pool import ImagePool, chunk_indices
from pretext.training.seeds import make_generator
from pretext.training.state import clear_state, copy_state
from pretext.variants import choose_pretraining

PICTURED = 8  # images in the picture of the run


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
    job = find_job(config, choose_pretraining(config, explicit), progress, explicit)
    layout = job.layout
    record = Record(layout.manifest, "pretrain", request_of(job), parents_of(job))
    if config.dry_run:
        return _dry_run(job)
    if record.is_done(overwrite=config.overwrite, stale=[layout.resume]):
        if layout.resume.exists():
            clear_state(layout.resume)  # killed after it was done, before it had tidied up
        return _outcome(layout, record.content, "already done")

    module = build(job)
    train, val = open_pools(job, module)
    record.begin(describe(job), seed=config.seed, device=job.compute.name)
    result = _train(job, module, train, val, record, progress)
    outputs = _write(job, module, result, val or train)
    content = record.finish(outputs, summary=_summary(job, module, result, train, val))
    clear_state(layout.resume)
    return _outcome(layout, content, "done")


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
    config, layout, description = job.config, job.layout, describe(job)
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
        facts |= {"constant_loss": sum(constants.values()), "constant_losses": constants}
    terms = _mean_terms(job, module, val or train)
    return facts | ({"val_losses": terms} if terms else {})


@torch.no_grad()
def _mean_terms(job: Job, module: Objective, pool: ImagePool) -> dict[str, float]:
    """The parts of the loss, each as its mean over all images."""
    module.eval()
    sums: dict[str, torch.Tensor] = {}
    for batch in pool.batches(chunk_indices(len(pool), job.config.batch_size)):
        with job.compute.autocast():
            terms = module.terms_of(plain_view(batch))
        if not terms:
            break
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
    config, compute, module = job.config, job.compute, build(job)
    train, val = open_pools(job, module)
    batch_size = min(config.batch_size, len(train))
    steps = config.epochs * (len(train) // batch_size) if job.trains else 0
    facts: dict[str, Any] = {
        "output": str(job.layout.folder), "status": "dry run", "reads": str(job.data.layout.folder), "split": job.split,
        "training images": len(train), "validation images": len(val) if val else 0, "steps": steps,
        "config": {name: str(value) for name, value in describe(job).items()},
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
