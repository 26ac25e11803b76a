"""`pretrain`: an encoder learns a pretext task on unlabelled images."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pretext import __version__, world
from pretext.artifacts.atomic import atomic_path
from pretext.artifacts.checkpoint import read_header, write_tensors
from pretext.artifacts.layout import RunLayout
from pretext.artifacts.manifest import Record
from pretext.artifacts.metrics import write_metrics
from pretext.config import plain, resolve
from pretext.errors import ArtifactError
from pretext.objectives.base import Objective, PretextLearner, plain_view
from pretext.objectives.job import Job, build, complete, describe, find_job, open_pools, parents_of, request_of
from pretext.progress import Progress, Silent
from pretext.stage_configs import PretrainConfig
from pretext.training.health import WATCHED, effective_rank
from pretext.training.loop import FitResult, LoopConfig, fit
from pretext.training.parallel import check_batch
from pretext.training.pool import ImagePool, chunk_indices
from pretext.training.replay import Replayed, replay_step
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
        return _dry_run(complete(job, progress))
    if record.is_done(overwrite=config.overwrite, stale=[layout.resume, *layout.failed_steps()]):
        if layout.resume.exists() and world.is_first():
            clear_state(layout.resume)  # killed after it was done, before it had tidied up
        return _outcome(layout, record.content, "already done")

    job = world.first_then_others(partial(complete, job, progress))
    record.parents = parents_of(job)
    module = build(job)
    train, val = open_pools(job, module)
    if job.trains:
        check_batch(min(config.batch_size, len(train)), world.size())
    record.begin(describe(job), seed=config.seed, device=job.compute.name)
    result = _train(job, module, train, val, record, progress)
    outputs = _write(job, module, result, val or train)
    content = record.finish(outputs, summary=_summary(job, module, result, train, val))
    if world.is_first():
        clear_state(layout.resume)
    return _outcome(layout, content, "done")


def _loop_config(config: PretrainConfig) -> LoopConfig:
    return LoopConfig(
        epochs=config.epochs, batch_size=config.batch_size, accumulate=config.accumulate, optimizer=config.optimizer,
        lr=config.lr, weight_decay=config.weight_decay, schedule=config.schedule, warmup_epochs=config.warmup_epochs,
        grad_clip=config.grad_clip, patience=config.patience, seed=config.seed, save_every=config.save_every,
        log_every=config.log_every, gamma=config.gamma, on_nan=config.on_nan,
    )  # fmt: skip


def _train(job: Job, module: Objective, train: ImagePool, val: ImagePool | None, record: Record,
           progress: Progress) -> FitResult | None:  # fmt: skip
    if not job.trains:
        return None
    config = job.config
    steps = config.epochs * (len(train) // min(config.batch_size, len(train)))
    with progress.task(job.layout.folder.name, steps, "steps") as task:
        return fit(PretextLearner(module, job.option("augment")), train, val, _loop_config(config), job.compute,
                   folder=job.layout.resume, task=task, on_save=lambda: record.note({}), together=True,
                   watch=partial(_watch, job, module, val), about={"options": _given(config)})  # fmt: skip


@torch.no_grad()
def _watch(job: Job, module: Objective, val: ImagePool | None) -> dict[str, float | None]:
    """How many directions the features of some validation images span, the same images each time."""
    if val is None or not len(val):
        return {}
    module.eval()
    chosen_N = np.unique(np.linspace(0, len(val) - 1, min(WATCHED, len(val))).round().astype(np.int64))
    chunks = np.array_split(chosen_N, -(-len(chosen_N) // job.config.batch_size))
    features = []
    for batch in val.batches(chunks):
        with job.compute.autocast():
            features.append(module.encoder.encode(plain_view(batch).input01_BCHW).flatten(1).float())
    return {"val/effective_rank": effective_rank(torch.cat(features))}


def _given(config: PretrainConfig) -> dict[str, Any]:
    """The options that are not at their defaults, as JSON."""
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    values = {name: getattr(config, name) for name in fields}
    return {name: plain(value) for name, value in values.items() if value != fields[name]}


def replay(path: Path, *, device: str = "cpu") -> Replayed:
    """Compute again the step at which a pretraining stopped because its loss or gradient was no number.

    Args:
        path: The failed-step file beside the run's manifest. Folders in its options are taken from the working folder,
            as the training took them.
        device: Where; on the kind that trained the same numbers come out.

    Returns:
        What the step gives now, and what it gave in training; see `pretext.training.replay.replay_step`.

    Raises:
        PretextError: If the file or what the training read is missing, damaged or of another kind.
    """
    header = read_header(path)
    if not isinstance(options := header.get("options"), dict):
        raise ArtifactError(f"{path} is no failed step of a pretraining")
    if ":" in str(options.get("quality")):  # no file decides which function of which module is called
        raise ArtifactError(f"{path} needs a quality network of your own, {options['quality']}, to be replayed",
                            hint="pretext.training.replay.replay_step takes the learner that has it")  # fmt: skip
    config, _ = resolve(PretrainConfig, {"device": device, "precision": header.get("precision")}, options)
    job = complete(find_job(config, choose_pretraining(config, ()), Silent(), ()), Silent())
    return replay_step(path, PretextLearner(build(job), job.option("augment")), job.compute)


def _write(job: Job, module: Objective, result: FitResult | None, shown: ImagePool) -> list[Path]:
    """Write weights, curve and picture, on the first of several processes; returns the files there. Everywhere the
    module is left with the weights that are kept."""
    config, layout, description = job.config, job.layout, describe(job)
    header = {"kind": "pretrain", "code": __version__, "config": description,
              "encoder": description["encoder"], "objective": description["objective"],
              "data": description["data"] | {"split": description["split"]}, "seed": config.seed}  # fmt: skip
    if result is None and world.is_first():
        write_tensors(layout.checkpoint, copy_state(module), header | {"weights": "initial", "epoch": 0})
        return [layout.checkpoint]
    if result is None:
        return []
    last = copy_state(module)
    kept = {"best": (result.best, result.best_epoch), "last": (last, result.epochs_run)}
    tensors, epoch = kept[config.keep]
    module.load_state_dict(tensors)
    if not world.is_first():
        return []
    write_tensors(layout.checkpoint, tensors, header | {"weights": config.keep, "epoch": epoch})
    write_tensors(layout.last_checkpoint, last, header | {"weights": "last", "epoch": result.epochs_run})
    write_metrics(layout.metrics, result.rows)
    outputs = [layout.checkpoint, layout.last_checkpoint, layout.metrics]
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
              "best_epoch": result.best_epoch, "best_val_loss": result.best_val,
              "skipped_steps": sum(row.get("train/skipped", 0) for row in result.rows if row["kind"] == "epoch"),
              "rewinds": result.rewinds}  # fmt: skip
    kept = result.best_epoch if job.config.keep == "best" else result.epochs_run
    rank = [row.get("val/effective_rank") for row in result.rows if row["kind"] == "epoch"][kept - 1]
    if rank is not None:
        facts["features"] = {
            "effective_rank": rank,
            "largest_rank": min(WATCHED, len(val or ()), module.encoder.num_features),
        }
    if constants := module.constant_losses():
        facts |= {"constant_loss": sum(constants.values()), "constant_losses": constants}
    terms = _mean_terms(job, module, val or train)
    return facts | ({"val_losses": terms} if terms else {})


@torch.no_grad()
def _mean_terms(job: Job, module: Objective, pool: ImagePool) -> dict[str, float]:
    """The parts of the loss, each as its mean over all images; several processes divide the batches."""
    module.eval()
    sums: dict[str, torch.Tensor] = {}
    chunks = itertools.islice(chunk_indices(len(pool), job.config.batch_size), world.rank(), None, world.size())
    for batch in pool.batches(chunks):
        with job.compute.autocast():
            terms = module.terms_of(plain_view(batch))
        if not terms:
            break
        sums = {name: sums.get(name, 0) + term.double() * len(batch) for name, term in terms.items()}
    everyones = world.gather({name: float(value) for name, value in sums.items()})
    return {name: sum(part.get(name, 0.0) for part in everyones) / len(pool) for name in everyones[0]}


def _outcome(layout: RunLayout, content: dict[str, Any], status: str) -> dict[str, Any]:
    summary = content["summary"]
    return {"output": str(layout.folder), "status": status, "parameters": summary["parameters"],
            "epochs": summary["epochs_run"], "best epoch": summary.get("best_epoch"),
            "best validation loss": summary.get("best_val_loss"), "images seen": summary["images_seen"],
            "seconds": content["wall_seconds"]}  # fmt: skip


def _dry_run(job: Job) -> dict[str, Any]:
    """Time one step of the real thing (after one to warm up) and multiply; of several processes each has its part of
    the batch, and what they tell each other is not in it."""
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
    batch = next(iter(train.batches([np.arange(-(-batch_size // world.size()))])))
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
