"""Its loops train the same network on the same images, and its rows are complete."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pretext.bench import train
from pretext.bench.train import PlainAutoencoder, PlainImages, build_task, draw_split, flops, measure
from pretext.objectives.base import View
from pretext.training.device import Compute
from pretext.training.optim import build_optimizer

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(train, "SIZE", 32)
    monkeypatch.setattr(train, "IMAGES", {"cpu": 8})
    monkeypatch.setattr(train, "WIDTHS", {"cnn": 0.25, "resnet18": 0.125})
    monkeypatch.setattr(train, "STEPS", {"cpu": {"cnn": 2, "resnet18": 2}})
    monkeypatch.setattr(train, "PLAIN_STEPS", {"cpu": 2})
    monkeypatch.setattr(train, "PLAIN_BATCH", {"cpu": 4})


def test_drawn_images_differ_and_come_back_from_their_shard(tmp_path):
    split = draw_split(tmp_path, 5)
    stored = split.images.read(np.arange(5))
    assert (stored.shape, stored.dtype) == ((5, 32, 32, 3), np.uint8)
    assert len(np.unique(stored.reshape(5, -1), axis=0)) == 5
    image, _ = PlainImages(stored)[3]
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), stored[3] / 255, rtol=1e-6)


def test_the_plain_loop_takes_the_steps_that_the_package_takes():
    image = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, task = PlainAutoencoder(build_task("cnn", CPU), CPU.device), build_task("cnn", CPU)
    optimizer = build_optimizer("adam", task.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(3):
        plain.epoch([(image, None)])
        optimizer.zero_grad()
        loss = task.loss_of(View(image, torch.Generator()))
        loss.backward()
        optimizer.step()
        assert plain.last == pytest.approx(float(loss.detach()), rel=1e-3)


def test_operations_are_those_of_the_layers():
    task = build_task("cnn", CPU)
    operations = []

    def count(layer, inputs, output):
        # A transposed convolution uses its kernel once for each input, the other layers once for each output.
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        operations.append(2 * layer.weight[0].numel() * places[0].numel())

    for layer in task.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(count)
    found = flops(task, View(torch.rand(8, 3, 32, 32), torch.Generator()))
    # Backward costs as much twice, but the images get no gradient; the loss adds a few products.
    assert found == pytest.approx(3 * sum(operations) - operations[0], rel=0.1)
    assert all(parameter.grad is None for parameter in task.parameters())


@pytest.mark.parametrize(("precision", "count"), [("fp32", 3), ("bf16", 4)])
def test_rows_are_complete_and_have_their_goals(precision, count):
    rows = list(measure(replace(CPU, precision=precision)))
    assert len({row.what for row in rows}) == len(rows) == count
    assert {row.part for row in rows} == {"train"}
    assert all(
        math.isfinite(value) and value > 0 for row in rows for value in (row.per_s, row.against_per_s, row.ratio)
    )
    assert [row.goal for row in rows] == [0.97, 0.97, *[None] * (count - 2)]
    assert [row.arithmetic for row in rows][:2] == [precision] * 2
    assert all(row.flops_each > 0 for row in rows[:2])
