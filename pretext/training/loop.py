"""The only training loop: epochs of steps, validation, best weights, early stop, and going on after any interruption."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pretext.errors import PretextError
from pretext.progress import Task
from pretext.training.device import Compute
from pretext.training.optim import Plateau, build_optimizer, rate_scale
from pretext.training.pool import Batch, ImagePool, chunk_indices
from pretext.training.seeds import derive_seed, make_generator
from pretext.training.state import (
    copy_state,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
    with_prefix,
    without_prefix,
)


class Learner(Protocol):
    """What the loop trains: a module, and how a batch becomes a loss."""

    @property
    def module(self) -> nn.Module:
        """All that is trained."""

    def train_mode(self) -> None:
        """Set every part to the mode it has in training."""

    def train_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean loss of a training batch as it lies on disk, with a graph for the gradient."""

    def val_loss(self, batch: Batch) -> Tensor:
        """Mean loss of a validation batch, in eval mode and without augmentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Hyper-parameters of one training; their meaning stands in the stage's options."""

    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    gamma: float = 1.0
    warmup_epochs: float = 0.0
    grad_clip: float = 0.0
    accumulate: int = 1
    patience: int = 0
    plateau_factor: float = 0.9
    plateau_patience: int = 40
    seed: int = 0
    save_every: float = 60.0
    log_every: int = 50


@dataclass(slots=True)
class LoopState:
    """Where a training stands; everything in it is plain numbers and survives a restart exactly."""

    step: int = 0
    best_val: float = math.inf
    best_epoch: int = 0
    bad_epochs: int = 0
    stopped: bool = False
    plateau: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, list[float]] = field(default_factory=lambda: {"step": [0.0, 0.0], "epoch": [0.0, 0.0]})
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FitResult:
    """What training ended with: the module holds the last weights, `best` those of the best epoch."""

    best: dict[str, Tensor]
    best_epoch: int
    best_val: float
    epochs_run: int
    images_seen: int
    rows: list[dict[str, Any]]


class _Clock:
    """Seconds since the last row, and how many of them were spent waiting for data."""

    def __init__(self) -> None:
        self.since, self.waited, self.steps = time.perf_counter(), 0.0, 0

    def facts(self, batch_size: int) -> dict[str, float]:
        elapsed, steps = time.perf_counter() - self.since, max(1, self.steps)
        return {"time/data_s": self.waited / steps, "time/step_s": elapsed / steps,
                "images_per_s": batch_size * self.steps / max(elapsed, 1e-9)}  # fmt: skip


