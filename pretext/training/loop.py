"""The only training loop: epochs of steps, validation, best weights, early stop, and going on after any interruption."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretext.errors import PretextError
from pretext.progress import Task
from pretext.training.device import Compute
from pretext.training.guard import Guard, NotFinite
from pretext.training.health import loss_over_median
from pretext.training.optim import Plateau, build_optimizer, rate_scale
from pretext.training.order import epoch_order
from pretext.training.parallel import Alone, Loss, choose_team
from pretext.training.pool import Batch, ImagePool
from pretext.training.replay import write_failed_step
from pretext.training.signals import stopping_signals
from pretext.training.state import (
    SUMS,
    LoopState,
    copy_state,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
    with_prefix,
    without_prefix,
)
from pretext.training.step import Learner, add_gradient, update, validate

SKIPPED_IN_A_ROW = 10  # steps that give no number, before `skip` stops after all
REWINDS = 10  # in a training, before `rewind` does


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
    on_nan: str = "stop"


@dataclass(frozen=True, slots=True)
class FitResult:
    """What training ended with: the module holds the last weights, `best` those of the best epoch."""

    best: dict[str, Tensor]
    best_epoch: int
    best_val: float
    epochs_run: int
    images_seen: int
    rows: list[dict[str, Any]]
    rewinds: int = 0


class _Clock:
    """Seconds since the last row, and how many of them were spent waiting for data."""

    def __init__(self) -> None:
        self.since, self.waited, self.steps = time.perf_counter(), 0.0, 0

    def facts(self, batch_size: int) -> dict[str, float]:
        elapsed, steps = time.perf_counter() - self.since, max(1, self.steps)
        return {"time/data_s": self.waited / steps, "time/step_s": elapsed / steps,
                "images_per_s": batch_size * self.steps / max(elapsed, 1e-9)}  # fmt: skip


def fit(learner: Learner, train: ImagePool, val: ImagePool | None, config: LoopConfig, compute: Compute, *,
        folder: Path, task: Task, on_save: Callable[[], object] = lambda: None, together: bool = False,
        watch: Callable[[], Mapping[str, float | None]] = dict, about: Mapping[str, Any] | None = None) -> FitResult:  # fmt: skip
    """Train until the last epoch or the early stop.

    State is saved in `folder` every `save_every` seconds and on SIGINT or SIGTERM, and `on_save` called. Called again with the same
    arguments it goes on from there; on a CPU the weights then equal those of an undisturbed run bit for bit, because
    order, augmentation and dropout depend on the seed and the step alone. `watch` says at each epoch's end what else its
    row tells.

    A step whose loss or gradient is not finite changes nothing. What then happens is `on_nan`'s to say:

    - stop: its batch and the state it began with are written beside `folder` with the facts `about` the training, see
      `replay.py`, and the training ends with an error. It is noticed when the next row or state is due, so that no step
      waits for the device; the steps in between change nothing either.
    - skip: the step is left out of weights, optimiser and means, and counted; schedules go on. After `SKIPPED_IN_A_ROW`
      in a row it stops.
    - rewind: training goes back to the last saved state, and from there on images come in another order, so that the
      batches that led there never come again, as in Chowdhery et al. 2022 (PaLM, arXiv:2204.02311, section 5.1). Where
      that is depends on when states were saved. After `REWINDS` times it stops.

    With `together`, the job's processes train one model, and all must call this: each has its rows of every batch, of
    `batch_size` over all; batch norm sees the whole batch, and what is random is drawn for the whole batch. So losses
    and weights are those of one process up to the rounding of sums, but for dropout, which is drawn apart. The first
    process saves; a signal to any stops all.

    Raises:
        PretextError: If the loss, its gradient or the validation loss is not finite.
        ConfigError: If there are more processes than rows in a batch.
        ArtifactError: If the processes do not find the same saved state.
        OtherRankError: If another process ends.
        KeyboardInterrupt: After a signal, once the state is saved.
    """
    training = _Training(learner, train, val, config, compute, choose_team(together, compute.device), folder, task)
    training.on_save, training.watch, training.about = on_save, watch, about or {}
    with stopping_signals() as stop, training.team.training(learner.module, learner.train_loss) as loss_of:
        return training.run(stop, loss_of)


class _FrozenError(Exception):
    """The module was frozen at a step that gave no number."""

    def __init__(self, failed: NotFinite) -> None:
        super().__init__()
        self.failed = failed


class _Training:
    """One call of `fit`."""

    on_save: Callable[[], object]
    watch: Callable[[], Mapping[str, float | None]]
    about: Mapping[str, Any]
    stop: threading.Event
    loss_of: Loss

    def __init__(self, learner: Learner, train: ImagePool, val: ImagePool | None, config: LoopConfig, compute: Compute,
                 team: Alone, folder: Path, task: Task) -> None:  # fmt: skip
        self.learner, self.module, self.train, self.val = learner, learner.module, train, val
        self.config, self.compute, self.team, self.folder, self.task = config, compute, team, folder, task
        self.batch_size = min(config.batch_size, len(train))
        self.spans = team.spans(self.batch_size, config.accumulate)
        self.own_B = np.concatenate([np.arange(span.start, span.stop) for span in self.spans])
        self.steps_per_epoch = len(train) // self.batch_size
        self.total_steps = config.epochs * self.steps_per_epoch
        self.optimizer = build_optimizer(config.optimizer, [p for p in self.module.parameters() if p.requires_grad],
                                         lr=config.lr, weight_decay=config.weight_decay)  # fmt: skip
        self.plateau = Plateau(factor=config.plateau_factor, patience=config.plateau_patience)
        self.state, self.best = LoopState(), copy_state(self.module)
        self.has_saved = self._restore()
        self.saved_at = time.monotonic()

    def _restore(self) -> bool:
        """Take up the last saved state; False if there is none."""
        saved, before = load_state(self.folder), self.state.step
        if saved is not None:
            tensors, facts = saved
            self.module.load_state_dict(without_prefix("model.", tensors))
            self.optimizer.state.clear()
            restore_optimizer(self.optimizer, without_prefix("optimizer.", tensors))
            self.best = without_prefix("best.", tensors)
            self.state = LoopState.from_json(facts["loop"])
            self.plateau = Plateau(**self.state.plateau)
            self.task.advance(self.state.step - before)
        self.team.check_same(self.state.step)
        self.sums = {kind: torch.tensor((values + [0.0])[: len(SUMS)], dtype=torch.float64, device=self.compute.device)
                     for kind, values in self.state.sums.items()}  # fmt: skip
        self.clocks = {"step": _Clock(), "epoch": _Clock()}
        # Steps since the last row, counted over restarts (the clocks count only this process's).
        self.counted = {
            "step": self.state.step % self.config.log_every,
            "epoch": self.state.step % self.steps_per_epoch,
        }
        return saved is not None

    def run(self, stop: threading.Event, loss_of: Loss) -> FitResult:
        self.stop, self.loss_of = stop, loss_of
        self.guard = self._new_guard()
        if self.config.on_nan == "rewind" and not self.has_saved:
            self._save()
        while self.state.step < self.total_steps and not self.state.stopped:
            try:
                self._run_epoch()
            except _FrozenError as frozen:
                self._rewind_or_end(frozen.failed)
        state = self.state
        return FitResult(self.best, state.best_epoch, state.best_val, state.step // self.steps_per_epoch,
                         state.step * self.batch_size, state.rows, len(state.rewinds))  # fmt: skip

    def _new_guard(self) -> Guard:
        limit = SKIPPED_IN_A_ROW if self.config.on_nan == "skip" else 1
        return Guard(self.module, self.compute.device, limit=limit, step=self.state.step, in_a_row=self.state.in_a_row)

    def _run_epoch(self) -> None:
        """The rest of an epoch and what follows it; a frozen module ends it."""
        state, config = self.state, self.config
        epoch = state.step // self.steps_per_epoch
        self.learner.train_mode()
        waiting = time.perf_counter()
        for batch in self.train.batches(index_B[self.own_B] for index_B in self._order_from(state.step)):
            waited, lr = time.perf_counter() - waiting, self._rate()
            self._step(batch, lr)
            state.step += 1
            for kind, clock in self.clocks.items():
                clock.waited, clock.steps = clock.waited + waited, clock.steps + 1
                self.counted[kind] += 1
            self.task.advance(1)
            if state.step % config.log_every == 0:
                self._log("step", lr)
                row = state.rows[-1]
                self.task.advance(0, loss=row["train/loss"], images_per_s=row["images_per_s"])
            if state.step % self.steps_per_epoch == 0:
                break
            self._save_if_due()
            waiting = time.perf_counter()
        val_loss = validate(self.team, self.learner, self.val, config.batch_size, self.compute)
        self._log("epoch", lr, **{"val/loss": val_loss})
        state.rows[-1] |= self.watch()
        watched = state.rows[-1]["train/loss"] if val_loss is None else val_loss
        watched = math.inf if watched is None else watched  # no step of the epoch gave a number
        self.plateau.observe(watched)
        if watched < state.best_val:
            state.best_val, state.best_epoch, state.bad_epochs = watched, epoch + 1, 0
            self.best = copy_state(self.module)
        else:
            state.bad_epochs += 1
        state.stopped = bool(config.patience) and state.bad_epochs >= config.patience
        self.task.advance(0, epoch=epoch + 1, val_loss=watched)
        self._save_if_due()

    def _order_from(self, step: int) -> Iterator[np.ndarray]:
        """The images of a step and of those that follow it in its epoch."""
        epoch, first = divmod(step, self.steps_per_epoch)
        begun = self.steps_per_epoch * epoch
        again = [(number, max(0, at - begun)) for number, at in enumerate(self.state.rewinds, start=1)
                 if at < begun + self.steps_per_epoch]  # fmt: skip
        return epoch_order(
            len(self.train), self.batch_size, seed=self.config.seed, epoch=epoch, first=first, again=again
        )

    def _rate(self) -> float:
        config, epoch = self.config, self.state.step // self.steps_per_epoch
        return config.lr * rate_scale(config.schedule, self.state.step, total_steps=self.total_steps,
                                      plateau=self.plateau, epoch=epoch, gamma=config.gamma,
                                      warmup_steps=round(config.warmup_epochs * self.steps_per_epoch))  # fmt: skip

    def _step(self, batch: Batch, lr: float) -> None:
        """One update by this process's rows."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = add_gradient(self.team, self.loss_of, batch, self.spans, self.compute, seed=self.config.seed,
                            step=self.state.step)  # fmt: skip
        seen_3 = update(self.optimizer, loss, self.guard, lr=lr, grad_clip=self.config.grad_clip)
        for total_3 in self.sums.values():
            total_3 += seen_3

    def _check(self) -> None:
        self.state.in_a_row, failed = self.guard.read()
        if failed is not None:
            raise _FrozenError(failed)

    def _log(self, kind: str, lr: float, **more: float | None) -> None:
        state, clock = self.state, self.clocks[kind]
        self._check()
        for name, value in more.items():
            if value is not None and not math.isfinite(value):
                raise PretextError(f"the {name.replace('val/', 'validation ')} became {value} at step {state.step}; the "
                                   "last saved state is kept", hint="a smaller --lr, or --precision fp32")  # fmt: skip
        loss, norm, skipped = self.sums[kind].tolist()
        count = self.counted[kind] - int(skipped)
        loss, norm = (loss / count, norm / count) if count else (None, None)
        state.rows.append({"kind": kind, "step": state.step, "epoch": state.step / self.steps_per_epoch,
                           "images_seen": state.step * self.batch_size, "train/loss": loss, "train/grad_norm": norm,
                           "lr": lr, "train/loss_over_median": loss_over_median(state.rows, kind, loss),
                           "train/skipped": int(skipped), **clock.facts(self.batch_size), **more})  # fmt: skip
        self.sums[kind].zero_()
        self.clocks[kind], self.counted[kind] = _Clock(), 0

    def _save_if_due(self) -> None:
        stops, is_due = self.team.any(self.stop.is_set(), time.monotonic() - self.saved_at > self.config.save_every)
        if not (stops or is_due):
            return
        self._check()
        self._save()
        if stops:
            self.team.any(stops)  # the first process has saved: one that ends before has the others ended too
            raise KeyboardInterrupt

    def _save(self) -> None:
        """Save where the training stands, unless a weight is no number: the next step will tell."""
        model = copy_state(self.module) if self.team.rank == 0 else {}
        if model and all(bool(value.isfinite().all()) for value in model.values()):
            self.state.sums = {kind: value.tolist() for kind, value in self.sums.items()}
            self.state.plateau = asdict(self.plateau)
            tensors = {**with_prefix("model.", model), **with_prefix("best.", self.best),
                       **with_prefix("optimizer.", optimizer_tensors(self.optimizer))}  # fmt: skip
            save_state(self.folder, tensors, {"loop": self.state.as_json()}, name=f"step-{self.state.step:09d}")
            self.on_save()
        self.saved_at = time.monotonic()

    def _rewind_or_end(self, failed: NotFinite) -> None:
        rewinds = self.state.rewinds
        if self.config.on_nan == "rewind" and len(rewinds) < REWINDS and self._restore():
            self.state.rewinds = [*rewinds, self.state.step]
            self.guard = self._new_guard()
            return
        self.state.step, kept = failed.step - 1, ""
        if self.team.rank == 0:
            facts = {"training": self.folder.name, "epoch": self.state.step // self.steps_per_epoch, "lr": self._rate(),
                     "seed": self.config.seed, "accumulate": self.config.accumulate, "processes": self.team.size,
                     "precision": self.compute.precision, "device": self.compute.name, **self.about}  # fmt: skip
            batch = next(iter(self.train.batches([next(self._order_from(self.state.step))])))
            state = optimizer_tensors(self.optimizer)
            file = write_failed_step(self.folder.parent, failed, self.module, state, batch, facts)
            kept = f"; {file} holds its batch and the state it began with"
        self.team.any(False)  # the first process has written
        before = {"skip": f", as in the {SKIPPED_IN_A_ROW - 1} before", "rewind": f", after {len(rewinds)} rewinds"}
        raise PretextError(f"{failed.what} in step {failed.step}{before.get(self.config.on_nan, '')}{kept}",
                           hint="a smaller --lr, --precision fp32, or, while pretraining, --on-nan skip or rewind")  # fmt: skip
