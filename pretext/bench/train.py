"""What training costs: the real loop beside bare steps on a batch at hand, and beside the loop that research code has."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.functional import to_tensor

from pretext.artifacts.shards import Shard, Split, write_shard
from pretext.bench.loss import convolved_pse
from pretext.bench.measure import Contender, Row, race
from pretext.catalog import ENCODERS
from pretext.losses import PSELoss
from pretext.objectives.autoencode import Autoencode, build_autoencode
from pretext.objectives.base import PretextLearner, Setting, View, plain_view
from pretext.progress import Silent
from pretext.training.device import Compute
from pretext.training.loop import LoopConfig, fit
from pretext.training.optim import build_optimizer
from pretext.training.pool import ImagePool
from pretext.training.seeds import make_generator
from pretext.training.state import copy_state

PART, UNIT = "train", "images"
SIZE, SECONDS = 96, 0.0
PSE: dict[str, Any] = {"sigma": 4.0, "truncate": 4.0, "padding": "symmetric"}
WIDTHS = {"cnn": 1.0, "resnet18": 0.25}
AUGMENTATION = "small"  # the default of autoencoding
IMAGES = {"cpu": 384, "cuda": 12_800}  # that each contender is trained on in a round
STEPS = {"cpu": {"cnn": 3, "resnet18": 6}, "cuda": {"cnn": 100, "resnet18": 100}}
PLAIN_BATCH = {"cpu": 32, "cuda": 128}  # a step in float32 takes seconds on two cores
PLAIN_STEPS = {"cpu": 3, "cuda": 100}
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}  # of a loss in that arithmetic


def measure(compute: Compute) -> Iterator[Row]:
    """Rows of the part `train`: autoencoders with PSE on drawn images, whole updates."""
    with tempfile.TemporaryDirectory() as name:
        images = draw_split(Path(name), IMAGES[compute.device.type])
        for encoder in WIDTHS:
            yield from _end_to_end(encoder, images, compute, Path(name))
        yield from _beside_plain("cnn", images, compute, Path(name))
    if compute.precision != "fp32":
        yield from _beside_fp32("cnn", compute)


def draw_split(folder: Path, count: int) -> Split:
    """Prepared images in one shard, each a slope between two random colours."""
    generator = np.random.default_rng(0)
    ramp_HW1 = np.add.outer(np.arange(SIZE), np.arange(SIZE))[:, :, None] / (2 * SIZE - 2)
    color_N23 = 255 * generator.random((count, 2, 3))
    rows = ((str(n), (a + (b - a) * ramp_HW1).astype(np.uint8), None, ()) for n, (a, b) in enumerate(color_N23))
    write_shard(folder / "images.arrow", rows, image_size=SIZE)
    return Split([Shard(folder / "images.arrow")], SIZE)


def build_task(encoder: str, compute: Compute) -> Autoencode:
    """The autoencoder as `pretrain` builds it, its weights the same in every call."""
    torch.manual_seed(0)
    row, width = ENCODERS[encoder], WIDTHS[encoder]
    task = build_autoencode(
        Setting(row.load()(image_size=SIZE, **{**row.reads, "width": width}), PSELoss(**PSE), width)
    )
    return task.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _end_to_end(encoder: str, images: Split, compute: Compute, folder: Path) -> list[Row]:
    pool = ImagePool(images.images, np.arange(len(images)), device=compute.device)
    steps = STEPS[compute.device.type][encoder]
    batch = len(pool) // steps
    task = build_task(encoder, compute)
    view = plain_view(next(pool.batches([np.arange(batch)])))
    return race(
        Contender(f"training of {_name(encoder, batch, compute)}", _fitting(task, pool, batch, compute, folder), steps * batch),
        Contender("forward, backward and update on one batch of floats on the device",
                  _bare(build_task(encoder, compute), view.input01_BCHW, steps, compute), steps * batch, 0.97),
        part=PART, unit=UNIT, device=compute.device, seconds=SECONDS, flops_each=flops(task, view),
        arithmetic=compute.precision, note=f"both build an optimiser and copy the weights once in {steps} steps; the first also "
        f"reads shards, augments ({AUGMENTATION}), clips and logs",
    )  # fmt: skip


def _fitting(
    task: Autoencode, pool: ImagePool, batch_size: int, compute: Compute, folder: Path
) -> Callable[[], object]:
    """The package's own training over all images, without validation."""
    config = LoopConfig(epochs=1, batch_size=batch_size, lr=1e-3, save_every=math.inf)
    learner = PretextLearner(task, AUGMENTATION)
    return lambda: fit(learner, pool, None, config, compute, folder=folder / "state", task=Silent())


