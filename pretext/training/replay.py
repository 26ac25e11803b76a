"""A step that gave no number, kept whole: the state it began with and its batch, to be looked at again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretext import __version__
from pretext.artifacts.atomic import file_sums, write_json
from pretext.artifacts.checkpoint import check_keys, read_header, read_tensors, write_tensors
from pretext.artifacts.layout import FAILED_STEP, MANIFEST
from pretext.artifacts.manifest import SCHEMA
from pretext.artifacts.provenance import versions
from pretext.artifacts.verify import check_recorded
from pretext.errors import ArtifactError
from pretext.training.device import Compute
from pretext.training.guard import NotFinite
from pretext.training.parallel import Alone
from pretext.training.pool import Batch
from pretext.training.state import copy_state, with_prefix, without_prefix
from pretext.training.step import Learner, add_gradient

FLOAT = re.compile(r"nan|-?inf|-?[\d.]+(e[+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a step gave when it was computed again, and what it gave in training."""

    step: int
    loss: float
    grad_norm: float
    loss_in_training: float
    grad_norm_in_training: float


def write_failed_step(folder: Path, failed: NotFinite, module: nn.Module, optimizer: Mapping[str, Tensor], batch: Batch,
                      facts: Mapping[str, Any]) -> Path:  # fmt: skip
    """Write FOLDER/failed-step-NNNNNNNNN.safetensors, and beside it the sums of its bytes.

    Args:
        folder: Where to.
        failed: Which step it was, and what it gave.
        module: With the weights that the step began with.
        optimizer: The optimiser's state then.
        batch: The whole batch: `batch.index`, `batch.image` and `batch.target` in the file are what it holds.
        facts: What a replay must know, `seed`, `accumulate` and `precision`, and what people want to.
    """
    tensors = {**with_prefix("model.", copy_state(module)), **with_prefix("optimizer.", optimizer),
               "batch.index": torch.from_numpy(batch.index_B), "batch.image": batch.image_BHWC}  # fmt: skip
    if batch.target_BGHW is not None:
        tensors["batch.target"] = batch.target_BGHW
    header = {"kind": FAILED_STEP, "code": __version__, "step": failed.step, "what": failed.what,
              "loss": str(failed.loss), "grad_norm": str(failed.grad_norm), **facts}  # fmt: skip
    path = folder / f"{FAILED_STEP}-{failed.step:09d}.safetensors"
    write_tensors(path, tensors, header)
    write_json(path.with_name(f"{path.stem}.{MANIFEST}"),
               {"schema": SCHEMA, "stage": FAILED_STEP, "status": "done", "config": header, "versions": versions(),
                "outputs": {path.name: file_sums(path)}})  # fmt: skip
    return path


def replay_step(path: Path, learner: Learner, compute: Compute | None = None) -> Replayed:
    """Compute a failed step again, in one process.

    On the processor that trained, the loss and the gradient's norm are those of the training. A step of several
    processes agrees up to rounding, but for dropout, which each of them drew apart.

    Args:
        path: What `write_failed_step` wrote, as a training does that stops.
        learner: The training's. It is left with the weights that the step began with, in training mode, each parameter with its
            gradient, not clipped: `parameter.grad` shows where the numbers end.
        compute: Where, and in which precision; by default on the CPU in the training's.

    Raises:
        ArtifactError: If the file is missing, damaged, of another kind, or of another network.
    """
    header = read_header(path)
    if header.get("kind") != FAILED_STEP:
        raise ArtifactError(f"{path} is no failed step: its kind is {header.get('kind')!r}")
    check_recorded(path, path.with_name(f"{path.stem}.{MANIFEST}"))
    tensors = read_tensors(path)
    _check_parts(path, header, tensors)
    compute = compute or Compute(torch.device("cpu"), header["precision"])
    module, state = learner.module, without_prefix("model.", tensors)
    check_keys(path, module.state_dict(), state)
    module.load_state_dict(state)
    module.zero_grad(set_to_none=True)
    learner.train_mode()
    batch = Batch(tensors["batch.index"].numpy(), tensors["batch.image"].to(compute.device),
                  tensors["batch.target"].to(compute.device) if "batch.target" in tensors else None)  # fmt: skip
    loss = add_gradient(Alone(), learner.train_loss, batch, Alone().spans(len(batch), header["accumulate"]), compute,
                        seed=header["seed"], step=header["step"] - 1)  # fmt: skip
    norm = nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
    module.load_state_dict(state)  # the forward pass has moved the running statistics
    return Replayed(header["step"], float(loss), float(norm), float(header["loss"]), float(header["grad_norm"]))


def _check_parts(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """A file that comes from elsewhere may hold anything."""
    numbers = [header.get(name) for name in ("step", "seed", "accumulate")]
    index_B, image_BHWC = (tensors.get(f"batch.{name}", torch.empty(0)) for name in ("index", "image"))
    is_whole = (
        all(type(number) is int and number >= 0 for number in numbers) and header["step"] >= 1 <= header["accumulate"]
        and header.get("precision") in ("fp32", "bf16")
        and all(isinstance(header.get(name), str) and FLOAT.fullmatch(header[name]) for name in ("loss", "grad_norm"))
        and index_B.ndim == 1 and index_B.dtype == torch.int64 and len(index_B) > 0
        and image_BHWC.ndim == 4 and len(image_BHWC) == len(index_B) == len(tensors.get("batch.target", index_B))
    )  # fmt: skip
    if not is_whole:
        raise ArtifactError(f"{path} is damaged: it lacks what a step is computed from, or has it in another form")
