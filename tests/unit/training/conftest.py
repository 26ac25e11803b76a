"""A tiny data set, a tiny network with everything that carries state, and a task that can stop a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pretext.artifacts import atomic
from pretext.artifacts.shards import Shard, Split, write_shard
from pretext.training.device import Compute
from pretext.training.pool import ImagePool

SIZE = 8
CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    """Thousands of small states are saved here; what a power cut would do to them is not asked."""
    monkeypatch.setattr(atomic.os, "fsync", lambda number: None)


@pytest.fixture(scope="session")
def split(tmp_path_factory):
    """60 images of 8 x 8: smooth ramps with noise, in three shards."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    ramp_HW = np.add.outer(np.arange(SIZE), np.arange(SIZE)) / (2 * SIZE - 2)
    shards, start = [], 0
    for number, count in enumerate((25, 5, 30)):
        slope_N3 = generator.random((count, 1, 1, 3))
        image = 255 * slope_N3 * ramp_HW[:, :, None] + generator.random((count, SIZE, SIZE, 3)) * 20
        rows = [(str(start + i), image[i].clip(0, 255).astype(np.uint8), None, ()) for i in range(count)]
        write_shard(folder / f"{number}.arrow", rows, image_size=SIZE)
        shards.append(Shard(folder / f"{number}.arrow"))
        start += count
    return Split(shards, SIZE)


@pytest.fixture
def make_pool(split):
    def make(count, *, start=0):
        return ImagePool(split.images, np.arange(start, start + count), device=torch.device("cpu"))

    return make


class TinyLearner:
    """Reconstructs augmented images; convolutions channels-last, batch norm, dropout, and noise from the generator."""

    def __init__(self, *, seed=0, dropout=0.2, noise=0.1, norm=True):
        torch.manual_seed(seed)
        self.noise = noise
        self.module = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(dropout), nn.Flatten(), nn.Linear(4 * 16, 3 * SIZE * SIZE),
        ).to(memory_format=torch.channels_last)  # fmt: skip
        self.seen = []

    def train_mode(self):
        self.module.train()

    def train_loss(self, batch, generator):
        assert self.module.training
        self.seen.append(batch.index_B.copy())
        return self.loss(batch.image_BHWC, self.noise * torch.randn(batch.image_BHWC.shape, generator=generator))

    def val_loss(self, batch):
        assert not self.module.training
        return self.loss(batch.image_BHWC, 0.0)

    def loss(self, image_BHWC, noise):
        image01_BHWC = image_BHWC.float() / 255
        output = self.module((image01_BHWC + noise).permute(0, 3, 1, 2)).reshape(image01_BHWC.shape)
        return (output - image01_BHWC).square().mean()


class StoppedError(Exception):
    """Stands for any sudden end."""


class CountingTask:
    """Counts steps of this process; calls `at_step` after each with their number.

    `resumed` is set where a state was there: the first report is then of the steps done before.
    """

    def __init__(self, at_step=None):
        self.steps, self.total, self.facts, self.at_step, self.resumed = 0, 0, [], at_step, False

    def advance(self, amount=1, **facts):
        self.total += amount
        self.facts.append(facts)
        if self.resumed:
            self.resumed = False
        elif amount:
            self.steps += 1
            if self.at_step is not None:
                self.at_step(self.steps)


def stop_after(number):
    """A task that ends the training suddenly in its `number`-th step, before that step's state is saved."""

    def at_step(step):
        if step == number:
            raise StoppedError

    return CountingTask(at_step)