def _bare(task: Autoencode, image01_BCHW: Tensor, steps: int, compute: Compute) -> Callable[[], object]:
    def run() -> None:
        optimizer = build_optimizer("adam", task.parameters(), lr=1e-3, weight_decay=0.0)
        for _ in range(steps):
            optimizer.zero_grad()
            with compute.autocast():
                loss = task.loss_of(View(image01_BCHW, make_generator(0, "unused")))
            loss.backward()
            optimizer.step()
        copy_state(task)
        copy_state(task)

    return run


def flops(task: Autoencode, view: View) -> float:
    """Multiplications and additions of a step, forward and backward, for each image."""
    few = 8
    with FlopCounterMode(display=False) as counter:
        task.loss_of(View(view.input01_BCHW[:few], view.generator)).backward()
    task.zero_grad()
    return counter.get_total_flops() / min(few, len(view.input01_BCHW))


class PlainImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's STL10 and CIFAR10 give them: a PIL image of every row, then a transform."""

    def __init__(self, image_NHWC: np.ndarray) -> None:
        self.image_NHWC = image_NHWC

    def __len__(self) -> int:
        return len(self.image_NHWC)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return to_tensor(Image.fromarray(self.image_NHWC[index])), -1


class PlainAutoencoder:
    """The loop of the research code: float32, separate planes, Adam as it comes, a number printed every step."""

    def __init__(self, task: Autoencode, device: torch.device) -> None:
        self.network = nn.Sequential(task.encoder, task.decoder).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.optimizer, self.device = torch.optim.Adam(self.network.parameters(), lr=1e-3), device
        self.last = math.nan

    def epoch(self, loader: DataLoader[Any]) -> None:
        for image, _ in loader:
            image = image.to(self.device)
            self.optimizer.zero_grad()
            loss = self.loss(image)
            loss.backward()
            self.optimizer.step()
            self.last = loss.item()

    def loss(self, image: Tensor) -> Tensor:
        return convolved_pse(self.network(image), image, **PSE)


def _beside_plain(encoder: str, images: Split, compute: Compute, folder: Path) -> list[Row]:
    batch, steps = PLAIN_BATCH[compute.device.type], PLAIN_STEPS[compute.device.type]
    pool = ImagePool(images.images, np.arange(batch * steps), device=compute.device)
    stored = images.images.read(np.arange(batch * steps))
    task, plain = build_task(encoder, compute), PlainAutoencoder(build_task(encoder, compute), compute.device)
    first = torch.stack([PlainImages(stored)[index][0] for index in range(batch)]).to(compute.device)
    _check_losses(task, plain, plain_view(next(pool.batches([np.arange(batch)]))), first, compute)
    loader = DataLoader(PlainImages(stored), batch, shuffle=True, num_workers=0 if compute.device.type == "cpu" else 4)
    return race(
        Contender(f"training, all told, of {_name(encoder, batch, compute)}", _fitting(task, pool, batch, compute, folder), batch * steps),
        Contender("data set of PIL images, DataLoader, fp32 and NCHW, PSE by convolutions, unfused Adam",
                  lambda: plain.epoch(loader), batch * steps),
        part=PART, unit=UNIT, device=compute.device, seconds=SECONDS,
        note="both in one process, which keeps freed memory" if compute.device.type == "cpu" else None,
    )  # fmt: skip


def _check_losses(task: Autoencode, plain: PlainAutoencoder, view: View, image: Tensor, compute: Compute) -> None:
    with torch.no_grad():
        with compute.autocast():
            own = float(task.loss_of(view))
        other = float(plain.loss(image))
    assert abs(own / other - 1) < TOLERANCE[compute.precision], (own, other)


def _beside_fp32(encoder: str, compute: Compute) -> list[Row]:
    batch = PLAIN_BATCH[compute.device.type]
    image = torch.rand(batch, 3, SIZE, SIZE, device=compute.device).to(memory_format=torch.channels_last)
    own, exact = (_bare(build_task(encoder, used), image, PLAIN_STEPS[compute.device.type], used)
                  for used in (compute, replace(compute, precision="fp32")))  # fmt: skip
    items = batch * PLAIN_STEPS[compute.device.type]
    return race(Contender(f"bare steps of {encoder} in {compute.precision}, batch {batch}", own, items),
                Contender("the same in fp32", exact, items), part=PART, unit=UNIT, device=compute.device, seconds=SECONDS)  # fmt: skip


def _name(encoder: str, batch: int, compute: Compute) -> str:
    width = "" if WIDTHS[encoder] == 1 else f" of width {WIDTHS[encoder]:g}"
    return f"autoencoder {encoder}{width}, PSE, {SIZE} px, batch {batch}, {compute.precision}"