def fit(learner: Learner, train: ImagePool, val: ImagePool | None, config: LoopConfig, compute: Compute, *,
        folder: Path, task: Task, on_save: Callable[[], object] = lambda: None) -> FitResult:  # fmt: skip
    """Train until the last epoch or the early stop.

    State is saved in `folder` every `save_every` seconds and on SIGINT or SIGTERM, and `on_save` called. Called again with the same
    arguments it goes on from there; on a CPU the weights then equal those of an undisturbed run bit for bit, because
    order, augmentation and dropout depend on the seed and the step alone.

    Raises:
        PretextError: If the loss, its gradient or the validation loss is not finite.
        KeyboardInterrupt: After a signal, once the state is saved.
    """
    module = learner.module
    batch_size = min(config.batch_size, len(train))
    steps_per_epoch = len(train) // batch_size
    total_steps = config.epochs * steps_per_epoch
    optimizer = build_optimizer(config.optimizer, [p for p in module.parameters() if p.requires_grad],
                                lr=config.lr, weight_decay=config.weight_decay)  # fmt: skip
    plateau = Plateau(factor=config.plateau_factor, patience=config.plateau_patience)
    state, best = LoopState(), copy_state(module)
    if (saved := load_state(folder)) is not None:
        tensors, facts = saved
        module.load_state_dict(without_prefix("model.", tensors))
        restore_optimizer(optimizer, without_prefix("optimizer.", tensors))
        best = without_prefix("best.", tensors)
        state = LoopState(**facts["loop"])
        state.best_val = math.inf if state.best_val is None else state.best_val
        plateau = Plateau(**_infinite(state.plateau, "best"))
        task.advance(state.step)

    saved_at = time.monotonic()

    def save_if_due() -> None:
        nonlocal saved_at
        if not stop.is_set() and time.monotonic() - saved_at <= config.save_every:
            return
        state.sums = {kind: value.tolist() for kind, value in sums.items()}
        for loss, norm in state.sums.values():
            _check_finite(state.step, {"loss": loss, "gradient's norm": norm})
        tensors = {**with_prefix("model.", copy_state(module)), **with_prefix("best.", best),
                   **with_prefix("optimizer.", optimizer_tensors(optimizer))}  # fmt: skip
        state.plateau = _finite(asdict(plateau), "best")
        save_state(folder, tensors, {"loop": _finite(asdict(state), "best_val")}, name=f"step-{state.step:09d}")
        saved_at = time.monotonic()
        on_save()
        if stop.is_set():
            raise KeyboardInterrupt

    sums = {
        kind: torch.tensor(values, dtype=torch.float64, device=compute.device) for kind, values in state.sums.items()
    }
    clocks = {"step": _Clock(), "epoch": _Clock()}

    def log(kind: str, lr: float, **more: float | None) -> None:
        loss, norm = (sums[kind] / max(1, clock_steps[kind])).tolist()
        _check_finite(state.step, {"loss": loss, "gradient's norm": norm, "validation loss": more.get("val/loss")})
        state.rows.append({"kind": kind, "step": state.step, "epoch": state.step / steps_per_epoch,
                           "images_seen": state.step * batch_size, "train/loss": loss, "train/grad_norm": norm,
                           "lr": lr, **clocks[kind].facts(batch_size), **more})  # fmt: skip
        sums[kind].zero_()
        clocks[kind], clock_steps[kind] = _Clock(), 0

    # Steps since the last row, counted over restarts (the clocks count only this process's).
    clock_steps = {"step": state.step % config.log_every, "epoch": state.step % steps_per_epoch}
    with _signals() as stop:
        while state.step < total_steps and not state.stopped:
            epoch = state.step // steps_per_epoch
            learner.train_mode()
            order = _order(len(train), batch_size, seed=config.seed, epoch=epoch)[state.step % steps_per_epoch :]
            waiting = time.perf_counter()
            for batch in train.batches(order):
                waited = time.perf_counter() - waiting
                scale = rate_scale(config.schedule, state.step, total_steps=total_steps, plateau=plateau,
                                   warmup_steps=round(config.warmup_epochs * steps_per_epoch),
                                   epoch=epoch, gamma=config.gamma)  # fmt: skip
                loss, norm = _step(learner, optimizer, batch, config, compute, lr=config.lr * scale, step=state.step)
                state.step += 1
                for kind, clock in clocks.items():
                    sums[kind] += torch.stack([loss, norm]).double()
                    clock.waited, clock.steps = clock.waited + waited, clock.steps + 1
                    clock_steps[kind] += 1
                task.advance(1)
                if state.step % config.log_every == 0:
                    log("step", config.lr * scale)
                    task.advance(0, loss=state.rows[-1]["train/loss"], images_per_s=state.rows[-1]["images_per_s"])
                if state.step % steps_per_epoch == 0:
                    break
                save_if_due()
                waiting = time.perf_counter()
            val_loss = _validate(learner, val, config, compute) if val is not None and len(val) else None
            log("epoch", config.lr * scale, **{"val/loss": val_loss})
            watched = state.rows[-1]["train/loss"] if val_loss is None else val_loss
            plateau.observe(watched)
            if watched < state.best_val:
                state.best_val, state.best_epoch, state.bad_epochs = watched, epoch + 1, 0
                best = copy_state(module)
            else:
                state.bad_epochs += 1
            state.stopped = bool(config.patience) and state.bad_epochs >= config.patience
            task.advance(0, epoch=epoch + 1, val_loss=watched)
            save_if_due()
    return FitResult(best, state.best_epoch, state.best_val, state.step // steps_per_epoch,
                     state.step * batch_size, state.rows)  # fmt: skip


def _check_finite(step: int, values: Mapping[str, float | None]) -> None:
    """Raise rather than go on or save: after one step with such a value no weight is a number any more."""
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise PretextError(f"the {name} became {value} before step {step}; the last finite state is kept",
                               hint="a smaller --lr, or --precision fp32")  # fmt: skip


def _step(learner: Learner, optimizer: torch.optim.Optimizer, batch: Batch, config: LoopConfig,
          compute: Compute, *, lr: float, step: int) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One update; returns the mean loss and the gradient's norm before clipping, both still on the device."""
    torch.manual_seed(derive_seed(config.seed, "dropout", step))
    generator = make_generator(config.seed, "augment", step)
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=compute.device)
    for rows in np.array_split(np.arange(len(batch)), min(config.accumulate, len(batch))):
        part = batch.part(slice(rows[0], rows[-1] + 1))
        with compute.autocast():
            loss = learner.train_loss(part, generator)
        (loss * (len(part) / len(batch))).backward()
        total += loss.detach() * (len(part) / len(batch))
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, config.grad_clip or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return total, norm


@torch.no_grad()
def _validate(learner: Learner, val: ImagePool, config: LoopConfig, compute: Compute) -> float:
    """Mean validation loss over all images, each counted once."""
    learner.module.eval()
    total = torch.zeros((), dtype=torch.float64, device=compute.device)
    for batch in val.batches(chunk_indices(len(val), config.batch_size)):
        with compute.autocast():
            total += learner.val_loss(batch).double() * len(batch)
    return float(total) / len(val)


def _order(num_images: int, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """The epoch's batches: a permutation of the images cut into whole batches; the rest waits for other epochs."""
    order_N = torch.randperm(num_images, generator=make_generator(seed, "order", epoch)).numpy()
    return np.split(order_N[: num_images // batch_size * batch_size], num_images // batch_size)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a request to stop at the next step; a second one leaves at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finite(facts: dict[str, Any], key: str) -> dict[str, Any]:
    """JSON has no infinity: it is stored as null."""
    return facts | {key: facts[key] if math.isfinite(facts[key]) else None}


def _infinite(facts: dict[str, Any], key: str) -> dict[str, Any]:
    return facts | {key: math.inf if facts[key] is None else facts[key]}
